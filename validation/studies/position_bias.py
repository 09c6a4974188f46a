"""Where attention goes by distance and by position, and which heads look a passkey up.

Plain PyTorch and TransformerLens, to be copied: patterns of chosen queries only, each layer's
reduced in its hook. Shapes: `layer`, `head`, `row` (a query), `key`, `octave` (see `octave_of`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer, TransformerLensKeyValueCache

DIGITS = 8
"""Of a passkey, each another one: where a digit was copied from is then no question."""

RIVALS = 3
"""Passkeys that are not in the text, whose log-probability is subtracted."""

NEEDLE = ("\n\nThe passkey is ", ". Remember it: it is the passkey.\n\n")
QUESTION = "\n\nWhat is the passkey? The passkey is "


@dataclass(frozen=True)
class Attention:
    """How the attention of some queries is divided; of each query all of it adds up to 1.

    Attributes:
        queries: their positions, ascending.
        first: share of the first token.
        by_distance: shares of all other tokens by octave of their distance; with `first`, 1.
        by_position: shares by octave of the keys' position; octave 0 is the first token, again.
        by_key: share of each key, mean of heads and of those queries that see it.
    """

    queries: tuple[int, ...]
    first: Float[Tensor, "layer head row"]
    by_distance: Float[Tensor, "layer head row octave"]
    by_position: Float[Tensor, "layer head row octave"]
    by_key: Float[Tensor, "layer key"]


@dataclass(frozen=True)
class Needle:
    """A text with a passkey in it, and a question about it.

    Attributes:
        text: ids of the text, with the needle.
        needle: where the needle's sentence begins and ends in it.
        question: ids that follow the text.
        passkey: ids of the passkey, in the text and as the right answer.
        rivals: ids of other passkeys, of as many digits.
    """

    text: tuple[int, ...]
    needle: tuple[int, int]
    question: tuple[int, ...]
    passkey: tuple[int, ...]
    rivals: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Answer:
    """What a model makes of a needle.

    Attributes:
        log_probabilities: of the passkey's tokens, each after the ones before it, in nats.
        of_rivals: the mean of each rival's tokens, in the same place.
        copies: whether the head looks at the token that is to be said next (`is_copied`).
    """

    log_probabilities: Float[Tensor, "token"]
    of_rivals: Float[Tensor, "rival"]
    copies: Bool[Tensor, "layer head token"]


def octave_of(numbers: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Which octave a number is in: 0 of 0, 1 of 1, 2 of 2 and 3, 3 of 4 to 7, and so on."""
    exponents: Tensor = torch.frexp(numbers.double()).exponent
    return exponents.long()


def octave_ranges(positions: int) -> list[tuple[int, int]]:
    """The numbers of each octave below `positions`, the end excluded: (0, 1), (1, 2), (2, 4)."""
    edges = [0, *(2**power for power in range((positions - 1).bit_length())), positions]
    return list(pairwise(edges))


def divide_pattern(
    pattern: Float[Tensor, "head row key"], queries: Sequence[int]
) -> tuple[
    Float[Tensor, "head row"],
    Float[Tensor, "head row octave"],
    Float[Tensor, "head row octave"],
]:
    """Sums rows of a pattern by octaves, in float64.

    Args:
        pattern: rows of one layer's pattern, with all keys.
        queries: their positions.

    Returns:
        `first`, `by_distance` and `by_position` of `Attention`, of one layer.
    """
    shares = pattern.to(torch.float64, copy=True)
    keys = torch.arange(shares.shape[-1], device=shares.device)
    # Keys after the query are masked: they have no share that could be counted at distance 0.
    distances = (torch.tensor(queries, device=shares.device)[:, None] - keys).clamp(min=0)
    empty = shares.new_zeros(*shares.shape[:2], len(octave_ranges(len(keys))))
    by_position = empty.scatter_add(-1, octave_of(keys).expand_as(shares), shares)
    first = shares[..., 0].clone()
    shares[..., 0] = 0
    by_distance = empty.scatter_add(-1, octave_of(distances).expand_as(shares), shares)
    return first, by_distance, by_position


def share_by_key(
    pattern: Float[Tensor, "head row key"], queries: Sequence[int]
) -> Float[Tensor, "key"]:
    """What each key gets, mean of heads and of those queries that see it, in float64."""
    keys = torch.arange(pattern.shape[-1], device=pattern.device)
    n_seeing = (torch.tensor(queries, device=pattern.device)[:, None] >= keys).sum(0)
    shares: Tensor = pattern.double().mean(0).sum(0) / n_seeing.clamp(min=1)
    return shares


def divide_attention(
    model: "HookedTransformer", tokens: Int[Tensor, "1 pos"], queries: Sequence[int]
) -> Attention:
    """How the attention of every head is divided, at some queries, in one forward.

    Args:
        model: with `attn_implementation="sdpa"`.
        tokens: the text.
        queries: positions, ascending; memory grows with their number times the text's length.
    """
    parts: dict[int, tuple[Tensor, ...]] = {}

    def divide(pattern: Float[Tensor, "1 head row key"], hook: Any) -> None:
        divided = (*divide_pattern(pattern[0], queries), share_by_key(pattern[0], queries))
        parts[hook.layer()] = tuple(part.cpu() for part in divided)

    with (
        torch.no_grad(),
        model.attention_rows(list(queries)),
        model.hooks(fwd_hooks=[(_is_pattern, divide)]),
    ):
        model(tokens, stop_at_layer=model.cfg.n_layers)
    of_layers = zip(*(parts[layer] for layer in sorted(parts)), strict=True)
    return Attention(tuple(queries), *(torch.stack(each) for each in of_layers))


