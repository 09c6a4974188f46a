"""Position bias: what is measured on patterns that are known, and what is said of it."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from transformer_lens_fork.errors import InputError
from validation.studies.page import Page
from validation.studies.position_bias import (
    DIGITS,
    divide_pattern,
    hide_needle,
    is_copied,
    octave_of,
    octave_ranges,
    share_by_key,
    spread_queries,
)
from validation.studies.position_bias_page import compose
from validation.studies.position_bias_study import CONTEXTS, DEPTHS, units
from validation.studies.records import StudyRecord
from validation.tests.conftest import command
from validation.tests.studies.made import make_record, run_in_fork

assert_close = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-15)
"""A few hundred numbers, summed in float64 in two orders."""


def causal_rows(queries: list[int], keys: int) -> torch.Tensor:
    """Rows of a random pattern, shape [head, row, key], in float64."""
    scores = torch.randn(3, len(queries), keys, generator=torch.manual_seed(1)).double()
    masked = torch.arange(keys) > torch.tensor(queries)[:, None]
    return scores.masked_fill(masked, -torch.inf).softmax(-1)


def test_octaves_hold_the_numbers_of_their_ranges() -> None:
    """Each number is in the range of its octave, and the ranges meet."""
    for positions in (1, 2, 3, 64, 100):
        ranges = octave_ranges(positions)
        found = octave_of(torch.arange(positions)).tolist()
        expected = [i for i, (start, stop) in enumerate(ranges) for _ in range(start, stop)]
        assert found == expected


def test_a_pattern_is_divided_by_distance_and_by_position() -> None:
    """Every share goes where one loop over keys puts it, and nothing is lost."""
    queries = [5, 40, 99]
    pattern = causal_rows(queries, 100)
    before = pattern.clone()
    first, by_distance, by_position = divide_pattern(pattern, queries)
    assert torch.equal(pattern, before), "a hook must not change what it is given"
    expected = torch.zeros(2, 3, 3, len(octave_ranges(100))).double()
    for row, query in enumerate(queries):
        for key in range(query + 1):
            expected[0, :, row, int(key).bit_length()] += pattern[:, row, key]
            if key:
                expected[1, :, row, int(query - key).bit_length()] += pattern[:, row, key]
    assert_close(by_position, expected[0])
    assert_close(by_distance, expected[1])
    assert_close(first, pattern[..., 0])
    assert_close(first + by_distance.sum(-1), torch.ones(3, 3).double())


def test_the_share_of_a_key_is_the_mean_of_those_who_see_it() -> None:
    """A key that only the last query sees has that query's share."""
    queries = [5, 40, 99]
    pattern = causal_rows(queries, 100)
    found = share_by_key(pattern, queries)
    assert_close(found[3], pattern[:, :, 3].mean())
    assert_close(found[99], pattern[:, 2, 99].mean())


def test_queries_are_spread_over_octaves_of_positions() -> None:
    """Each octave ends with a query, has no more than was asked for, and none is twice."""
    groups = spread_queries(4096, rows=32, least=512)
    assert [group[-1] for group in groups] == [1023, 2047, 4095]
    assert [group[0] for group in groups] == [512 + 15, 1024 + 31, 2048 + 63]
    assert {len(group) for group in groups} == {32}
    (only,) = spread_queries(300, rows=32, least=512)
    assert (only[-1], len(only)) == (299, 32)
    assert only[0] >= 150


@pytest.mark.parametrize(("favourite", "score"), [("right", 1), ("other digit", 0), ("outside", 0)])
def test_a_copier_scores_1_and_others_0(favourite: str, score: int) -> None:
    """Looking at the token to be said counts in the needle alone."""
    text = torch.tensor([7, 8, 9, 1, 2, 3, 4, 1, 2])
    produced = text[4:7]
    needle = (3, 7)
    at = {"right": [4, 5, 6], "other digit": [5, 6, 4], "outside": [8, 0, 11]}[favourite]
    pattern = torch.full((2, 3, 12), 0.01)
    for row, key in enumerate(at):
        pattern[0, row, key] = 0.9
    pattern[1] = torch.linspace(0, 1, 12)  # a head that looks at the question
    found = is_copied(pattern, text, produced, needle).double()
    assert found.mean(-1).tolist() == [score, 0]


