"""The study of false alarms: its grid, what it runs, and that it can fail."""

import subprocess
from pathlib import Path

import pytest

from validation.execution.alarm_grid import SMALL_FAULTS, choose_situations
from validation.execution.clean import Clean, kinds_at
from validation.judgement.kills import is_noticed
from validation.judgement.verdict import Verdict
from validation.models.random_llamas import RANDOM_LLAMAS
from validation.reporting.alarm_records import AlarmRecord
from validation.rope.catalogue import find_fault
from validation.rope.faults import plant
from validation.tests.conftest import command

ONE_SITUATION = len(Clean)
"""Comparisons of the grid's first, which is small."""


def alarms(out: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command with these arguments."""
    own = ("--out", out, "--workers", 1, "--comparisons", ONE_SITUATION)
    return command("alarms", *own, *arguments)


def read(out: Path) -> AlarmRecord:
    """The one record in `out`."""
    (line,) = (out / "alarms.jsonl").read_text(encoding="utf-8").splitlines()
    return AlarmRecord.model_validate_json(line)


def test_the_fork_raises_no_alarm_and_faults_do(tmp_path: Path) -> None:
    """What is correct passes, the mistakes beside it do not, and nothing is run twice."""
    process = alarms(tmp_path)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "False alarms: 0 in 12 clean comparisons" in process.stdout
    record = read(tmp_path)
    verdicts = {c.kind: c.judged.outcome for c in record.comparisons}
    assert verdicts.keys() == {*Clean.__members__, *SMALL_FAULTS}
    assert verdicts["WHOLE"] is Verdict.IDENTICAL
    # What is summed in another order does differ: the verdict rests on the floor.
    for kind in ("PER_HEAD", "DIVISIONS", "FOLDED", "PERMUTED", "EVERYTHING", "HF_PERMUTED"):
        assert verdicts[kind] is Verdict.AT_FLOOR, kind
    assert is_noticed(verdicts["factor-1-percent"])
    assert (tmp_path / "alarms.png").stat().st_size > 10_000
    assert "## Which floor judges" in (tmp_path / "alarms.md").read_text(encoding="utf-8")

    before = (tmp_path / "alarms.jsonl").read_bytes()
    again = alarms(tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert (tmp_path / "alarms.jsonl").read_bytes() == before


def test_a_wrong_tree_is_a_false_alarm(fork: Path, tmp_path: Path) -> None:
    """Were the rules to fail what is taken for correct, the command would exit with 1."""
    planted = plant(find_fault("theta-1-percent"), fork, tmp_path / "planted")
    process = alarms(tmp_path / "out", "--tree", planted, "--no-faults")
    assert process.returncode == 1, process.stdout + process.stderr
    assert "FAIL CHUNKS gqa-32" in process.stdout
    record = read(tmp_path / "out")
    failing = {c.kind for c in record.comparisons if c.judged.is_alarm}
    of_the_tree = {kind.name for kind in Clean if kind.value.startswith("fork")}
    assert failing == of_the_tree
    assert not any(c.is_fault for c in record.comparisons)


@pytest.mark.parametrize("tree", ["stock", "no-such-folder"])
def test_another_tree_is_refused(tree: str, tmp_path: Path) -> None:
    """Clean deviations are made of the fork's own functions."""
    process = alarms(tmp_path, "--tree", tree)
    assert process.returncode == 2, process.stdout + process.stderr
    assert process.stderr.splitlines()[-1].startswith("error: --")
    assert "Traceback" not in process.stderr


def test_the_grid_is_balanced() -> None:
    """Every Llama meets every dtype at every context once before any comes again."""
    whole = choose_situations(1900, seed=0)[:168]
    cells = [(s.llama.name, s.dtype, s.context) for s in whole]
    assert len(set(cells)) == 168
    assert len({s.seed for s in whole}) == 168
    assert {s.llama.name for s in whole[:8]} == {llama.name for llama in RANDOM_LLAMAS}
    assert [s.dtype for s in whole[:3]] == ["float32", "bfloat16", "float16"]


def test_a_larger_study_begins_with_a_smaller_one() -> None:
    """So that a run can be added to; another seed shares no model with it."""
    few, many = choose_situations(100, seed=0), choose_situations(300, seed=0)
    assert many[: len(few)] == few
    counted = [k for s in many for k in kinds_at(s.context) if k.is_reordering(s.dtype)]
    assert len(counted) >= 300
    others = {s.seed for s in choose_situations(300, seed=1)}
    assert not others & {s.seed for s in many}


def test_no_mlp_is_square() -> None:
    """TransformerLens folds a norm into the wrong axis of one: it would not be clean."""
    assert all(llama.shape.hidden != llama.shape.intermediate for llama in RANDOM_LLAMAS)


def test_folding_in_half_precision_is_no_reordering() -> None:
    """It rounds weights: only what keeps them counts as clean."""
    assert Clean.FOLDED.is_reordering("float32")
    assert not Clean.FOLDED.is_reordering("bfloat16")
    assert all(kind.is_reordering("float16") for kind in Clean if kind is not Clean.FOLDED)
