"""`python -m validation faults`, as a person would start it."""

import subprocess
from pathlib import Path

import pytest

from transformer_lens_fork.errors import InputError
from validation.execution.fault_run import choose_faults
from validation.reporting.fault_records import FaultRecord
from validation.rope.catalogue import FAULTS
from validation.tests.conftest import command


def faults(out: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command with these arguments."""
    return command("faults", "--out", out, *arguments)


@pytest.mark.long
def test_faults_are_caught_and_not_run_twice(checkpoint: Path, tmp_path: Path) -> None:
    """One caught by its verdict, one by a stage alone, one that is none."""
    names = "theta-1-percent,padding-counted,high-boundary-inclusive"
    arguments = ("--checkpoint", checkpoint, "--contexts", "256", "--only", names, "--no-mde")
    process = faults(tmp_path, *arguments)
    assert process.returncode == 0, process.stdout + process.stderr
    lines = (tmp_path / "faults.jsonl").read_text(encoding="utf-8").splitlines()
    records = {record.fault: record for record in map(FaultRecord.model_validate_json, lines)}
    assert {name: record.outcome for name, record in records.items()} == {
        "theta-1-percent": "BEYOND_FLOOR",
        "high-boundary-inclusive": "EQUIVALENT",
        "padding-counted": "HIDDEN",
    }
    assert {name: record.first_stage for name, record in records.items()} == {
        "theta-1-percent": "INV_FREQ",
        "high-boundary-inclusive": None,
        "padding-counted": "LAYER",
    }
    assert records["high-boundary-inclusive"].logits_differing == 0
    assert not (tmp_path / "mde.jsonl").exists()
    assert not list(tmp_path.glob(".building-*")), "the planted trees are gone"

    before = (tmp_path / "results.jsonl").read_bytes()
    again = faults(tmp_path, *arguments)
    assert again.returncode == 0
    assert (tmp_path / "results.jsonl").read_bytes() == before
    assert again.stderr.count("(earlier run)") == 3 + 4, "cases, and staged proofs"
    assert "reference float32" not in again.stderr


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("--only", "theta-1-per-cent", "no fault and no family; theta-1-percent"),
        ("--base", "v2.8.0", "the faults edit v3.9.0"),
        ("--device", "tpu", "--device: 'tpu' is not accepted"),
    ],
)
def test_bad_input_is_refused(
    field: str, value: str, message: str, checkpoint: Path, tmp_path: Path
) -> None:
    """One sentence, exit status 2, and no results."""
    process = faults(tmp_path / "out", "--checkpoint", checkpoint, field, value)
    assert process.returncode == 2, process.stdout + process.stderr
    assert message in process.stderr
    assert "Traceback" not in process.stderr
    assert not (tmp_path / "out").exists()


def test_faults_are_chosen_by_name_or_family() -> None:
    """All without a choice; a family means each of its faults."""
    assert choose_faults(()) == FAULTS
    chosen = choose_faults(("padding", "theta-10000"))
    assert {fault.family for fault in chosen} == {"padding", "theta"}
    assert sum(fault.family == "theta" for fault in chosen) == 1
    with pytest.raises(InputError, match="'nonsense' is no fault and no family"):
        choose_faults(("nonsense",))
