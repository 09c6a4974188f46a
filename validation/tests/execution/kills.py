"""SIGKILL at random moments of real runs: `python -m validation.tests.execution.kills --help`.

Each run is killed once, run again to its end, and held against one that nothing disturbed.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import psutil

from transformer_lens_fork.bases import REPOSITORY, get_base
from transformer_lens_fork.series import ensure_checkout
from validation.reporting.records import Record, RecordFile
from validation.reporting.results import RESULTS, Result
from validation.tests.conftest import SMALLEST, save_checkpoint

Target = Literal["group", "parent", "worker"]
"""Who gets the signal: parent and workers at once, the parent alone, or the worker alone."""

_TURNS: tuple[Target, ...] = ("group", "group", "group", "parent", "worker")
_MEASURED = {
    *("seconds", "parts", "peak_memory_bytes"),
    *("reference_seconds", "reference_parts", "reference_peak_memory_bytes"),
}
"""Fields of a result that no two runs have in common; `measured_at` is the other one."""

_CONTEXTS = (64, 96)
_PATIENCE_SECONDS = 10.0
"""For orphans to notice that their parent has ended."""


class KillRecord(Record):
    """One killed run and what became of it.

    Attributes:
        number: counts from 0.
        target: who got the signal.
        after_seconds: when, from the start of the process.
        phase: the last that the run had said by then; empty if the signal came before.
        was_hit: whether there still was somebody to kill.
        finished: cases on disk by then.
        had_half_a_line: whether a record was being written.
        had_scratch: whether a scratch folder was left behind.
        problems: what did not hold after the second run; nothing may be here.
    """

    number: int
    target: Target
    after_seconds: float
    phase: str
    was_hit: bool
    finished: int
    had_half_a_line: bool
    had_scratch: bool
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """Runs of one request, and what it gives undisturbed.

    Attributes:
        folder: where everything is written.
        seconds: that an undisturbed run takes.
        expected: its results, by case key, without what no two runs have in common.
        files: what it leaves in OUT.
    """

    folder: Path
    seconds: float
    expected: dict[str, dict[str, Any]]
    files: frozenset[str]

    @classmethod
    def begin(cls, folder: Path) -> Self:
        """Makes the tiny checkpoint and a second tree, and runs both trees undisturbed."""
        save_checkpoint(folder / "checkpoint", **SMALLEST)
        fork = ensure_checkout(get_base("v3.9.0"))
        shutil.copytree(fork / "transformer_lens", folder / "copy" / "transformer_lens")
        out = folder / "undisturbed"
        start = time.monotonic()
        process = _start(folder, out)
        if status := process.wait():
            raise RuntimeError(f"status {status}: {_said(out)}")
        seconds = time.monotonic() - start
        results = _results((out / RESULTS).read_bytes())
        return cls(
            folder=folder,
            seconds=seconds,
            expected={result.provenance.case_key: comparable(result) for result in results},
            files=_files(out),
        )

    def strike(self, number: int, target: Target, after_seconds: float) -> KillRecord:
        """Kills a run, runs it again, and holds what is there against the undisturbed one."""
        out = self.folder / f"{number}"
        process = _start(self.folder, out)
        with suppress(subprocess.TimeoutExpired):
            process.wait(after_seconds)
        was_hit, problems = _kill(process, target)
        content = (out / RESULTS).read_bytes() if (out / RESULTS).exists() else b""
        record = {
            "phase": _phase(out),
            "had_half_a_line": not content.endswith(b"\n") and content != b"",
            "had_scratch": any(out.glob(".building-*")),
        }
        if target == "worker":  # the run goes on without it
            process.wait()
            content = (out / RESULTS).read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if status := _start(self.folder, out).wait():
            problems.append(f"the second run ended with status {status}: {_said(out)}")
        problems += self._compare(out, whole)
        if not problems:
            shutil.rmtree(out)
        finished = sum(result.is_finished for result in _results(whole))
        return KillRecord.model_validate(
            {
                **record,
                "number": number,
                "target": target,
                "after_seconds": round(after_seconds, 2),
                "was_hit": was_hit,
                "finished": finished,
                "problems": tuple(problems),
            }
        )

    def _compare(self, out: Path, before: bytes) -> list[str]:
        """What is wrong in `out` after the second run; `before` are the lines of the first."""
        content = (out / RESULTS).read_bytes()
        finished = [result for result in _results(content) if result.is_finished]
        found = {result.provenance.case_key: comparable(result) for result in finished}
        problems = []
        if not content.startswith(before):
            problems.append("lines of the killed run were changed")
        if not content.endswith(b"\n"):
            problems.append("half a line is left")
        for key, count in Counter(result.provenance.case_key for result in finished).items():
            if count > 1:
                problems.append(f"case {key[:8]} was finished {count} times")
        if found.keys() != self.expected.keys():
            problems.append(f"{len(found)} cases are finished, {len(self.expected)} were asked for")
        for key in found.keys() & self.expected.keys():
            ours, theirs = found[key], self.expected[key]
            if names := sorted(name for name in theirs if ours[name] != theirs[name]):
                problems.append(f"case {key[:8]} has other {', '.join(names)}")
        if unlike := _files(out) ^ self.files:
            problems.append(f"files that one run has and the other has not: {sorted(unlike)}")
        return problems


def moments(seed: int, runs: int, seconds: float) -> list[tuple[Target, float]]:
    """Whom to kill and when, uniform over `seconds`."""
    generator = random.Random(seed)
    return [(_TURNS[number % 5], generator.uniform(0, seconds)) for number in range(runs)]


def _start(folder: Path, out: Path) -> "subprocess.Popen[bytes]":
    out.mkdir(exist_ok=True)
    arguments: list[object] = ["--checkpoint", folder / "checkpoint", "--out", out, "--no-stages"]
    arguments += ["--subjects", f"fork,{folder / 'copy'}", "--threads", 1]
    arguments += ["--contexts", ",".join(map(str, _CONTEXTS))]
    with _log(out).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "validation", "run", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
            cwd=REPOSITORY,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPOSITORY)},
        )


def _kill(process: "subprocess.Popen[bytes]", target: Target) -> tuple[bool, list[str]]:
    """Whether somebody was there to kill, and which processes outlived their parent."""
    if process.poll() is not None:
        return False, []
    if target == "worker":
        return _kill_worker(process), []
    family = psutil.Process(process.pid).children(recursive=True)
    if target == "group":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while orphans := [child for child in family if _is_running(child)]:
        if time.monotonic() > deadline:
            return True, [f"{len(orphans)} processes outlived the parent"]
        psutil.wait_procs(orphans, timeout=0.05)
    return True, []


def _kill_worker(process: "subprocess.Popen[bytes]") -> bool:
    """Kills the worker that is there, or else the next one."""
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children():
                if "validation.execution.worker" in child.cmdline():
                    child.kill()
                    return True
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    return False


def _is_running(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _results(content: bytes) -> list[Result]:
    return [Result.model_validate_json(line) for line in content.split(b"\n")[:-1]]


def comparable(result: Result) -> dict[str, Any]:
    """What is the same in every run of the same case."""
    fields = result.model_dump(exclude=_MEASURED)
    del fields["provenance"]["measured_at"]
    return fields


def _files(out: Path) -> frozenset[str]:
    return frozenset(str(path.relative_to(out)) for path in out.rglob("*"))


def _log(out: Path) -> Path:
    return out.with_suffix(".stderr")


def _said(out: Path) -> list[str]:
    return _log(out).read_text(encoding="utf-8", errors="replace").splitlines()[-3:]


def _phase(out: Path) -> str:
    return (_said(out) or [""])[-1].replace(str(out.parent), "FOLDER")


def main() -> None:
    """Runs the study and writes a line a run to OUT/kills.jsonl; exits with 1 if one is unsound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    records = RecordFile(asked.out / "kills.jsonl", KillRecord, "killed run")
    # A campaign that was itself interrupted goes on where it was.
    done = {record.number for record in records.records}
    with tempfile.TemporaryDirectory() as folder:
        study = Study.begin(Path(folder))
        print(f"undisturbed: {study.seconds:.1f} s", flush=True)
        plan = list(enumerate(moments(asked.seed, asked.runs, study.seconds)))
        for number, (target, after_seconds) in plan:
            if number not in done:
                record = study.strike(number, target, after_seconds)
                records.append(record)
                print(record.model_dump_json(), flush=True)
    found = RecordFile(records.path, KillRecord, "killed run").records
    for who in get_args(Target):
        hit = [record for record in found if record.target == who and record.was_hit]
        print(f"{who}: {len(hit)} killed, {sum(bool(r.problems) for r in hit)} unsound")
    sys.exit(any(record.problems for record in found))


if __name__ == "__main__":
    main()
