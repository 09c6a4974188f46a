"""Any legal llama3 configuration: the fork's tables are those of Hugging Face's module."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from validation.models.rope_parameters import LLAMA_31, Llama3Rope
from validation.rope.catalogue import find_fault
from validation.rope.oracles import TransformersOracle, llama_config
from validation.rope.swapping import swapped_code
from validation.tests.properties.pair import POSITIONS

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_SPAN = 512

NUMBERS = st.floats(0.01, 64) | st.integers(1, 64)
ROPES = st.builds(
    lambda theta, factor, low, gap, original: Llama3Rope(theta, factor, low, low + gap, original),
    theta=st.floats(2, 1e8) | st.integers(2, 10**8),
    factor=NUMBERS,
    low=NUMBERS,
    gap=NUMBERS,
    original=st.integers(1, 2**20),
)
HEAD_DIMS = st.integers(1, 128).map(lambda pairs: 2 * pairs)


def differing(rope: Llama3Rope, head_dim: int, dtype: torch.dtype, positions: int) -> int:
    """Entries of cosine and sine that differ, in spans spread over all positions."""
    from transformer_lens.components import Attention
    from transformer_lens.config.hooked_transformer_config import HookedTransformerConfig
    from transformer_lens.loading_from_pretrained import get_pretrained_model_config

    theirs = llama_config(rope, head_dim)
    loaded = get_pretrained_model_config("any-llama", hf_cfg=theirs.to_dict(), dtype=dtype)
    cfg = HookedTransformerConfig.from_dict({**loaded.to_dict(), "init_weights": False})
    tables: Any = Attention(cfg).calculate_sin_cos_rotary(
        head_dim, positions, base=cfg.rotary_base, dtype=dtype
    )
    sin, cos = tables
    oracle = TransformersOracle(rope, head_dim)
    count = 0
    for start in range(0, positions, positions // 8):
        span = range(start, min(start + _SPAN, positions))
        rows = slice(span.start, span.stop)
        for ours, wanted in zip((cos, sin), oracle.tables(span, dtype), strict=True):
            assert ours[rows].shape == wanted.shape
            assert ours.dtype == wanted.dtype
            count += int((ours[rows] != wanted).sum())
    return count


@settings(max_examples=60, deadline=None, derandomize=True)
@given(rope=ROPES, head_dim=HEAD_DIMS, dtype=st.sampled_from(DTYPES))
@example(rope=LLAMA_31, head_dim=128, dtype=torch.float32)
@example(rope=LLAMA_31, head_dim=24, dtype=torch.bfloat16)
@example(rope=LLAMA_31, head_dim=96, dtype=torch.float16)
def test_tables_of_any_configuration_are_exact(
    tree: Path, rope: Llama3Rope, head_dim: int, dtype: torch.dtype
) -> None:
    """From the configuration as it is on disk to the rows, at the first 4096 positions."""
    assert differing(rope, head_dim, dtype, 4096) == 0


@settings(max_examples=6, deadline=None, derandomize=True)
@given(rope=ROPES, head_dim=st.sampled_from([24, 32, 48]), dtype=st.sampled_from(DTYPES))
@example(rope=LLAMA_31, head_dim=64, dtype=torch.float32)
def test_tables_are_exact_far_out(
    tree: Path, rope: Llama3Rope, head_dim: int, dtype: torch.dtype
) -> None:
    """The same over 131,072 positions."""
    assert differing(rope, head_dim, dtype, POSITIONS) == 0


@pytest.mark.parametrize(
    "name",
    [None, "double-reciprocal", "factor-0.1-percent", "smoothing-missing", "powers-in-float64"],
)
def test_tables_catch_mistakes(name: str | None, tree: Path) -> None:
    """A last place that is rounded otherwise is seen; without a mistake nothing is."""
    planted = nullcontext() if name is None else swapped_code(find_fault(name), tree)
    with planted:
        assert bool(differing(LLAMA_31, 64, torch.float32, 4096)) == (name is not None)
