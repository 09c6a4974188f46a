"""Wrong frequencies are counted, right ones are not, whatever wrote them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from validation.audit.frequencies import LLAMA_31_8B, compare_frequencies
from validation.audit.jobs import frequencies_path
from validation.models.rope_parameters import LLAMA_31
from validation.rope.oracles import TransformersOracle

RIGHT = TransformersOracle(LLAMA_31, 128).inv_freq()
SHORT = TransformersOracle(replace(LLAMA_31, original_positions=2048), 128).inv_freq()
PLAIN = 1 / 500_000 ** (torch.arange(0, 128, 2) / 128)


@pytest.mark.parametrize(
    ("frequencies", "wrong", "largest"),
    [
        (RIGHT, 0, 1.0),
        (1 / (1 / RIGHT), 0, 1.0),
        (SHORT, 13, 7.2129),
        (PLAIN, 35, 8.0),
        (1 / 10_000 ** (torch.arange(0, 128, 2) / 128), 63, 8 * 50 ** (63 / 64)),
    ],
)
def test_wrong_frequencies_are_counted(
    frequencies: torch.Tensor, wrong: int, largest: float, tmp_path: Path
) -> None:
    """Of Llama 3.1: right, rounded twice, for n_ctx 2048, without scaling, and of base 10000."""
    save_file({LLAMA_31_8B: frequencies}, frequencies_path(tmp_path))
    found = compare_frequencies(tmp_path, LLAMA_31)[LLAMA_31_8B]
    assert (found.total, found.wrong) == (64, wrong)
    assert found.largest_factor == pytest.approx(largest, rel=0.01)
    assert compare_frequencies(tmp_path, LLAMA_31) == {}, "another release's are never read"
