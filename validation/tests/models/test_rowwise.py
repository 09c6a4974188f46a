"""Eager attention of some queries at a time is eager attention."""

from pathlib import Path

import pytest
import torch

from validation.execution.floors import eager_by_rows
from validation.models.reference import EAGER, final_hidden, load_reference
from validation.models.rowwise import eager_in_rows


@pytest.mark.parametrize("rows", [1, 7, 64, 100, 1000])
def test_rows_are_those_of_eager_attention(checkpoint: Path, rows: int) -> None:
    """Of grouped heads, whether the rows divide the prompt or not; at the rounding of float32."""
    model = load_reference(checkpoint, torch.float32, "cpu")
    tokens = torch.randint(320, (1, 100), generator=torch.Generator().manual_seed(0))
    eager = final_hidden(model, tokens, EAGER, lambda *_: None)
    found = final_hidden(model, tokens, eager_in_rows(rows), lambda *_: None)
    torch.testing.assert_close(found, eager, rtol=1e-4, atol=1e-4)


def test_all_tokens_go_through_each_layer_once(checkpoint: Path) -> None:
    """A layer's weights may be lent: each more forward would fetch them again."""
    model = load_reference(checkpoint, torch.float32, "cpu")
    done: list[int] = []
    tokens = torch.zeros(1, 100, dtype=torch.int64)
    final_hidden(model, tokens, eager_in_rows(8), lambda layer, _: done.append(layer))
    assert done == [0, 1, 2]


def test_what_it_is_not_for_is_refused(checkpoint: Path) -> None:
    """A prompt in chunks has keys of earlier ones."""
    model = load_reference(checkpoint, torch.float32, "cpu")
    tokens = torch.zeros(1, 100, dtype=torch.int64)
    with pytest.raises(ValueError, match="whole prompts without a mask"):
        final_hidden(model, tokens, eager_in_rows(8), lambda *_: None, prefill=50)


def test_fewer_rows_where_so_many_do_not_fit(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The floor backs off, as the device says that it has no room; another error is not hidden."""
    model = load_reference(checkpoint, torch.float32, "cpu")
    tokens = torch.zeros(1, 100, dtype=torch.int64)
    tried: list[int] = []

    def name(rows: int) -> str:
        tried.append(rows)
        if rows > 50:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return eager_in_rows(rows)

    monkeypatch.setattr("validation.execution.floors.eager_in_rows", name)
    found = eager_by_rows(model, tokens, 64, lambda *_: None)
    assert tried == [64, 57, 51, 45]
    assert torch.equal(found, final_hidden(model, tokens, eager_in_rows(45), lambda *_: None))
    monkeypatch.setattr("validation.execution.floors.eager_in_rows", lambda rows: f"no {rows}")
    with pytest.raises(ValueError, match="no 64"):
        eager_by_rows(model, tokens, 64, lambda *_: None)
