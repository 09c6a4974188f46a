"""Runs that are killed lose nothing, whoever is killed; fifty more are in validation/evidence/."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from transformer_lens_fork.bases import REPOSITORY
from validation.reporting.results import RESULTS
from validation.tests.execution.kills import KillRecord, Study, Target, moments


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """An undisturbed run to hold the others against."""
    return Study.begin(tmp_path_factory.mktemp("kills"))


@pytest.mark.parametrize(("number", "target", "share"), [(0, "group", 0.85), (1, "worker", 0.6)])
def test_a_killed_run_goes_on_where_it_was(
    study: Study, number: int, target: Target, share: float
) -> None:
    """No case is lost, run twice or other than undisturbed, and nothing is left behind."""
    record = study.strike(number, target, share * study.seconds)
    assert record.problems == ()
    assert record.was_hit


def test_the_study_sees_what_it_looks_for(study: Study, tmp_path: Path) -> None:
    """A case run twice, one that is lost, another value, half a line and a leftover folder."""
    sound = (study.folder / "undisturbed" / RESULTS).read_bytes()
    first, *others = sound.splitlines(keepends=True)
    changed = json.dumps(json.loads(first) | {"kl_mean": 1.0}).encode() + b"\n"
    for content, says in (
        (sound + first, "was finished 2 times"),
        (b"".join(others), f"{len(others)} cases are finished"),
        (b"".join([*others, changed]), "has other kl_mean"),
        (sound + b"{", "half a line is left"),
    ):
        (tmp_path / RESULTS).write_bytes(content)
        problems = study._compare(tmp_path, b"")
        assert any(says in problem for problem in problems), problems
    (tmp_path / RESULTS).write_bytes(sound)
    assert any("lines of the killed run" in p for p in study._compare(tmp_path, b"other\n"))
    (tmp_path / ".building-x").mkdir()
    assert any(".building-x" in problem for problem in study._compare(tmp_path, b""))


def test_a_worker_ends_with_its_parent() -> None:
    """Whatever it is doing: here nothing, in a call that never returns to it."""
    code = (
        "import os, signal\n"
        "from validation.execution.events import EVENTS_VARIABLE, Reporter\n"
        "reading, writing = os.pipe()\n"
        "if os.fork():\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.close(reading)\n"
        "os.environ[EVENTS_VARIABLE] = str(writing)\n"
        "reporter = Reporter.from_environment()\n"
        "signal.pause()\n"
    )
    process = subprocess.run(
        # The orphan holds our end of stdout: this returns once it has ended too.
        [sys.executable, "-c", code],
        capture_output=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    assert process.returncode == -signal.SIGKILL


def test_moments_are_seeded() -> None:
    """The same seed kills the same processes at the same moments, all targets among them."""
    assert moments(0, 50, 20.0) == moments(0, 50, 20.0) != moments(1, 50, 20.0)
    assert {target for target, _ in moments(0, 50, 20.0)} == {"group", "parent", "worker"}
    assert all(0 <= after_seconds <= 20.0 for _, after_seconds in moments(0, 50, 20.0))


def test_the_committed_study_is_sound() -> None:
    """What validation/evidence/kills/ says of its runs is what its records say."""
    folder = REPOSITORY / "validation" / "evidence" / "kills"
    lines = (folder / "kills.jsonl").read_text(encoding="utf-8").splitlines()
    records = [KillRecord.model_validate_json(line) for line in lines]
    assert all(record.problems == () for record in records)
    assert f"{sum(record.was_hit for record in records)} runs" in (folder / "README.md").read_text(
        encoding="utf-8"
    )