def test_a_needle_is_hidden_where_it_is_wanted() -> None:
    """As long as asked for, in the text's own tokens, with digits that are all different."""
    text = list(range(1000, 1900))
    for depth in (0.0, 0.5, 1.0):
        needle = hide_needle(lambda part: list(map(ord, part)), text, 400, depth, (0, 1))
        start, stop = needle.needle
        assert len(needle.text) + len(needle.question) + len(needle.passkey) == 400
        around = [*needle.text[:start], *needle.text[stop:]]
        assert around == text[: len(around)]
        assert start == round(depth * len(around))
        sentence = "".join(map(chr, needle.text[start:stop]))
        assert f" {''.join(map(chr, needle.passkey))}." in sentence
        assert len(set(needle.passkey)) == len(needle.passkey) == DIGITS
        assert needle.passkey not in needle.rivals
    again, other = (
        hide_needle(lambda part: list(map(ord, part)), text, 400, 0.5, seed).passkey
        for seed in ((0, 1), (0, 2))
    )
    assert again == needle.passkey
    assert other != needle.passkey
    with pytest.raises(ValueError, match="60 tokens are too few"):
        hide_needle(lambda part: list(map(ord, part)), text, 60, 0.5, (0,))


def test_figures_are_those_of_whole_patterns(checkpoint: Path, fork: Path) -> None:
    """Rows, answers from the cache, and pairs, on a tiny model against its eager patterns."""
    run_in_fork(fork, "validation.tests.studies.attention_forwards", checkpoint)


def needles(gain_of_length: dict[int, float], copying: tuple[int, ...]) -> list[StudyRecord]:
    """A passkey at every length, depth and seed; each seed has the same copying heads of 8."""
    found = []
    for seed in (0, 1):
        for length, gain in gain_of_length.items():
            for index, depth in enumerate(DEPTHS):
                copies = np.zeros((2, 4), dtype=int)
                for head in copying:
                    copies[divmod(head, 4)] = 4
                values: dict[str, object] = {
                    "log_probabilities_nats": [-1.0 + gain + 0.01 * index + 0.001 * seed] * 8,
                    "log_probability_of_rivals_nats": [-1.0, -1.0],
                    "copied_tokens_of_heads": copies.tolist(),
                    "needle_position": 3,
                }
                unit = {"part": "needle", "length": length, "depth": depth, "seed": seed}
                found.append(make_record("position-bias", unit, values))
    return found


def attention(first_early: float, first_late: float) -> list[StudyRecord]:
    """Two groups of queries of 4k tokens; the rest of attention is at one distance."""
    groups = [range(1024 + 31, 2048, 32), range(2048 + 63, 4096, 64)]
    octaves = octave_ranges(4096)
    noise = 0.001 * np.cos(np.arange(64))
    first = np.repeat([first_early, first_late], 32) + noise
    by_distance = np.zeros((64, len(octaves)))
    by_distance[:, 2] = 1 - first
    by_position = by_distance.copy()
    by_position[:, 0] = first
    heads = [[[share] * 4] * 2 for share in (first_early, first_late)]
    values: dict[str, object] = {
        "octaves": [list(each) for each in octaves],
        "groups": [[group.start, group.stop, group.step] for group in groups],
        "first_of_rows": first.tolist(),
        "by_distance_of_rows": by_distance.tolist(),
        "by_position_of_rows": by_position.tolist(),
        "first_of_heads_by_group": heads,
        "first_by_layer": [first_late, 0.1],
        "other_sink_by_layer": [0.2, 0.3],
        "other_sink_positions": [61, 61],
        "other_sink_tokens": ["\n", "\n"],
        "largest_error_of_sum": 1e-12,
    }
    units = [{"part": "attention", "context": 4096, "seed": seed} for seed in (0, 1)]
    return [make_record("position-bias", unit, values) for unit in units]


