"""Attention scores depend on how far two tokens are apart, not on where they are.

In exact arithmetic. In fp32 every angle is rounded, by more the further out it is, and the scores
move with it; the fork's move exactly as Hugging Face's do.
"""

from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor

from validation.rope.catalogue import find_fault
from validation.tests.properties.pair import POSITIONS, Both, Pair, planted

TOKENS = 48
HEAD_DIM = 24

Vectors = Float[Tensor, "1 pos heads head_dim"]


def _vectors(seed: int, dtype: torch.dtype) -> Vectors:
    generator = torch.manual_seed(seed)
    return torch.randn(1, TOKENS, 2, HEAD_DIM, generator=generator).to(dtype)


def rotated(pair: Pair, vectors: Vectors, shift: int) -> Both:
    """The vectors at positions `shift` and on, by each model's own code."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    positions = torch.arange(shift, shift + TOKENS)[None]
    cos, sin = pair.theirs.model.rotary_emb(vectors, positions)
    # unsqueeze_dim=2: the heads come after the positions here.
    theirs, _ = apply_rotary_pos_emb(vectors, vectors, cos, sin, unsqueeze_dim=2)
    return Both(pair.ours.blocks[0].attn.apply_rotary(vectors, shift), theirs)


def scores(pair: Pair, shift: int) -> Both:
    """Of every query with every key, all of them `shift` positions late."""
    dtype = pair.ours.cfg.dtype
    q, k = (rotated(pair, _vectors(seed, dtype), shift) for seed in (1, 2))
    ours, theirs = (
        torch.einsum("bqhd,bkhd->bhqk", one, other)
        for one, other in ((q.ours, k.ours), (q.theirs, k.theirs))
    )
    return Both(ours, theirs)


def rounding(shift: int) -> Float[Tensor, "1 heads query key"]:
    """What rounding may move of fp32 scores.

    An angle below `shift + TOKENS` is off by half a unit in its last place at most, of a query and
    of a key, at both places; cos, sin, the rotation and the sum round a few times more.
    """
    q, k = (_vectors(seed, torch.float32).norm(dim=-1) for seed in (1, 2))
    lengths = torch.einsum("bqh,bkh->bhqk", q, k)
    return lengths * (4 * (shift + TOKENS) + 64 + 2 * HEAD_DIM) * 2**-24


def shift_refutes(pair: Pair, shift: int) -> list[str]:
    """What contradicts that shifting all positions leaves scores as unchanged as HF's."""
    here, there = scores(pair, 0), scores(pair, shift)
    found = []
    for name, both in (("unshifted", here), ("shifted", there)):
        if count := both.differing():
            found.append(f"{name}: {count} of {both.theirs.numel()} scores differ from HF's")
    moved = (there.ours.float() - here.ours.float()).abs()
    if pair.ours.cfg.dtype == torch.float32 and not bool((moved <= rounding(shift)).all()):
        found.append(f"moved: by up to {float(moved.max()):.3g}, more than angles round")
    return found


@settings(max_examples=12, deadline=None, derandomize=True)
@given(shift=st.integers(1, POSITIONS - TOKENS))
@example(shift=2048 - TOKENS // 2)
@example(shift=POSITIONS - TOKENS)
def test_scores_move_as_transformers_move(tree: Path, saved: Path, shift: int) -> None:
    """Any shift up to the last positions; tables have as many rows as that takes."""
    assert not shift_refutes(Pair.load(saved, torch.float32), shift)


def test_scores_move_in_every_dtype(pair: Pair) -> None:
    """Half precision too, at the far end."""
    assert not shift_refutes(pair, POSITIONS - TOKENS)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        # A shift of its own in both: the scores are right but for rounding.
        ("positions-shifted-far", ["unshifted", "shifted"]),
        ("double-reciprocal", ["unshifted", "shifted"]),
        ("growth-unscaled", ["shifted", "moved"]),
        ("positions-clamped", None),
        ("positions-bfloat16", ["shifted", "moved"]),
    ],
)
def test_shifts_catch_mistakes(name: str, kinds: list[str] | None, tree: Path, saved: Path) -> None:
    """Roundings of another kind by their bits, wrong angles by how far they move scores too."""
    with planted(find_fault(name), tree, saved, torch.float32) as pair:
        found = [problem.partition(":")[0] for problem in shift_refutes(pair, 5000)]
    assert found
    assert kinds is None or found == kinds
