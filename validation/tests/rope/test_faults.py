"""Faults are planted where they belong, in a copy."""

from pathlib import Path

import pytest

from validation.rope.catalogue import find_fault
from validation.rope.faults import (
    ATTENTION,
    GROUPED_ATTENTION,
    TENSORS,
    Fault,
    Need,
    needs_met_by,
    needs_met_by_checkpoint,
    plant,
)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("low-high-swapped", ATTENTION),
        ("kv-heads-tiled", GROUPED_ATTENTION),
        ("padding-counted", TENSORS),
    ],
)
@pytest.mark.parametrize("is_linked", [False, True])
def test_a_fault_changes_the_copy_alone(
    name: str, file: Path, is_linked: bool, fork: Path, tmp_path: Path
) -> None:
    """The tree stays as it is; the copy differs in the fault's file only."""
    before = (fork / file).read_text(encoding="utf-8")
    copy = plant(find_fault(name), fork, tmp_path / name, is_linked=is_linked)
    assert (fork / file).read_text(encoding="utf-8") == before
    changed = [
        path.relative_to(copy)
        for path in (copy / "transformer_lens").rglob("*.py")
        if path.read_bytes() != (fork / path.relative_to(copy)).read_bytes()
    ]
    assert changed == [file]


def test_a_source_without_the_text_is_refused(fork: Path, tmp_path: Path) -> None:
    """A fault that silently changed nothing would count as a harness that misses it."""
    fault = Fault("stale", "Nothing.", (("no such text", ""),))
    with pytest.raises(ValueError, match=r"stale: .* has 'no such text' 0 times, not once"):
        plant(fault, fork, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_dtype_meets_needs() -> None:
    """A table that passes through bfloat16 is nobody's mistake in a bfloat16 model."""
    eager = {Need.EAGER, Need.MASK}
    for dtype, attention, met in (
        ("float32", "eager", {Need.NOT_BFLOAT16, Need.NOT_FLOAT16} | eager),
        ("bfloat16", "sdpa", {Need.HALF, Need.NOT_FLOAT16, Need.FUSED}),
        ("float16", "eager", {Need.HALF, Need.NOT_BFLOAT16} | eager),
    ):
        assert needs_met_by(dtype, attention) == met


def test_a_checkpoint_meets_needs() -> None:
    """Llama's theta is nobody's mistake in a Llama, nor which key head is met where one is."""
    assert needs_met_by_checkpoint(theta=5e5, key_heads=1) == frozenset()
    assert needs_met_by_checkpoint(theta=1e5, key_heads=1) == {Need.ANOTHER_THETA}
    assert needs_met_by_checkpoint(theta=5e5, key_heads=8) == {Need.KEY_HEADS}


def test_what_a_fault_needs_decides_where_it_is_visible() -> None:
    """Enough positions and everything needed; never where it is equivalent."""
    fault = Fault("late", "Late.", (), hidden_up_to=2048, needs=frozenset({Need.CHUNKS}))
    assert not fault.is_visible(2048, frozenset(Need))
    assert not fault.is_visible(2049)
    assert fault.is_visible(2049, frozenset({Need.CHUNKS}))
    assert not Fault("same", "Same.", (), equivalent="it is").is_visible(2049)