def texts(page: Page) -> str:
    """All findings."""
    return "\n".join(page.findings)


def test_what_is_said_follows_the_figures_up() -> None:
    """More for the first token and for longer texts, heads that copy, and another sink."""
    found = texts(compose(needles({1024: 0.5, 4096: 2.0}, (1, 6)) + attention(0.2, 0.7)))
    assert "Queries 2k to 4k give the first token 0.7" in found
    assert "8 heads give it more than half" in found
    assert "That is higher than what queries 1k to 2k give it, 0.2" in found
    assert "the seeds agree within their uncertainty" in found
    assert "In 4k tokens of text the passkey's tokens gain 2.0" in found
    assert "the text makes them likelier. That is higher than in 1k tokens, 0.5" in found
    assert "2 and 2 of 8 heads have a copy score of 0.1 or more" in found
    assert "share 2 heads (0.5 would by chance): L0H1, L1H2" in found
    assert "score 0.5 [0.5, 0.5] in the other seeds' texts, where all heads score 0.125" in found
    # The gain rises with depth: of two ends that differ one must not stand for both.
    assert "beside the depths between, the gain is at 5% lower by" in found
    assert "nats and at 95% higher by" in found
    assert "position 61, '\\n': in 2 of 2 layers, in 1 of them with more than" in found
    assert "most in layer 1, 0.3" in found


def test_what_is_said_follows_the_figures_down() -> None:
    """Less for both, a text that misleads, and no head that copies."""
    found = texts(compose(needles({1024: 0.5, 4096: -2.0}, ()) + attention(0.7, 0.2)))
    assert "0 heads give it more than half. That is lower than what queries 1k to 2k" in found
    assert "the text makes them less likely. That is lower than in 1k tokens" in found
    assert "0 and 0 of 8 heads have a copy score of 0.1 or more" in found
    assert "95% has the highest gain" in found
    same = texts(compose(needles({1024: 0.5, 4096: 0.5}, ()) + attention(0.5, 0.5)))
    assert same.count("That is no different, within the uncertainty, from") == 2


def test_a_page_of_one_part_is_written() -> None:
    """Without the other one's findings, tables, and plots."""
    only_needles = compose(needles({1024: 0.5}, (1,)))
    assert [picture.name for picture in only_needles.pictures] == ["needle"]
    only_attention = compose(attention(0.2, 0.7))
    assert [picture.name for picture in only_attention.pictures] == ["attention"]
    assert len(only_attention.tables) == 1


def test_the_longest_of_several_contexts_has_no_passkeys() -> None:
    """It is for attention; one that is alone is for both, and one too short is refused."""
    found = units(CONTEXTS, (0, 1))
    assert {unit["length"] for unit in found if unit["part"] == "needle"} == set(CONTEXTS[:-1])
    assert {unit["context"] for unit in found if unit["part"] == "attention"} == {CONTEXTS[-1]}
    assert len(units((512,), (0,))) == len(DEPTHS) + 1
    with pytest.raises(InputError, match="128 is too short for a passkey"):
        units((128, 512), (0,))


def test_a_study_writes_its_page(tmp_path: Path) -> None:
    """Two layers of real weights."""
    arguments = ("study", "position-bias", "--layers", 2, "--contexts", 512, "--seeds", 1)
    process = command(*arguments, "--out", tmp_path)
    assert process.returncode == 0, process.stdout + process.stderr
    assert (tmp_path / "study.jsonl").read_bytes().count(b"\n") == len(DEPTHS) + 1
    page = (tmp_path / "study.md").read_text(encoding="utf-8")
    assert "the first token" in page
    assert " nan" not in page
    assert {"study.html", "attention.png", "needle.png", "heads.png"} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_a_checkpoint_without_words_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """In one sentence: there is nothing to ask it in."""
    arguments = ("--checkpoint", checkpoint, "--contexts", 512, "--out", tmp_path)
    process = command("study", "position-bias", *arguments)
    assert process.returncode == 2, process.stdout + process.stderr
    assert "has no tokenizer; this study asks questions in words" in process.stderr
    assert "Traceback" not in process.stderr
