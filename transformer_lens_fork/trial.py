"""Runs each patch's tests with the patch and without it; `trial_rules` says what that means.

Everything happens in temporary trees, in an interpreter that satisfies the base.
"""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path, PurePosixPath
from threading import Lock

from transformer_lens_fork.git import Repository
from transformer_lens_fork.patchfile import Patch
from transformer_lens_fork.progress import Report

_PROBE = Path(__file__).with_name("probe.py")
_TIMEOUT_SECONDS = 1800


@dataclass(frozen=True)
class Run:
    """What one run of the probe reported.

    Attributes:
        died: why there are no results: no import, a crash, no end; None if there are.
        aborted: why pytest gave up, for example over a conftest; None if it did not.
        outcomes: `passed`, `failed`, `skipped` or `xfailed`, by test.
        errors: first line of the error, by test or by file that cannot be collected.
    """

    died: str | None = None
    aborted: str | None = None
    outcomes: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def outcome(self, test: str) -> str:
        """The outcome of `test`; a test that cannot even be collected has failed."""
        uncollected = self.aborted or test.partition("::")[0] in self.errors
        return self.outcomes.get(test, "failed" if uncollected else "absent")


@dataclass(frozen=True)
class Trial:
    """The runs that one patch is judged by.

    Attributes:
        patch: the patch.
        own: the test files that it adds or changes.
        before: those of them that are older than the series, as they were.
        without: all of them as the patch has them, on the sources without the patch.
        after: every test file that the series touched so far, with the patch.
    """

    patch: Patch
    own: tuple[str, ...]
    before: Run
    without: Run
    after: Run


def try_patches(
    repository: Repository, commits: list[str], patches: list[Patch], python: Path, report: Report
) -> Iterator[Trial]:
    """Runs the tests of each patch, with and without it.

    Args:
        repository: holds the commits.
        commits: the base commit, then one commit for each patch.
        patches: in the same order.
        python: an interpreter that satisfies the base.
        report: is told what is under way.
    """
    workers = _workers()
    with tempfile.TemporaryDirectory(prefix="parity-trial-") as folder:
        pool = ThreadPoolExecutor(workers)
        try:
            laboratory = _Laboratory(repository, python, Path(folder), pool)
            started = laboratory.start(commits)
            for number, (patch, runs) in enumerate(zip(patches, started, strict=True), 1):
                report(f"tests of patch {number} of {len(patches)}, {patch.path.name}")
                yield runs.collect(patch)
        finally:
            pool.shutdown(cancel_futures=True)


def _workers() -> int:
    return min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class _Started:
    own: tuple[str, ...]
    before: "Future[Run]"
    without: "Future[Run]"
    after: "Future[Run]"

    def collect(self, patch: Patch) -> Trial:
        runs = (self.before.result(), self.without.result(), self.after.result())
        return Trial(patch, self.own, *runs)


