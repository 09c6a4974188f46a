"""Other legal llama3 parameters, at which tables are compared beside the checkpoint's own.

A tree may be right at one checkpoint's parameters by luck: no wavelength of Llama 3.1 lies exactly
on a boundary of its bands, and its own factor could be written into the code.
"""

import math

import torch

from validation.models.rope_parameters import LLAMA_31, LLAMA_32, Llama3Rope


def parameter_sets(head_dim: int) -> dict[str, Llama3Rope]:
    """By name: those of Llama 3.1 and of 3.2, and one with a wavelength on a boundary."""
    return {
        "Llama 3.1's": LLAMA_31,
        "Llama 3.2's": LLAMA_32,
        "boundary": on_the_low_boundary(LLAMA_31, head_dim, 5 * head_dim // 16),
    }


def on_the_low_boundary(rope: Llama3Rope, head_dim: int, pair: int) -> Llama3Rope:
    """`rope` with other factors, so that the wavelength of `pair` is where the low band begins.

    Exactly, in fp32, if the original context is a power of two: `c / (c / x)` is then x. The high
    band ends at a quarter of it.
    """
    exponents = torch.arange(0, head_dim, 2).float() / head_dim
    wavelength = float((2 * math.pi / (1.0 / rope.theta**exponents))[pair])
    low = rope.original_positions / wavelength
    return Llama3Rope(rope.theta, rope.factor, low, 4 * low, rope.original_positions)
