"""Runs inside the interpreter of a base: imports a tree's package, runs test files, writes events.

A script without imports from this package, for that interpreter need not have it. One JSON object
a line, written at once, so that a crash loses nothing:

    {"event": "imported"}
    {"event": "import-failed", "why": ...}
    {"event": "broken", "test": ..., "why": ...}                  a file that cannot be collected
    {"event": "test", "test": ..., "outcome": ..., "why": ...}
    {"event": "finished", "status": ...}                          pytest's exit status
"""

import gc
import importlib
import json
import sys
from pathlib import Path
from typing import TextIO

import pytest

_RANKS = {"passed": 0, "skipped": 1, "xfailed": 2, "failed": 3}


class _Recorder:
    """Writes the outcome of each test once its last phase is over."""

    def __init__(self, events: TextIO) -> None:
        self._events = events
        self._worst: dict[str, tuple[str, str]] = {}

    def write(self, **event: str | int) -> None:
        self._events.write(json.dumps(event) + "\n")
        self._events.flush()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.write(event="broken", test=report.nodeid, why=_why(report))

    def pytest_collection_finish(self) -> None:
        # Upstream's conftest collects garbage after every test, most of a short one's time: what
        # is imported by now lives to the end, and need not be gone through each time.
        gc.collect()
        gc.freeze()
        gc.enable()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        xfailed = report.skipped and hasattr(report, "wasxfail")
        new = ("xfailed" if xfailed else report.outcome, _why(report))
        worst = max(self._worst.get(report.nodeid, new), new, key=lambda one: _RANKS[one[0]])
        self._worst[report.nodeid] = worst
        if report.when == "teardown":
            self.write(event="test", test=report.nodeid, outcome=worst[0], why=worst[1])


def _why(report: pytest.CollectReport | pytest.TestReport) -> str:
    lines = report.longreprtext.splitlines()
    # The second is doctest's.
    marks = ("E ", "UNEXPECTED EXCEPTION: ")
    errors = [line.removeprefix("E").strip() for line in lines if line.startswith(marks)]
    return next(iter([*errors, *lines]), "no reason given")


def _import(tree: Path) -> str | None:
    """Returns why `transformer_lens` cannot be imported from `tree`, if so."""
    try:
        package = importlib.import_module("transformer_lens")
    except BaseException as error:  # whatever the tree raises is the answer
        return f"{type(error).__name__}: {error}"
    if not Path(str(package.__file__)).resolve().is_relative_to(tree):
        return f"it comes from {package.__file__}"
    return None


def main(report: str, *arguments: str) -> int:
    """Writes the events of the tree in the working directory to `report`.

    Args:
        report: the file.
        arguments: of pytest, such as test files; without any, nothing is run.
    """
    tree = Path.cwd().resolve()
    gc.disable()  # while libraries are imported, until tests are collected: a fifth of that time
    # jaxtyping looks into modules as they are imported, which pytest then has to do.
    is_typed = any(argument.startswith("--jaxtyping-packages") for argument in arguments)
    with Path(report).open("w", encoding="utf-8") as events:
        recorder = _Recorder(events)
        if not is_typed and (problem := _import(tree)):
            recorder.write(event="import-failed", why=problem)
            return 1
        recorder.write(event="imported")
        options = [
            # Upstream's name plugins that need not be installed here.
            *("-o", "addopts="),
            *("-p", "no:cacheprovider"),
            f"--rootdir={tree}",
            "--quiet",
            # One file's missing import must not hide what the others say.
            "--continue-on-collection-errors",
        ]
        # Without arguments, pytest would run all tests it finds.
        status = pytest.main([*options, *arguments], plugins=[recorder]) if arguments else 0
        if is_typed and (problem := _import(tree)):
            recorder.write(event="import-failed", why=problem)
            return 1
        recorder.write(event="finished", status=int(status))
        return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
