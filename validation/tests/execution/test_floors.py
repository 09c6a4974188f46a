"""Floors of what a machine has: a backend that it lacks is no error, all else is."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend

from validation.execution.floors import backends_of, measure_floors, on_backends
from validation.execution.jobs import Forward
from validation.execution.meter import Stopwatch
from validation.judgement.floor import BACKEND_FLOOR
from validation.models.reference import SDPA, final_hidden, load_reference
from validation.tests.execution.test_cases import REQUEST

HALF = backends_of("bfloat16", scores_fit=False)


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

    assert on_backends(HALF, run) == {}
    assert ran == ["FLASH_ATTENTION"]


def test_the_two_backends_come_by_name() -> None:
    """Where both take it."""
    found = on_backends(HALF, lambda name: torch.full((1,), float(len(name))))
    assert found == {
        "FLASH_ATTENTION": torch.full((1,), 15.0),
        "CUDNN_ATTENTION": torch.full((1,), 15.0),
    }


def test_another_error_is_an_error() -> None:
    """No memory, say: a floor that is missing would be a smaller floor."""

    def run(_: str) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        on_backends(HALF, run)


def test_float32_has_backends_of_its_own() -> None:
    """CUDA's flash and cuDNN take none; the pair that does needs all scores, or there is none."""
    pair = [backend.name for backend in backends_of("float32", scores_fit=True)]
    assert pair == ["EFFICIENT_ATTENTION", "MATH"]
    assert backends_of("float32", scores_fit=False) == ()
    assert on_backends((), _attend) == {}


@pytest.mark.parametrize("eager_prefill", [64, 32])
def test_all_scores_are_formed_where_eager_attention_forms_them(
    eager_prefill: int, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the plan's choice for 64 tokens, and two kernels that a CPU has in place of CUDA's."""
    kernels = (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH)
    monkeypatch.setattr("validation.execution.floors._FLOAT32_BACKENDS", kernels)
    model = load_reference(checkpoint, torch.float32, "cpu")
    tokens = torch.arange(64)[None]
    job = REQUEST.reference_job("float32", tmp_path, attention=SDPA, device="cuda")
    hidden = final_hidden(model, tokens, SDPA, lambda *_: None)
    forward = Forward(context=64, prefill=64, eager_prefill=eager_prefill)
    metrics = measure_floors(model, hidden, tokens, forward, job, lambda _: None, Stopwatch("cpu"))
    assert (BACKEND_FLOOR in metrics.floors) == (eager_prefill == 64)
