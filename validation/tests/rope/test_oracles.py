"""The oracles agree where they must and differ by no more than rounding where they may."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from validation.models.checkpoints import Llama3Rope
from validation.rope.oracles import (
    ORACLES,
    SLICE_POSITIONS,
    Float64Oracle,
    MetaOracle,
    Oracle,
    TransformersOracle,
    slices,
)

OFFICIAL = Llama3Rope(500_000.0, 8.0, 1.0, 4.0, 8192)
ODD = Llama3Rope(1e6, 4.0, 2.0, 8.0, 4096)
FAR = range(131_072 - 512, 131_072)

ROPES = pytest.mark.parametrize("rope", [OFFICIAL, ODD], ids=["official", "odd"])
HEAD_DIMS = pytest.mark.parametrize("head_dim", [48, 64, 128])
SHAPES = st.builds(
    lambda theta, factor, low, gap, original: Llama3Rope(theta, factor, low, low + gap, original),
    theta=st.floats(1e3, 1e7),
    factor=st.floats(1, 64),
    low=st.floats(0.25, 8),
    gap=st.floats(0.25, 32),
    original=st.integers(256, 65_536),
)


@settings(max_examples=30, deadline=None)
@given(rope=SHAPES, head_dim=st.sampled_from([32, 64, 80, 128]))
def test_meta_and_transformers_are_the_same_function(rope: Llama3Rope, head_dim: int) -> None:
    """Inverse frequencies and angles are equal bit for bit, for any legal parameters."""
    meta, transformers = MetaOracle(rope, head_dim), TransformersOracle(rope, head_dim)
    assert torch.equal(meta.inv_freq(), transformers.inv_freq())
    assert torch.equal(meta.angles(FAR), transformers.angles(FAR))


@ROPES
@HEAD_DIMS
def test_meta_rounds_cosines_its_own_way(rope: Llama3Rope, head_dim: int) -> None:
    """`polar` and `cos` round differently, by one unit in the last place, in few entries."""
    ours = MetaOracle(rope, head_dim).tables(FAR, torch.float32)
    theirs = TransformersOracle(rope, head_dim).tables(FAR, torch.float32)
    for one, other in zip(ours, theirs, strict=True):
        assert (one.double() - other.double()).abs().max() <= 2**-24
        # 2 % over 131,072 positions.
        assert (one != other).double().mean() < 0.1


@ROPES
@HEAD_DIMS
def test_float64_is_within_rounding(rope: Llama3Rope, head_dim: int) -> None:
    """fp32 is off by the rounding of the exponent and a few operations, and never by more."""
    exact, served = Float64Oracle(rope, head_dim), TransformersOracle(rope, head_dim)
    # theta**x moves by log(theta) times the rounding of x; each operation rounds once more.
    unit = (math.log(rope.theta) + 12) * 2**-24
    error = (served.inv_freq().double() - exact.inv_freq()).abs() / exact.inv_freq()
    assert 0 < error.max() < unit
    error = (served.angles(FAR).double() - exact.angles(FAR)).abs() / exact.angles(FAR)
    assert 0 < error.max() < unit + 2**-24
    assert exact.angles(FAR).dtype == torch.float64


@pytest.mark.parametrize("kind", ORACLES, ids=lambda kind: kind.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_tables_are_cosines_of_the_angles(kind: type[Oracle], dtype: torch.dtype) -> None:
    """Both halves alike, in the dtype, and as near to the angles as the dtype is fine."""
    oracle = kind(OFFICIAL, 64)
    cos, sin = oracle.tables(FAR, dtype)
    angles = oracle.angles(FAR).double()
    for table, wanted in ((cos, angles.cos()), (sin, angles.sin())):
        assert table.dtype == dtype
        assert table.shape == (len(FAR), 64)
        assert torch.equal(table[:, :32], table[:, 32:])
        assert (table[:, :32].double() - wanted).abs().max() <= torch.finfo(dtype).eps


@pytest.mark.parametrize("kind", ORACLES, ids=lambda kind: kind.name)
def test_a_slice_is_a_slice_of_the_whole(kind: type[Oracle]) -> None:
    """Positions far out give what they give in a longer range."""
    oracle = kind(OFFICIAL, 64)
    whole, part = range(6000), range(5000, 6000)
    assert torch.equal(oracle.angles(whole)[5000:], oracle.angles(part))
    assert torch.equal(
        oracle.tables(whole, torch.float32)[0][5000:], oracle.tables(part, torch.float32)[0]
    )


@pytest.mark.parametrize(
    "wrong",
    [
        Llama3Rope(500_000.0, 8.008, 1.0, 4.0, 8192),
        Llama3Rope(500_000.0, 8.0, 1.01, 4.0, 8192),
        Llama3Rope(500_000.0, 8.0, 1.0, 3.96, 8192),
        Llama3Rope(500_000.0, 8.0, 1.0, 4.0, 8191),
        Llama3Rope(500_100.0, 8.0, 1.0, 4.0, 8192),
    ],
)
def test_a_wrong_parameter_is_far_beyond_rounding(wrong: Llama3Rope) -> None:
    """The agreement above has power: a thousandth in one parameter stands out in every oracle."""
    for kind in ORACLES:
        right, other = kind(OFFICIAL, 64).inv_freq().double(), kind(wrong, 64).inv_freq().double()
        assert ((right - other).abs() / right).max() > 50 * 2**-24


def test_float64_is_held_in_slices() -> None:
    """The slices cover all positions, and more than one at a time is refused."""
    spans = list(slices(2 * SLICE_POSITIONS + 1))
    assert [position for span in spans for position in span] == list(range(2 * SLICE_POSITIONS + 1))
    with pytest.raises(ValueError, match=f"positions has {SLICE_POSITIONS + 1} entries; at most"):
        Float64Oracle(OFFICIAL, 64).angles(range(SLICE_POSITIONS + 1))
