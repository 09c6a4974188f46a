"""Other ways of running the same tokens: in chunks, one by one, in a batch, with padding.

Each moves the fork's logits exactly as it moves Hugging Face's: both are bit-identical before and
after. And it moves them by rounding alone, where a mistake that both shared would show.
"""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from validation.rope.catalogue import find_fault
from validation.rope.faults import ATTENTION, Fault
from validation.tests.properties.pair import (
    Pair,
    planted,
    random_tokens,
    refutations,
)

ROUNDING = {torch.float32: 2e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}
"""What other orders of sums may move of logits of 0.14 (RMS): two to four times what they did."""

LONG = 2100
"""Tokens, beyond the 2048 rows that a new model's tables have."""


def _dtype(pair: Pair) -> torch.dtype:
    dtype: torch.dtype = pair.ours.cfg.dtype
    return dtype


def chunks_refute(pair: Pair, length: int, sizes: list[int]) -> list[str]:
    """What contradicts chunked prefill = whole prefill."""
    tokens = random_tokens(1, length)
    return refutations(pair.in_chunks(tokens, sizes), pair.whole(tokens), ROUNDING[_dtype(pair)])


def decoding_refutes(pair: Pair, prefilled: int, length: int) -> list[str]:
    """What contradicts decoding token by token after a prefill = one prefill of them all."""
    steps = [1] * (length - prefilled)
    return chunks_refute(pair, length, [prefilled, *steps] if prefilled else steps)


def batch_refutes(pair: Pair, rows: int, length: int) -> list[str]:
    """What contradicts a row of a batch = a batch of that row."""
    tokens = random_tokens(rows, length)
    together = pair.whole(tokens)
    return [
        problem
        for row in range(rows)
        for problem in refutations(
            together[row : row + 1],
            pair.whole(tokens[row : row + 1]),
            ROUNDING[_dtype(pair)],
        )
    ]


def padding_refutes(pair: Pair, length: int, pads: list[int], sizes: list[int]) -> list[str]:
    """What contradicts a row padded on the left = that row alone.

    Args:
        pair: both models.
        length: tokens of a row, padding included.
        pads: of each row.
        sizes: of chunks through the caches; without them, one forward.
    """
    tokens = random_tokens(len(pads), length)
    mask = (torch.arange(length) >= torch.tensor(pads)[:, None]).long()
    padded = pair.in_chunks(tokens, sizes, mask) if sizes else pair.padded(tokens, mask)
    found = []
    for row, pad in enumerate(pads):
        alone = pair.whole(tokens[row : row + 1, pad:])
        kept = padded[row : row + 1, pad:]
        found += refutations(kept, alone, ROUNDING[_dtype(pair)])
    return found


@settings(max_examples=8, deadline=None, derandomize=True)
@given(edges=st.sets(st.integers(1, 199), max_size=6))
def test_chunked_prefill_is_whole_prefill(tree: Path, saved: Path, edges: set[int]) -> None:
    """Wherever the chunks end, of one token too."""
    cuts = [0, *sorted(edges), 200]
    sizes = [stop - start for start, stop in pairwise(cuts)]
    pair = Pair.load(saved, torch.float32)
    assert not chunks_refute(pair, 200, sizes)


def test_chunked_prefill_where_tables_grow(pair: Pair) -> None:
    """Chunks that end before, at and beyond the 2048th token."""
    assert not chunks_refute(pair, LONG, [1000, 1047, 1, LONG - 2048])


def test_decoding_is_prefill(pair: Pair) -> None:
    """Token by token from the first one on."""
    assert not decoding_refutes(pair, 0, 40)


def test_decoding_where_tables_grow(pair: Pair) -> None:
    """Token by token across the 2048th."""
    assert not decoding_refutes(pair, 2044, 2052)


BATCHED = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)


@BATCHED
def test_a_batch_of_one_is_a_row_of_a_batch(tree: Path, saved: Path, dtype: torch.dtype) -> None:
    """Each of three rows."""
    assert not batch_refutes(Pair.load(saved, dtype), 3, 200)


