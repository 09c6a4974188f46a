"""Run by tests in a process of its own: the attention studies against whole eager patterns.

    python -m validation.tests.studies.attention_forwards CHECKPOINT

In float64, so that two ways of computing the same differ by rounding only.
"""

import sys
from functools import partial

import torch
from transformer_lens import HookedTransformer

from validation.studies.frequencies import decompose, find_landmarks
from validation.studies.position_bias import (
    Needle,
    ask,
    divide_attention,
    divide_pattern,
    is_copied,
    octave_of,
    share_by_key,
)

assert_close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-12)
"""Float64 has 1e-16; kernels that sum in other orders leave 1e-14 after two layers."""

QUERIES = [600, 650, 700, 767]


def main(folder: str) -> None:
    """Raises AssertionError where a study's figure is not what whole patterns give."""
    model = HookedTransformer.from_pretrained_no_processing(
        folder, dtype=torch.float64, device="cpu", attn_implementation="sdpa"
    ).eval()
    tokens = torch.randint(model.cfg.d_vocab, (1, 768), generator=torch.manual_seed(0))
    check_division(model, tokens)
    check_decomposition(model, tokens)
    check_answers(model, tokens)


def whole(model: HookedTransformer, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Logits, and scores and patterns of all layers, [layer, head, query, key], eager."""
    model.cfg.attn_implementation = "eager"
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens)
    model.cfg.attn_implementation = "sdpa"
    layers = range(model.cfg.n_layers)
    scores, patterns = (
        torch.stack([cache[name, layer][0] for layer in layers])
        for name in ("attn_scores", "pattern")
    )
    return logits[0], scores, patterns


def check_division(model: HookedTransformer, tokens: torch.Tensor) -> None:
    """Shares add up to 1, and are the whole pattern's."""
    found = divide_attention(model, tokens, QUERIES)
    ones = torch.ones_like(found.first)
    assert_close(found.by_position.sum(-1), ones)
    assert_close(found.first + found.by_distance.sum(-1), ones)
    for layer, pattern in enumerate(whole(model, tokens)[2]):
        rows = pattern[:, QUERIES]
        first, by_distance, by_position = divide_pattern(rows, QUERIES)
        assert_close(found.first[layer], first)
        assert_close(found.by_distance[layer], by_distance)
        assert_close(found.by_position[layer], by_position)
        assert_close(found.by_key[layer], share_by_key(rows, QUERIES))


def check_decomposition(model: HookedTransformer, tokens: torch.Tensor) -> None:
    """Pairs add up to the landmark's score less the mean, of the whole scores."""
    found = decompose(model, tokens, QUERIES)
    assert found.landmarks == ("first token", "other sink", "previous token", "far look-up")
    assert found.residual < 1e-9 * found.spread, (found.residual, found.spread)
    for layer, scores in enumerate(whole(model, tokens)[1]):
        rows = scores[:, QUERIES]
        positions, attention = find_landmarks(rows, QUERIES)
        assert torch.equal(found.positions[:, layer], positions)
        assert_close(found.attention[:, layer], attention)
        at = rows.gather(-1, positions.permute(1, 2, 0)).permute(2, 0, 1)
        means = [rows[:, row, : query + 1].mean(-1) for row, query in enumerate(QUERIES)]
        expected = at - torch.stack(means, dim=-1)
        assert_close(found.selectivity[:, layer].sum(-1), expected)
    assert octave_of(torch.tensor(767)) == found.deviation.shape[3] - 1
    assert not found.deviation[:, :, :, :-1].eq(0).any(), "all octaves but the last are whole"


def check_answers(model: HookedTransformer, tokens: torch.Tensor) -> None:
    """An answer from the cache is the one of a forward of everything."""
    text = tokens[0, :640].tolist()
    passkey = tuple(text[200:206])
    rival = tuple(tokens[0, 640:646].tolist())
    needle = Needle(tuple(text), (198, 208), (1, 2, 3), passkey, (rival,))
    found = ask(model, needle)
    for answer, log_probabilities in ((passkey, found.log_probabilities), (rival, None)):
        everything = torch.tensor([[*text, *needle.question, *answer]])
        rows = list(range(640 + 3 - 1, 640 + 3 + 6 - 1))
        logits, _, patterns = whole(model, everything)
        expected = logits[rows].log_softmax(-1).gather(-1, torch.tensor(answer)[:, None])[:, 0]
        if log_probabilities is None:
            assert_close(found.of_rivals, expected.mean()[None])
            continue
        assert_close(log_probabilities, expected)
        produced = torch.tensor(passkey)
        copies = [
            is_copied(each[:, rows], everything[0, :640], produced, needle.needle)
            for each in patterns
        ]
        assert torch.equal(found.copies, torch.stack(copies))


if __name__ == "__main__":
    main(sys.argv[1])
