"""Floors of what a machine has: backends that it lacks are left out, other errors are not."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from validation.execution.floors import on_backends


def _attend(_: str) -> Tensor:
    query = torch.randn(1, 4, 8, 16, generator=torch.Generator().manual_seed(0))
    return F.scaled_dot_product_attention(query, query, query, is_causal=True)


def test_a_backend_without_a_kernel_is_left_out() -> None:
    """A CPU has flash attention and no cuDNN; the one that is there is what ran."""
    found = on_backends(_attend)
    assert list(found) == ["FLASH_ATTENTION"]
    torch.testing.assert_close(found["FLASH_ATTENTION"], _attend(""))


def test_another_error_is_an_error() -> None:
    """No memory, say: a floor that is missing would be a smaller floor."""

    def run(_: str) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        on_backends(run)