def test_a_batch_is_decoded_as_transformers_do(tree: Path, saved: Path) -> None:
    """Token by token, the rows of a batch at once, padded on the left."""
    pair = Pair.load(saved, torch.float32)
    assert not padding_refutes(pair, 24, [0, 5, 20], [1] * 24)


@BATCHED
@pytest.mark.parametrize("sizes", [[], [90, 10]], ids=["whole", "chunked"])
def test_a_padded_row_is_the_row(
    tree: Path, saved: Path, dtype: torch.dtype, sizes: list[int]
) -> None:
    """Without padding, with much, and with all but one token of it."""
    assert not padding_refutes(Pair.load(saved, dtype), 100, [0, 61, 99], sizes)


@pytest.mark.parametrize("sizes", [[], [1300, 760, 40]], ids=["whole", "chunked"])
def test_padding_beyond_the_first_table(tree: Path, saved: Path, sizes: list[int]) -> None:
    """2060 tokens of padding: rows of the tables and of the caches are far apart."""
    pair = Pair.load(saved, torch.float32)
    assert not padding_refutes(pair, LONG, [2060, 0], sizes)


_LATE_ROWS = Fault(
    "rows-in-turn",
    "Row n of a batch is n positions late.",
    (
        (
            "self.apply_rotary(q, kv_cache_pos_offset, attention_mask)",
            "torch.cat([self.apply_rotary(row[None], n) for n, row in enumerate(q)])",
        ),
    ),
    ATTENTION,
)


@pytest.mark.parametrize(
    "name",
    [
        "chunk-offset-lost",
        "chunk-offset-off-by-one",
        "keys-at-the-chunk-offset",
        "newest-keys-alone-rotated",
        "cached-keys-rotated-again",
    ],
)
def test_chunks_and_decoding_catch_mistakes(name: str, tree: Path, saved: Path) -> None:
    """Whole prefill is as HF's, chunks and single tokens are not: the properties alone see it."""
    with planted(find_fault(name), tree, saved, torch.float32) as pair:
        for problems in (chunks_refute(pair, 60, [40, 20]), decoding_refutes(pair, 0, 20)):
            assert [problem.partition(":")[0] for problem in problems] == ["transformed", "moved"]


def test_chunks_catch_a_wrong_mask(tree: Path, saved: Path) -> None:
    """A single token has no next one to attend to, a chunk of several has."""
    fault = find_fault("chunk-mask-admits-next")
    with planted(fault, tree, saved, torch.float32) as pair:
        assert chunks_refute(pair, 60, [40, 20])[0].startswith("transformed")
        assert not decoding_refutes(pair, 0, 20)


@pytest.mark.parametrize("name", ["growth-ignores-the-offset", "offset-lost-after-growth"])
def test_growth_catches_mistakes(name: str, tree: Path, saved: Path) -> None:
    """Right up to the 2048th token, wrong when decoding goes beyond."""
    with planted(find_fault(name), tree, saved, torch.float32) as pair:
        assert not decoding_refutes(pair, 0, 20)
        with_rows_missing = pytest.raises((IndexError, RuntimeError))
        if name == "growth-ignores-the-offset":
            with with_rows_missing:
                decoding_refutes(pair, 2044, 2052)
        else:
            assert decoding_refutes(pair, 2044, 2052)[0].startswith("transformed")


def test_batches_catch_mistakes(tree: Path, saved: Path) -> None:
    """A row that depends on its place is as HF's in a batch of its own, and not in one of three."""
    with planted(_LATE_ROWS, tree, saved, torch.float32) as pair:
        problems = batch_refutes(pair, 3, 50)
    assert [problem.partition(":")[0] for problem in problems] == ["transformed", "moved"] * 2


@pytest.mark.parametrize(
    "name", ["padding-counted", "padding-counted-for-keys", "padding-of-the-first-row"]
)
def test_padding_catches_mistakes(name: str, tree: Path, saved: Path) -> None:
    """Rows alone are as HF's, padded ones are not."""
    with planted(find_fault(name), tree, saved, torch.float32) as pair:
        for sizes in ([], [40, 10]):
            problems = padding_refutes(pair, 50, [0, 30], sizes)
            assert problems
            assert problems[0].startswith("transformed")