def spread_queries(context: int, rows: int, least: int) -> list[range]:
    """Evenly spaced queries in each octave of positions, counted down from the context.

    Args:
        context: tokens of the text.
        rows: in each octave, at most.
        least: no octave starts before it, but for the only one.

    Returns:
        For each octave its queries, the last of them at its end.
    """
    found: list[range] = []
    stop = context
    while not found or stop // 2 >= least:
        start = stop // 2
        step = max(1, (stop - start) // rows)
        found.append(range(stop - 1, start - 1, -step)[:rows][::-1])
        stop = start
    return found[::-1]


def hide_needle(
    encode: Callable[[str], list[int]],
    text: Sequence[int],
    length: int,
    depth: float,
    seed: Sequence[int],
) -> Needle:
    """Puts a sentence with a random passkey into a text.

    Args:
        encode: the tokenizer, without special tokens.
        text: ids of the text to hide it in, at least `length`.
        length: tokens of everything, question and answer included.
        depth: where the sentence is: 0 at the beginning of the text, 1 at its end.
        seed: of the passkeys, one number or several.

    Raises:
        ValueError: the length is too short for the needle and its question.
    """
    rng = np.random.default_rng(seed)
    passkeys = ["".join(map(str, rng.permutation(10)[:DIGITS])) for _ in range(1 + RIVALS)]
    passkey, *rivals = (tuple(encode(digits)) for digits in passkeys)
    before, after = (encode(part) for part in NEEDLE)
    question = tuple(encode(QUESTION))
    needle = [*before, *passkey, *after]
    room = length - len(needle) - len(question) - len(passkey)
    if room < 1:
        raise ValueError(f"{length} tokens are too few for a needle and its question")
    start = round(depth * room)
    hidden = (*text[:start], *needle, *text[start:room])
    return Needle(hidden, (start, start + len(needle)), question, passkey, tuple(rivals))


def is_copied(
    pattern: Float[Tensor, "head row key"],
    tokens: Int[Tensor, "key"],
    produced: Int[Tensor, "row"],
    needle: tuple[int, int],
) -> Bool[Tensor, "head row"]:
    """Whether a head's most attended token is in the needle, and is the one produced.

    Its mean over rows is the retrieval score of Wu et al. 2024 ("Retrieval Head Mechanistically
    Explains Long-Context Factuality", arXiv 2404.15574, section 2), there for tokens that the
    model generates; here any tokens may be given, such as those of the right answer.

    Args:
        pattern: rows of the queries that produce them.
        tokens: ids of the keys; a pattern may have more keys than these, after them.
        produced: the id that is produced at each row.
        needle: where the needle begins and ends among the keys.
    """
    favourite = pattern.argmax(-1)
    start, stop = needle
    is_inside = (favourite >= start) & (favourite < stop)
    # The clamp is for those outside, which do not count.
    return is_inside & (tokens[favourite.clamp(max=stop - 1)] == produced)


def ask(model: "HookedTransformer", needle: Needle) -> Answer:
    """What a model answers: the text is read once, each answer after it from the KV cache.

    Args:
        model: with `attn_implementation="sdpa"`.
        needle: text, question, and answers.
    """
    from transformer_lens import TransformerLensKeyValueCache

    device = model.cfg.device
    text = torch.tensor([needle.text], device=device)
    cache = TransformerLensKeyValueCache.init_cache(model.cfg, device, batch_size=1)
    copies: dict[int, Tensor] = {}

    def look(pattern: Float[Tensor, "1 head row key"], hook: Any) -> None:
        produced = torch.tensor(needle.passkey, device=pattern.device)
        copies[hook.layer()] = is_copied(pattern[0], text[0], produced, needle.needle).cpu()

    # The queries that produce an answer's tokens, by position in the tail.
    queries = [len(needle.question) - 1 + i for i in range(len(needle.passkey))]
    with torch.no_grad():
        model(
            text,
            past_kv_cache=cache,
            attention_mask=torch.ones_like(text),
            stop_at_layer=model.cfg.n_layers,
        )
        cache.freeze()  # every answer follows the same text
        with model.attention_rows(queries), model.hooks(fwd_hooks=[(_is_pattern, look)]):
            right = _log_probabilities(model, cache, needle.question, needle.passkey)
        rivals = [
            _log_probabilities(model, cache, needle.question, rival).mean()
            for rival in needle.rivals
        ]
    heads = torch.stack([copies[layer] for layer in sorted(copies)])
    return Answer(right, torch.stack(rivals), heads)


def _log_probabilities(
    model: "HookedTransformer",
    cache: "TransformerLensKeyValueCache",
    question: tuple[int, ...],
    answer: tuple[int, ...],
) -> Float[Tensor, "token"]:
    """Of an answer's tokens after text and question, teacher-forced, in nats."""
    tail = torch.tensor([[*question, *answer]], device=model.cfg.device)
    residual = model(
        tail,
        past_kv_cache=cache,
        attention_mask=torch.ones_like(tail),
        stop_at_layer=model.cfg.n_layers,
    )
    loss: Tensor = model.loss_from_residual(residual, tail, per_token=True)
    return -loss[0, -len(answer) :].double().cpu()


def _is_pattern(name: str) -> bool:
    return name.endswith("attn.hook_pattern")
