"""What probes write is read back as it was, and what is missing is seen to be."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from validation.execution.probe_files import (
    CHUNKS,
    POSITIONS,
    WHOLE,
    PaddedBatch,
    ProbeFiles,
    chunk_edges,
    prompt_parts,
    same_bits,
)


def test_round_trip(tmp_path: Path) -> None:
    """Rows, shapes and notes; a range may reach over the end."""
    files = ProbeFiles.of_subject(tmp_path)
    numbers = torch.arange(12, dtype=torch.bfloat16).reshape(4, 3)
    files.write("rope", {"cos": numbers.T.contiguous().T, "sin": -numbers}, trouble="none")
    assert files.shapes("rope") == {"cos": (4, 3), "sin": (4, 3)}
    assert files.note("rope", "trouble") == "none"
    assert torch.equal(files.rows("rope", "sin"), -numbers)
    assert torch.equal(files.rows("rope", "cos", range(2, 9)), numbers[2:])


def test_missing_tensors(tmp_path: Path) -> None:
    """The reference must have them, a subject may not; an earlier subject's are removed."""
    files = ProbeFiles.of_subject(tmp_path)
    assert files.shapes("rope") == {}
    assert files.note("rope", "trouble") is None
    assert len(files.rows_if_any("rope", "cos", range(3))) == 0
    with pytest.raises(KeyError, match="has no cos"):
        files.rows("rope", "cos")
    files.write("rope", {"cos": torch.ones(2, 2)})
    files.clear()
    assert files.shapes("rope") == {}


def test_tensors_that_share_memory(tmp_path: Path) -> None:
    """A tree may use one table for both."""
    table = torch.ones(2, 2)
    files = ProbeFiles.of_subject(tmp_path)
    files.write("rope", {"cos": table, "sin": table})
    assert torch.equal(files.rows("rope", "sin"), table)


@pytest.mark.parametrize("positions", [1, 64, 1000, 2048, 2049, POSITIONS])
def test_chunks_cover_all_positions(positions: int) -> None:
    """Without gap or overlap; the long ones cross 2048, where tables grow."""
    edges = chunk_edges(positions)
    assert edges[0] == 0
    assert edges[-1] == positions
    assert all(start < stop for start, stop in pairwise(edges))
    if positions > 2500:
        assert any(start < 2048 < stop for start, stop in pairwise(edges))


@pytest.mark.parametrize("tokens", [2, 3, 64, 1024])
def test_parts_of_a_prompt(tokens: int) -> None:
    """The whole, and two chunks of different length."""
    parts = prompt_parts(tokens)
    first, second = (parts[name] for name in CHUNKS)
    assert parts[WHOLE] == range(tokens)
    assert [*first, *second] == list(range(tokens))
    assert tokens == 2 or len(first) != len(second)
    assert prompt_parts(1) == {WHOLE: range(1)}


@pytest.mark.parametrize("length", [3, 64, 1024])
def test_a_padded_batch(length: int) -> None:
    """Both rows begin with the prompt's first token, after unlike numbers of pads."""
    tokens = torch.arange(5, 5 + length)[None]
    batch = PaddedBatch.of(tokens)
    slots = min(length, 256)
    assert batch.tokens.shape == batch.mask.shape == batch.position_ids.shape == (2, slots)
    assert batch.pads[0] != batch.pads[1]
    for row, pads in enumerate(batch.pads):
        assert torch.equal(batch.tokens[row, pads:], tokens[0, : slots - pads])
        assert batch.mask[row].tolist() == [0] * pads + [1] * (slots - pads)
        assert batch.position_ids[row, pads:].tolist() == list(range(slots - pads))


class _OnAnother(torch.Tensor):
    """Stands for a tensor of a second GPU: torch.equal refuses it beside one of the first."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Another than where the numbers are."""
        return torch.device("cuda:1")

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """As torch does it, but for what depends on the device."""
        if func is torch.Tensor.cpu:
            return args[0].as_subclass(torch.Tensor)
        if func is torch.equal and {type(each) for each in args} != {cls}:
            raise RuntimeError("Expected all tensors to be on the same device")
        # torch has no types for it.
        ours = super().__torch_function__
        return ours(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]


def test_same_bits_of_two_devices() -> None:
    """As of layers that are spread over GPUs."""
    numbers = torch.arange(4.0)
    elsewhere = numbers.as_subclass(_OnAnother)
    assert same_bits(elsewhere, numbers)
    assert same_bits(numbers, elsewhere)
    assert not same_bits(elsewhere, -numbers)


def test_same_bits() -> None:
    """Neither the sign of zero nor the type is overlooked."""
    zeros = torch.zeros(2, 2)
    assert same_bits(zeros, zeros.clone())
    assert not same_bits(zeros, -zeros)
    assert not same_bits(zeros, zeros.half())
    assert not same_bits(zeros, zeros[:1])
