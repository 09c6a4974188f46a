"""Floors of what a machine has: a backend that it lacks is no error, all else is."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from validation.execution.floors import on_backends


def _attend(_: str) -> Tensor:
    query = torch.randn(1, 4, 8, 16, generator=torch.Generator().manual_seed(0))
    return F.scaled_dot_product_attention(query, query, query, is_causal=True)


def test_without_one_of_the_kernels_there_is_nothing_to_compare() -> None:
    """A CPU has flash attention and no cuDNN: the one that is there did run."""
    ran = []

    def run(name: str) -> Tensor:
        found = _attend(name)
        ran.append(name)
        return found

    assert on_backends(run) == {}
    assert ran == ["FLASH_ATTENTION"]


def test_the_two_backends_come_by_name() -> None:
    """Where both take it."""
    found = on_backends(lambda name: torch.full((1,), float(len(name))))
    assert found == {
        "FLASH_ATTENTION": torch.full((1,), 15.0),
        "CUDNN_ATTENTION": torch.full((1,), 15.0),
    }


def test_another_error_is_an_error() -> None:
    """No memory, say: a floor that is missing would be a smaller floor."""

    def run(_: str) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        on_backends(run)
