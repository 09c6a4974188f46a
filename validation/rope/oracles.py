"""Three oracles of llama3 RoPE: Hugging Face's module, Meta's formula, and double precision.

HF's decides what is identical. The others inform: the point is not truth but the function that
the weights were trained and are served with.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from validation.rope.angles import ObservedAngles

if TYPE_CHECKING:
    from transformers import LlamaConfig

    from validation.models.checkpoints import Llama3Rope

SLICE_POSITIONS = 8192
"""Positions that are held in double precision at a time: 4 MiB of angles at head_dim 128."""


def slices(positions: int) -> Iterator[range]:
    """Ranges of at most `SLICE_POSITIONS` that together are `range(positions)`."""
    for start in range(0, positions, SLICE_POSITIONS):
        yield range(start, min(start + SLICE_POSITIONS, positions))


class Oracle(ABC):
    """One way to compute the rotary embedding, for any range of consecutive positions.

    Attributes:
        name: what it is called in reports.
    """

    name: ClassVar[str]

    def __init__(self, rope: "Llama3Rope", head_dim: int) -> None:
        """Computes for `head_dim` dimensions, of which i and i + head_dim / 2 are a pair."""
        self.rope = rope
        self.head_dim = head_dim

    @abstractmethod
    def inv_freq(self) -> Float[Tensor, "pair"]:
        """Inverse frequencies, radians per position."""

    @abstractmethod
    def angles(self, positions: range) -> Float[Tensor, "pos pair"]:
        """Angles in radians."""

    @abstractmethod
    def tables(
        self, positions: range, dtype: torch.dtype
    ) -> tuple[Float[Tensor, "pos head_dim"], Float[Tensor, "pos head_dim"]]:
        """Cosines and sines in `dtype`, rounded to it last; each pair's twice."""


class TransformersOracle(Oracle):
    """The module that serves: `transformers`, `models/llama/modeling_llama.py`."""

    name = "transformers"

    def __init__(
        self, rope: "Llama3Rope", head_dim: int, device: torch.device | str = "cpu"
    ) -> None:
        """Builds the module on `device`, and no model around it."""
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

        super().__init__(rope, head_dim)
        self._device = torch.device(device)
        self._module = LlamaRotaryEmbedding(llama_config(rope, head_dim)).to(self._device)

    def inv_freq(self) -> Float[Tensor, "pair"]:
        """The module's own buffer."""
        inv_freq: Tensor = self._module.inv_freq
        return inv_freq.clone()

    def angles(self, positions: range) -> Float[Tensor, "pos pair"]:
        """What the module takes the cosine of: a matrix product before 5.19, then elementwise."""
        with ObservedAngles(self.head_dim) as observed:
            self.tables(positions, torch.float32)
        assert observed.cos is not None
        return observed.cos

    def tables(
        self, positions: range, dtype: torch.dtype
    ) -> tuple[Float[Tensor, "pos head_dim"], Float[Tensor, "pos head_dim"]]:
        """The module's output."""
        like = torch.empty(0, dtype=dtype, device=self._device)
        count = torch.arange(positions.start, positions.stop, device=self._device)
        cos, sin = self._module(like, count[None])
        return cos[0], sin[0]