class _Laboratory:
    """Makes trees of the commits of a series, and runs the probe in them."""

    def __init__(
        self, repository: Repository, python: Path, folder: Path, pool: ThreadPoolExecutor
    ) -> None:
        self._repository = repository
        self._python = python
        self._folder = folder
        self._pool = pool
        self._worktrees = Lock()

    def start(self, commits: list[str]) -> list[_Started]:
        started = []
        known: list[str] = []
        for previous, commit in pairwise(commits):
            own = self._test_files(previous, commit)
            touched = self._test_files(commits[0], commit)
            # The others were run after the patch before this one.
            older = [file for file in own if file not in known and self._has(previous, file)]
            known = touched
            started.append(
                _Started(
                    own=tuple(own),
                    before=self._submit(older, previous),
                    without=self._submit(own, previous, overlay=commit),
                    after=self._pool.submit(self._run, touched, commit),
                )
            )
        return started

    def _submit(self, files: list[str], commit: str, overlay: str | None = None) -> "Future[Run]":
        if files:
            return self._pool.submit(self._run, files, commit, overlay)
        nothing: Future[Run] = Future()
        nothing.set_result(Run())
        return nothing

    def _test_files(self, previous: str, commit: str) -> list[str]:
        return [path for path in self._tests(previous, commit) if is_test_file(path)]

    def _tests(self, previous: str, commit: str) -> list[str]:
        """Files below `tests/` that `commit` has otherwise than `previous`."""
        names = self._repository.run(
            *("diff-tree", "-r", "-z", "--no-renames", "--name-only", "--diff-filter=d"),
            *(previous, commit, "--", "tests"),
        )
        return [name for name in names.decode().split("\0") if name]

    def _has(self, commit: str, file: str) -> bool:
        return self._repository.succeeds("cat-file", "-e", f"{commit}:{file}")

    def _run(self, files: list[str], commit: str, overlay: str | None = None) -> Run:
        """Imports the package of `commit`, then runs `files`; with the `tests/` of `overlay`."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            tree = Path(folder) / Path(folder).name
            with self._worktrees:
                arguments = ("--quiet", "--detach", str(tree), commit)
                self._repository.run("worktree", "add", *arguments)
            if overlay is not None:
                changed = self._tests(commit, overlay)
                Repository.at(tree).run("checkout", "--quiet", overlay, "--", *changed)
            return probe(self._python, tree, files)


def is_test_file(path: str) -> bool:
    """Whether pytest looks for tests in it."""
    name = PurePosixPath(path).name
    return fnmatch(name, "test_*.py") or fnmatch(name, "*_test.py")


def probe(python: Path, tree: Path, files: list[str], options: Sequence[str] = ()) -> Run:
    """Imports `transformer_lens` from `tree` and runs test `files` of it, in a process.

    Args:
        python: an interpreter that satisfies the base.
        tree: the working tree; what the process reports is written beside it.
        files: of the tree; without any, the package is only imported.
        options: of pytest.
    """
    events = tree.with_name("events.jsonl")
    try:
        result = subprocess.run(
            # -P: the probe's own folder must not be importable.
            [str(python), "-P", str(_PROBE), str(events), *options, *files],
            cwd=tree,
            env=_variables(tree),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return Run(died=f"the run did not end within {_TIMEOUT_SECONDS} seconds")
    output = (result.stdout + result.stderr).decode(errors="replace")
    return _read_events(events, result.returncode, output)


def _variables(tree: Path) -> dict[str, str]:
    # Those of a pytest or a git around this one would change what runs inside.
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_", "GIT_"))
    }
    paths = filter(None, [str(tree), kept.get("PYTHONPATH")])
    return kept | {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",
        # What a person's own cache happens to hold must not decide either.
        "HF_HOME": str(tree.with_name("hub")),
        # As many runs as cores: more threads would wait for each other.
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // _workers())),
        # What happens to be installed (a random order, say) must not decide; and it takes a second.
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }


def _read_events(report: Path, status: int, output: str) -> Run:
    lines = report.read_text(encoding="utf-8").splitlines() if report.exists() else []
    events = [json.loads(line) for line in lines]
    by_kind = {event["event"]: event for event in events}
    last = " ".join(output.strip().splitlines()[-1:])
    if failed := by_kind.get("import-failed"):
        return Run(died=f"transformer_lens does not import: {failed['why']}")
    if status != 0:
        name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return Run(died=f"the run died with {name}: {last}")
    # Missing if a test ended the process; 0 and 1 are results, and 5 is a file without tests.
    pytest_status = by_kind.get("finished", {"status": "no exit status"})["status"]
    if pytest_status not in (0, 1, 5):
        message = f"pytest ended early, with {pytest_status}: {last}"
        # 4 is a conftest that fails, which is a verdict on the tests; others are accidents.
        return Run(aborted=message) if pytest_status == 4 else Run(died=message)
    tests = [event for event in events if event["event"] == "test"]
    failures = [event for event in tests if event["outcome"] != "passed"]
    broken = [event for event in events if event["event"] == "broken"]
    return Run(
        outcomes={event["test"]: event["outcome"] for event in tests},
        errors={event["test"]: event["why"] for event in [*failures, *broken]},
    )
