"""A base and its patches as git commits, and commits as patch files: the two directions.

Both are deterministic: the same patches give the same commit SHAs, the same commits the same bytes.
"""

import re
import tempfile
from pathlib import Path

from transformer_lens_fork.bases import Base
from transformer_lens_fork.errors import InputError, PinMismatchError
from transformer_lens_fork.git import BRANCH, GitError, Repository
from transformer_lens_fork.layout import patches_path, project_path
from transformer_lens_fork.sdist import fetch, unpack

_NAME, _EMAIL = "llama31-rope-parity", "llama31-rope-parity@example.invalid"

COMMITTER = {"GIT_COMMITTER_NAME": _NAME, "GIT_COMMITTER_EMAIL": _EMAIL}
"""Of every patch that is applied, so that a fork's commits are the same everywhere."""

_FORMAT_PATCH = (
    "format-patch",
    # The fork's SHAs are not upstream's: zeros keep files the same whoever committed.
    "--zero-commit",
    # It would name the version of git.
    "--no-signature",
    # Whole blob SHAs: the preimages prove that a patch was made for this very base.
    "--full-index",
    # Repeats what the diff says, and changes with the width of the terminal.
    "--no-stat",
    # No [PATCH n/m]: inserting a patch must not change its neighbours. Needs `git am --keep`.
    "--keep-subject",
    # A rename is a guess by similarity; delete and add says what happens.
    "--no-renames",
    # Pinned, for defaults can change: they decide which of several correct diffs is written.
    "--diff-algorithm=myers",
    "--indent-heuristic",
    "--unified=3",
    "--quiet",
)

_AM = (
    "am",
    "--quiet",
    # A three-way merge would find a place for a patch that no longer fits.
    "--no-3way",
    # Leaves the subject as it is, the counterpart of format-patch --keep-subject.
    "--keep",
    # Files with CRLF stay so.
    "--keep-cr",
    "--no-scissors",
    # With a fixed committer, this makes a fork's commit SHAs reproducible.
    "--committer-date-is-author-date",
)


def commit_base(base: Base, folder: Path) -> Repository:
    """Makes `folder` a repository whose only commit is the sdist, tagged `base`.

    Raises:
        PinMismatchError: the sdist or the commit is not the one that is pinned.
    """
    repository, sha = commit_release(base, folder)
    if sha != base.base_commit:
        raise PinMismatchError(
            f"The sdist of {base.name} becomes commit {sha}, "
            f"but bases.toml pins base_commit {base.base_commit}.",
            base.base_commit,
        )
    return repository


def commit_release(base: Base, folder: Path) -> tuple[Repository, str]:
    """The same, whatever commit it becomes; and that commit.

    Raises:
        PinMismatchError: the sdist is not the one that is pinned.
    """
    unpack(fetch(base), folder)
    repository = Repository.create(folder)
    # Forced: upstream's own .gitignore must not leave out a part of the sdist.
    repository.run("add", "--all", "--force", ".")
    tree = repository.text("write-tree")
    message = (
        f"transformer_lens {base.version}, as published on PyPI\n\n"
        f"sdist sha256: {base.sdist_sha256}\n"
    )
    date = base.commit_date.strftime("%Y-%m-%dT%H:%M:%S%z")
    identity = {
        f"GIT_{role}_{field}": value
        for role in ("AUTHOR", "COMMITTER")
        for field, value in (("NAME", _NAME), ("EMAIL", _EMAIL), ("DATE", date))
    }
    commit = repository.run("commit-tree", tree, stdin=message.encode(), variables=identity)
    sha = commit.decode().strip()
    repository.run("update-ref", f"refs/heads/{BRANCH}", sha)
    repository.run("update-ref", "refs/tags/base", sha)
    return repository, sha


def apply_patch(repository: Repository, patch: Path) -> str:
    """Commits one patch onto the branch and returns the commit.

    Raises:
        GitError: it does not apply; the branch is as it was.
    """
    try:
        repository.run(*_AM, str(patch), variables=COMMITTER)
    except GitError as error:
        if (repository.git_dir / "rebase-apply").exists():
            repository.run("am", "--abort", variables=COMMITTER)
        raise GitError(_reason(str(error))) from None
    return repository.text("rev-parse", "HEAD")


def apply_series(repository: Repository, folder: Path) -> dict[str, str]:
    """Commits every patch in `folder`, in order; returns the commits by the patches' names.

    Raises:
        GitError: one does not apply; those before it stay.
    """
    return {patch.name: apply_patch(repository, patch) for patch in sorted(folder.glob("*.patch"))}


def _reason(output: str) -> str:
    errors = re.findall(r"^(?:error|fatal): (.+)$", output, flags=re.MULTILINE)
    return "; ".join(errors) or output.splitlines()[0]


def format_patches(repository: Repository, base_commit: str, tip: str) -> dict[str, bytes]:
    """The commits from `base_commit` to `tip` as patch files: content by file name, in order.

    They must be a line without merges.
    """
    commit = repository.text("rev-parse", "--verify", f"{tip}^{{commit}}")
    with tempfile.TemporaryDirectory() as folder:
        # From a bare repository beside it, so that its own configuration and attributes (prefixes,
        # context, diff drivers) do not change a byte.
        bare = Path(folder, "bare")
        bare.mkdir()
        output = Path(folder, "patches")
        Repository.create_bare(bare, repository.git_dir / "objects").run(
            *_FORMAT_PATCH, f"--output-directory={output}", f"{base_commit}..{commit}"
        )
        return {path.name: path.read_bytes() for path in sorted(output.glob("*.patch"))}


def compare_series(base: Base, since: str, root: Path | None = None) -> str:
    """What `git range-diff` says between the series of an earlier commit and today's.

    Args:
        base: whose series.
        since: a commit of the repository that holds `patches/`.
        root: that repository.

    Raises:
        InputError: there is no such commit, or it has no such series.
        GitError: a patch does not apply.
    """
    here = Repository.at(project_path(root))
    folder = f"patches/{base.name}/"
    commit = None if since.startswith("-") else here.resolve(since)
    names = [] if commit is None else here.lines("ls-tree", "--name-only", commit, folder)
    names = [name for name in names if name.endswith(".patch")]
    if not names:
        raise InputError(f"SINCE is {since!r}; a commit of this repository with {folder} is.")
    with tempfile.TemporaryDirectory() as scratch:
        tree = commit_base(base, Path(scratch, "tree"))
        earlier = Path(scratch, "earlier")
        earlier.mkdir()
        for name in names:
            content = here.run("cat-file", "blob", f"{commit}:{name}")
            (earlier / Path(name).name).write_bytes(content)
        ranges = []
        for series in (earlier, patches_path(base, root)):
            tree.run("reset", "--quiet", "--hard", base.base_commit)
            *_, tip = apply_series(tree, series).values()
            ranges.append(f"{base.base_commit}..{tip}")
        return tree.run("range-diff", "--no-color", *ranges).decode(errors="replace")
