"""Faults are planted where they belong, in a copy."""

from pathlib import Path

import pytest

from validation.rope.faults import ATTENTION, FAULTS, Fault, plant


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_changes_the_copy_alone(fault: Fault, fork: Path, tmp_path: Path) -> None:
    """The tree stays as it is; the copy differs in the attention component only."""
    before = (fork / ATTENTION).read_text(encoding="utf-8")
    copy = plant(fault, fork, tmp_path / fault.name)
    assert (fork / ATTENTION).read_text(encoding="utf-8") == before
    changed = [
        path.relative_to(copy)
        for path in (copy / "transformer_lens").rglob("*.py")
        if path.read_bytes() != (fork / path.relative_to(copy)).read_bytes()
    ]
    assert changed == [ATTENTION]


def test_a_source_without_the_text_is_refused(fork: Path, tmp_path: Path) -> None:
    """A fault that silently changed nothing would count as a harness that misses it."""
    fault = Fault("stale", "Nothing.", (("no such text", ""),))
    with pytest.raises(ValueError, match=r"stale: .* has 'no such text' 0 times, not once"):
        plant(fault, fork, tmp_path / "copy")