class MetaOracle(Oracle):
    """The formula that Meta published: meta-llama/llama-models, `models/llama3/model.py`.

    Written anew from `apply_scaling` and `precompute_freqs_cis`, in fp32 and with their order of
    operations, but for any parameters: there factor 8, 1, 4 and 8192 are constants.
    """

    name = "Meta's formula"

    def inv_freq(self) -> Float[Tensor, "pair"]:
        """Bands by wavelength: kept, divided by the factor, and a blend of both between them."""
        rope = self.rope
        exponents = torch.arange(0, self.head_dim, 2).float() / self.head_dim
        unscaled = 1.0 / (rope.theta**exponents)
        wavelength = 2 * math.pi / unscaled
        is_low = wavelength > rope.original_positions / rope.low_freq_factor
        is_high = wavelength < rope.original_positions / rope.high_freq_factor
        kept = (rope.original_positions / wavelength - rope.low_freq_factor) / (
            rope.high_freq_factor - rope.low_freq_factor
        )
        blend = (1 - kept) * unscaled / rope.factor + kept * unscaled
        scaled = torch.where(is_low, unscaled / rope.factor, unscaled)
        return torch.where(is_low | is_high, scaled, blend)

    def angles(self, positions: range) -> Float[Tensor, "pos pair"]:
        """Outer product of positions and inverse frequencies, in fp32."""
        count = torch.arange(positions.start, positions.stop, dtype=torch.float32)
        return torch.outer(count, self.inv_freq())

    def tables(
        self, positions: range, dtype: torch.dtype
    ) -> tuple[Float[Tensor, "pos head_dim"], Float[Tensor, "pos head_dim"]]:
        """Real and imaginary part of the unit complex numbers with these angles."""
        angles = self.angles(positions)
        unit = torch.polar(torch.ones_like(angles), angles)
        return _twice(unit.real).to(dtype), _twice(unit.imag).to(dtype)


class Float64Oracle(Oracle):
    """The same mathematics in double precision, rounded to the dtype only at the end."""

    name = "float64"

    def inv_freq(self) -> Float[Tensor, "pair"]:
        """As `MetaOracle.inv_freq`, in float64."""
        rope = self.rope
        exponents = torch.arange(0, self.head_dim, 2, dtype=torch.float64) / self.head_dim
        unscaled = float(rope.theta) ** -exponents
        turns = rope.original_positions * unscaled / (2 * math.pi)
        kept = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
        # Below 0 the blend is the low band, above 1 the high one: that is what the bands mean.
        kept = kept.clamp(0, 1)
        return unscaled * (kept + (1 - kept) / rope.factor)

    def angles(self, positions: range) -> Float[Tensor, "pos pair"]:
        """Products in float64.

        Raises:
            ValueError: more than `SLICE_POSITIONS` positions at a time.
        """
        if len(positions) > SLICE_POSITIONS:
            raise ValueError(
                f"positions has {len(positions)} entries; at most {SLICE_POSITIONS} in float64"
            )
        count = torch.arange(positions.start, positions.stop, dtype=torch.float64)
        return count[:, None] * self.inv_freq()

    def tables(
        self, positions: range, dtype: torch.dtype
    ) -> tuple[Float[Tensor, "pos head_dim"], Float[Tensor, "pos head_dim"]]:
        """Cosines and sines in float64, rounded to `dtype` once."""
        angles = self.angles(positions)
        return _twice(angles.cos()).to(dtype), _twice(angles.sin()).to(dtype)


ORACLES: tuple[type[Oracle], ...] = (TransformersOracle, MetaOracle, Float64Oracle)


def llama_config(rope: "Llama3Rope", head_dim: int) -> "LlamaConfig":
    """A configuration with this position encoding and one head, for any `transformers` we run."""
    from transformers import LlamaConfig

    scaling = {
        "rope_type": "llama3",
        "factor": rope.factor,
        "low_freq_factor": rope.low_freq_factor,
        "high_freq_factor": rope.high_freq_factor,
        "original_max_position_embeddings": rope.original_positions,
    }
    shape = {
        "hidden_size": head_dim,
        "num_attention_heads": 1,
        "head_dim": head_dim,
        "max_position_embeddings": max(131_072, 2 * rope.original_positions),
    }
    if int(version("transformers").partition(".")[0]) >= 5:
        return LlamaConfig(**shape, rope_parameters=scaling | {"rope_theta": rope.theta})
    return LlamaConfig(**shape, rope_theta=rope.theta, rope_scaling=scaling)


def _twice(pairs: Float[Tensor, "pos pair"]) -> Float[Tensor, "pos head_dim"]:
    return torch.cat((pairs, pairs), dim=-1)
