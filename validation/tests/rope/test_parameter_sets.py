"""Other parameters are legal, and one wavelength is where no official checkpoint has one."""

import math

import pytest
import torch

from validation.models.rope_parameters import LLAMA_31
from validation.rope.oracles import TransformersOracle
from validation.rope.parameter_sets import on_the_low_boundary, parameter_sets


@pytest.mark.parametrize("head_dim", [32, 48, 64, 96, 128])
def test_a_wavelength_is_on_the_boundary(head_dim: int) -> None:
    """In fp32, as `transformers` compares it; Llama 3.1's own are on none."""
    sets = parameter_sets(head_dim)
    exponents = torch.arange(0, head_dim, 2).float() / head_dim
    wavelengths = 2 * math.pi / (1.0 / LLAMA_31.theta**exponents)
    on_boundary = {
        name: int((wavelengths == rope.original_positions / rope.low_freq_factor).sum())
        for name, rope in sets.items()
    }
    assert on_boundary == {"Llama 3.1's": 0, "Llama 3.2's": 0, "boundary": 1}
    assert all(0 < rope.low_freq_factor < rope.high_freq_factor for rope in sets.values())


def test_the_boundary_belongs_to_the_medium_band() -> None:
    """The wavelength itself is smoothed with weight 0 and so divided, one step below is not."""
    rope = on_the_low_boundary(LLAMA_31, 64, 20)
    unscaled = 1.0 / LLAMA_31.theta ** (torch.arange(0, 64, 2).float() / 64)
    scaled = TransformersOracle(rope, 64).inv_freq()
    assert float(unscaled[20] / scaled[20]) == pytest.approx(8.0, rel=1e-6)
    assert float(unscaled[19] / scaled[19]) < 8.0
