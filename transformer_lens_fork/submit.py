"""`submit`: a series, or the first patches of one, as a branch in a clone of upstream.

Nothing is pushed, and what is checked out in the clone stays as it is.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from transformer_lens_fork.bases import Base
from transformer_lens_fork.errors import InputError, VerificationError
from transformer_lens_fork.git import GitError, Repository
from transformer_lens_fork.history import commit_base
from transformer_lens_fork.interpreter import interpreter_for
from transformer_lens_fork.layout import patches_path, read_patches
from transformer_lens_fork.patchfile import Patch, read_patch
from transformer_lens_fork.progress import Report, silent
from transformer_lens_fork.trial import is_test_file, probe
from transformer_lens_fork.upstream.formats import (
    COMMANDS,
    Complaints,
    complaints,
    missing_tools,
)

COVER_LETTER = "cover-letter.md"


@dataclass(frozen=True)
class Submission:
    """What `submit` has left in the clone.

    Attributes:
        branch: its name.
        commit: its tip.
        text: of the pull request, its title in the first line.
        elsewhere: files that the tag has otherwise than the sdist, none of which a patch touches.
        tests: how many tests of the patches passed there; None if they were not run.
        tools: of upstream's formatters and type checker, those that complain of nothing more there
            than without the patches; empty if they are not installed in the pinned releases.
    """

    branch: str
    commit: str
    text: str
    elsewhere: tuple[str, ...]
    tests: int | None
    tools: tuple[str, ...]


def submit(
    base: Base,
    upstream: Path,
    *,
    count: int | None = None,
    onto: str | None = None,
    branch: str | None = None,
    runs_gates: bool = True,
    root: Path | None = None,
    report: Report = silent,
) -> Submission:
    """Makes a branch of the patches of `base` in the clone at `upstream`.

    The tag must have the files that the patches were made for. They are applied there with
    `git am -3`, without the trailers that are this repository's own, and rebased onto `onto`.

    Args:
        base: whose series.
        upstream: a clone of TransformerLens with its tags.
        count: how many patches, from the first on; all if None.
        onto: a revision of the clone that the branch starts from; the tag if None.
        branch: its name; else one that says what is in it.
        runs_gates: whether the tests of the patches, and upstream's tools, are run on the branch.
        root: the folder that holds `patches/`.
        report: is told what is under way.

    Raises:
        InputError: the clone, the number, the revision or the branch is not accepted.
        VerificationError: the tag differs where it must not, a patch does not apply, a test fails
            or a tool complains.
    """
    patches = _choose(base, count, root)
    clone = _clone(upstream, base)
    tag = f"refs/tags/{base.name}"
    start = _resolve(clone, tag if onto is None else onto)
    tools = tuple(COMMANDS) if runs_gates and not missing_tools() else ()
    name = branch or (f"{base.name}-llama3-rope-tables" if count == 1 else f"{base.name}-llama31")
    _refuse_name(clone, name)
    with tempfile.TemporaryDirectory(prefix="parity-submit-") as scratch:
        folder = Path(scratch)
        report(f"{base.name}: comparing the tag with the sdist")
        elsewhere = _compare(base, clone, patches, folder / "sdist")
        with _worktree(clone, start, folder / base.name) as tree:
            report(f"{base.name}: {', '.join(tools) or 'no tools'} without the patches")
            before = {tool: complaints(tool, folder / base.name) for tool in tools}
            tree.run("checkout", "--quiet", "--detach", tag)
            for number, patch in enumerate(patches, 1):
                report(f"{base.name}: patch {number} of {len(patches)}, {patch.path.name}")
                _apply(tree, patch, folder / "patch", _committer(upstream))
            if onto is not None:
                report(f"{base.name}: rebasing onto {onto}")
                _rebase(tree, start, tag, _committer(upstream))
            for tool in tools:
                report(f"{base.name}: {tool}")
                _refuse_more(tool, before[tool], complaints(tool, folder / base.name))
            passed = _test(base, tree, patches, root, report) if runs_gates else None
            commit = tree.text("rev-parse", "HEAD")
    # Fails if somebody has made it meanwhile.
    clone.run("update-ref", f"refs/heads/{name}", commit, "0" * 40)
    text = _pull_request(patches) if count == 1 else _cover_letter(base, root)
    return Submission(name, commit, text, elsewhere, passed, tools)


def _choose(base: Base, count: int | None, root: Path | None) -> list[Patch]:
    folder = patches_path(base, root)
    names = list(read_patches(base, root))
    if count is not None and count > len(names):
        raise InputError(f"--patches: {count} are more than the {len(names)} of {base.name}.")
    return [read_patch(folder / name) for name in names[:count]]


def _clone(upstream: Path, base: Base) -> Repository:
    clone = Repository.at(upstream.resolve())
    if not clone.git_dir.exists() or clone.resolve(f"refs/tags/{base.name}") is None:
        raise InputError(
            f"--upstream: {str(upstream)!r} has no tag {base.name}; a clone of TransformerLens "
            "with its tags (`git fetch --tags`) is accepted."
        )
    return clone


def _resolve(clone: Repository, revision: str) -> str:
    commit = None if revision.startswith("-") else clone.resolve(revision)
    if commit is None:
        raise InputError(f"--onto: {revision!r} is no commit of the clone; one is accepted.")
    return commit


def _refuse_name(clone: Repository, name: str) -> None:
    # Upstream's AGENTS.md: never a branch of these names.
    is_taken = clone.resolve(f"refs/heads/{name}") is not None
    is_name = clone.succeeds("check-ref-format", f"refs/heads/{name}")
    if is_taken or not is_name or name in ("main", "dev") or name.startswith("-"):
        why = "is there already" if is_taken else "is not accepted"
        raise InputError(f"--branch: {name!r} {why}; the name of a new branch is accepted.")


def _committer(upstream: Path) -> dict[str, str]:
    """Who commits: the clone's own user, whom the user's configuration may name."""

    def ask(field: str) -> str:
        result = subprocess.run(
            ["git", "-C", str(upstream), "config", f"user.{field}"],
            capture_output=True,
            text=True,
            check=False,
        )
        if not result.stdout.strip():
            raise InputError(
                f"--upstream: {str(upstream)!r} has no user.{field}; `git config user.{field} ...` "
                "in it is accepted."
            )
        return result.stdout.strip()

    return {f"GIT_COMMITTER_{field.upper()}": ask(field) for field in ("name", "email")}


def _compare(base: Base, clone: Repository, patches: list[Patch], folder: Path) -> tuple[str, ...]:
    """The sdist's files that the tag has otherwise.

    Raises:
        VerificationError: a patch touches one of them.
    """
    ours = _blobs(commit_base(base, folder), base.base_commit)
    theirs = _blobs(clone, f"refs/tags/{base.name}")
    touched = {change.path for patch in patches for change in patch.files}
    for path in sorted(touched):
        # The sdist need not hold everything: what it lacks has to be new in the tag as well.
        if ours.get(path) != theirs.get(path):
            raise VerificationError(
                f"{path} is not the same in the tag {base.name} as in the sdist that the patches "
                "were made for."
            )
    return tuple(path for path, blob in ours.items() if theirs.get(path) != blob)


def _blobs(repository: Repository, commit: str) -> dict[str, str]:
    entries = repository.run("ls-tree", "-r", "-z", commit).decode().split("\0")
    found = {}
    for entry in filter(None, entries):
        kind, _, path = entry.partition("\t")
        found[path] = kind.split()[2]
    return found


@contextmanager
def _worktree(clone: Repository, commit: str, folder: Path) -> Iterator[Repository]:
    clone.run("worktree", "add", "--quiet", "--detach", str(folder), commit)
    try:
        yield Repository.at(folder)
    finally:
        clone.run("worktree", "remove", "--force", str(folder))


def _apply(tree: Repository, patch: Patch, file: Path, committer: dict[str, str]) -> None:
    file.write_bytes(_without_trailers(patch))
    try:
        tree.run("am", "--quiet", "-3", "--keep", "--keep-cr", str(file), variables=committer)
    except GitError as error:
        with suppress(GitError):
            tree.run("am", "--abort", variables=committer)
        raise VerificationError(f"{patch.path.name} does not apply: {error}.") from None


def _without_trailers(patch: Patch) -> bytes:
    """The patch file, without what its message says to this repository alone."""
    own = {line.number for line, _, _ in patch.trailers}
    lines = patch.path.read_bytes().split(b"\n")
    return b"\n".join(line for number, line in enumerate(lines, 1) if number not in own)


def _rebase(tree: Repository, onto: str, tag: str, committer: dict[str, str]) -> None:
    try:
        tree.run("rebase", "--quiet", "--onto", onto, tag, variables=committer)
    except GitError as error:
        conflicts = ", ".join(tree.lines("diff", "--name-only", "--diff-filter=U"))
        with suppress(GitError):
            tree.run("rebase", "--abort", variables=committer)
        raise VerificationError(
            f"--onto: the patches conflict there, in {conflicts or error}; rebase a fork by hand "
            "and export it (CONTRIBUTING.md)."
        ) from None


def _refuse_more(tool: str, before: Complaints, after: Complaints) -> None:
    if more := after - before:
        raise VerificationError(f"On the branch, {tool} complains: {next(iter(more))}.")


def _test(
    base: Base, tree: Repository, patches: list[Patch], root: Path | None, report: Report
) -> int:
    """Runs the tests of the patches and returns how many passed.

    Raises:
        VerificationError: one did not.
    """
    assert tree.work_tree is not None
    files = sorted({c.path for p in patches for c in p.files if is_test_file(c.path)})
    report(f"{base.name}: running {len(files)} files of tests")
    run = probe(interpreter_for(base, root, report), tree.work_tree, files)
    if trouble := run.died or run.aborted:
        raise VerificationError(f"On the branch, {trouble}.")
    failed = [test for test, outcome in run.outcomes.items() if outcome == "failed"]
    if failed or run.errors.keys() - run.outcomes.keys():
        test = next(iter([*failed, *run.errors]))
        raise VerificationError(f"On the branch, {test} fails: {run.errors[test]}.")
    return sum(outcome == "passed" for outcome in run.outcomes.values())


def _pull_request(patches: list[Patch]) -> str:
    """Of a single patch: its own message."""
    (patch,) = patches
    own = {line.number for line, _, _ in patch.trailers}
    header = "\n".join(line.text for line in patch.header)
    title = re.sub(r"\n\s", " ", header).partition("\nSubject: ")[2].partition("\n")[0]
    body = "\n".join(line.text for line in patch.body if line.number not in own).strip()
    return f"# {title}\n\n{body}\n"


def _cover_letter(base: Base, root: Path | None) -> str:
    path = patches_path(base, root) / COVER_LETTER
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise VerificationError(
            f"{os.path.join('patches', base.name, COVER_LETTER)} cannot be read: {error.strerror}."
        ) from None
