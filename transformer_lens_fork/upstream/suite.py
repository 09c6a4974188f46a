"""Upstream's tests and docstring tests of a tree, in pieces that are kept as they are finished."""

import hashlib
import json
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from itertools import groupby
from pathlib import Path, PurePosixPath

from pydantic import TypeAdapter

from transformer_lens_fork.atomic import building_folder
from transformer_lens_fork.git import Repository
from transformer_lens_fork.progress import Report
from transformer_lens_fork.trial import Run, is_test_file, probe
from transformer_lens_fork.upstream.formats import Complaints, complaints

FOLDERS = ("tests/unit", "tests/integration", "tests/acceptance")
"""What `make test-pr` runs, beside the docstring tests of the package."""

_PACKAGE = "transformer_lens"
_FILES_AT_A_TIME = 16

_RUN = TypeAdapter(Run)


def pytest_options(type_checked: tuple[str, ...]) -> tuple[str, ...]:
    """Upstream's own, by which it checks types and shapes in `type_checked` at run time."""
    return (
        *("-m", "not slow"),
        *("-p", "jaxtyping._pytest_plugin", "-p", "pytest_doctestplus.plugin"),
        # As in upstream's pyproject.toml, but for --nbval: its notebooks need the hub.
        *("--doctest-modules", "--doctest-plus"),
        f"--jaxtyping-packages={','.join(type_checked)},beartype.beartype",
        *("-W", "ignore::beartype.roar.BeartypeDecorHintPep585DeprecationWarning"),
    )


@dataclass(frozen=True)
class Suite:
    """Runs pieces of the suite, and keeps what came of them.

    Attributes:
        python: an interpreter that satisfies the base.
        kept: folder of finished pieces.
        report: is told what is under way.
        options: of pytest.
        only: beginnings of the paths that are run; all if there are none.
    """

    python: Path
    kept: Path
    report: Report
    options: tuple[str, ...]
    only: tuple[str, ...] = ()

    def run(self, repository: Repository, commit: str, name: str) -> Run:
        """Every test of `commit`.

        Args:
            repository: holds the commit.
            commit: whose tests are run on whose sources.
            name: what the tree is called in messages.
        """
        every = cut(suite_files(repository, commit))
        pieces = [[file for file in files if self.takes(file)] for files in every]
        pieces = [files for files in pieces if files]
        if self.takes(_PACKAGE):
            pieces.append([_PACKAGE])
        whole = Run()
        with worktree(repository, commit) as tree:
            for number, piece in enumerate(pieces, 1):
                self.report(f"{name}: piece {number} of {len(pieces)}, from {piece[0]}")
                whole = merge(whole, self.run_files(repository, commit, tree, piece))
        return whole

    def takes(self, path: str) -> bool:
        """Whether the file, or the test in it, is run."""
        return not self.only or path.startswith(self.only)

    def run_files(
        self, repository: Repository, commit: str, tree: Path, files: list[str], overlay: str = ""
    ) -> Run:
        """The tests in `files`; where their process dies, each half by itself.

        Args:
            repository: holds the commit.
            commit: what `tree` has.
            tree: its files, with `overlay`'s tests if there is one.
            files: test files, or a folder of modules with docstring tests.
            overlay: commit whose `tests/` are there in place of its own.
        """
        kept = self.kept / f"{self._key(repository, commit, files, overlay)}.json"
        if kept.exists():
            return _RUN.validate_json(kept.read_bytes())
        run = probe(self.python, tree, files, self.options)
        if run.died and len(files) > 1:
            middle = len(files) // 2
            halves = files[:middle], files[middle:]
            runs = [self.run_files(repository, commit, tree, half, overlay) for half in halves]
            run = merge(*runs)
        elif problem := run.died or run.aborted:
            run = Run(errors=dict.fromkeys(files, problem))
        self._keep(kept, _RUN.dump_json(run))
        return run

    def complaints(self, repository: Repository, commit: str, tree: Path, tool: str) -> Complaints:
        """What one of upstream's tools says of `commit`, whose files are in `tree`."""
        kept = self.kept / f"{tool}-{self._key(repository, commit, [], '')}.json"
        if kept.exists():
            return Complaints(json.loads(kept.read_bytes()))
        found = complaints(tool, tree)
        self._keep(kept, json.dumps(found).encode())
        return found

    def _keep(self, path: Path, content: bytes) -> None:
        self.kept.mkdir(parents=True, exist_ok=True)
        with building_folder(self.kept) as scratch:
            (scratch / path.name).write_bytes(content)
            (scratch / path.name).replace(path)

    def _key(self, repository: Repository, commit: str, files: list[str], overlay: str) -> str:
        """Over everything that could change an outcome."""
        commits = [commit, *filter(None, [overlay])]
        ingredients = {
            "trees": [repository.text("rev-parse", f"{one}^{{tree}}") for one in commits],
            "files": files,
            "options": self.options,
            "python": platform.python_version(),
            "packages": sorted(
                f"{one.name}=={one.version}" for one in metadata.distributions() if one.name
            ),
        }
        return hashlib.sha256(json.dumps(ingredients).encode()).hexdigest()[:24]


@contextmanager
def worktree(repository: Repository, commit: str, overlay: str = "") -> Iterator[Path]:
    """The files of `commit` in a folder of their own, with `overlay`'s `tests/` if it is given."""
    with tempfile.TemporaryDirectory(prefix="parity-upstream-") as folder:
        tree = Path(folder).resolve() / "tree"
        repository.run("worktree", "add", "--quiet", "--detach", str(tree), commit)
        if overlay:
            Repository.at(tree).run("checkout", "--quiet", overlay, "--", "tests")
        try:
            yield tree
        finally:
            shutil.rmtree(tree, ignore_errors=True)
            repository.run("worktree", "prune")


def suite_files(repository: Repository, commit: str) -> list[str]:
    """Upstream's test files in `commit`, in order."""
    listed = repository.run("ls-tree", "-r", "-z", "--name-only", commit, "--", *FOLDERS)
    return [name for name in listed.decode().split("\0") if name and is_test_file(name)]


def cut(files: list[str]) -> Iterator[list[str]]:
    """Pieces of one folder's files each: they are the same whatever else is run."""
    for _, group in groupby(files, key=lambda file: PurePosixPath(file).parent):
        own = list(group)
        for start in range(0, len(own), _FILES_AT_A_TIME):
            yield own[start : start + _FILES_AT_A_TIME]


def merge(one: Run, other: Run) -> Run:
    """Both runs as one."""
    return Run(outcomes=one.outcomes | other.outcomes, errors=one.errors | other.errors)
