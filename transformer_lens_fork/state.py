"""How a checked out fork relates to its patches: what may be replaced, and what is work."""

import hashlib
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from pathlib import Path

from transformer_lens_fork.bases import Base
from transformer_lens_fork.git import BRANCH, EXPENDABLE, GitError, Repository
from transformer_lens_fork.history import format_patches
from transformer_lens_fork.layout import fork_path, project_path, read_patches

CHECKED_OUT = "refs/parity/checked-out"
"""Where `checkout` left the branch: as long as it is there, nobody worked on it."""

_TIP = f"refs/heads/{BRANCH}"

_UNDER_WAY = {
    "rebase-apply": "a rebase or `git am`",
    "rebase-merge": "a rebase",
    "MERGE_HEAD": "a merge",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "BISECT_LOG": "a bisection",
}


class State(Enum):
    """How a fork relates to its patches. The values are messages for people."""

    ABSENT = "not checked out"
    IN_SYNC = "in sync with its patches"
    STALE = "nothing unexported, but its patches have changed"
    UNEXPORTED = "commits that are not in its patches"
    UNCOMMITTED = "uncommitted changes"
    FOREIGN = "not a checkout of this tool"


@dataclass(frozen=True)
class Checkout:
    """What was found where a fork is checked out.

    Attributes:
        path: its folder.
        state: how it relates to its patches.
        detail: which changes or commits, or what is wrong; empty where there is nothing to add.
        patches: what `export` would write, by file name; None where that cannot be told.
    """

    path: Path
    state: State
    detail: str = ""
    patches: dict[str, bytes] | None = None

    def __str__(self) -> str:
        return f"{self.state.value} ({self.detail})" if self.detail else self.state.value


def inspect(base: Base, root: Path | None = None) -> Checkout:
    """Looks at the fork of `base` without changing anything."""
    path = fork_path(base, root)
    if not path.is_symlink() and (not path.exists() or (path.is_dir() and not any(path.iterdir()))):
        return Checkout(path, State.ABSENT)
    if problem := _foreign(base, path):
        return Checkout(path, State.FOREIGN, problem)
    tree = Repository.at(path)
    if changes := _uncommitted(tree):
        return Checkout(path, State.UNCOMMITTED, changes)
    if problem := _not_a_series(base, tree):
        return Checkout(path, State.UNEXPORTED, problem)
    patches = format_patches(tree, base.base_commit, _TIP)
    if loose := _loose_commits(tree):
        return Checkout(path, State.UNEXPORTED, loose, patches)
    return _compare(tree, path, patches, read_patches(base, root), project_path(root))


def _compare(
    tree: Repository,
    path: Path,
    patches: dict[str, bytes],
    on_disk: dict[str, bytes],
    project: Path,
) -> Checkout:
    if patches == on_disk:
        # Elsewhere than on the branch, the files are not those of the fork.
        at_tip = tree.resolve("HEAD") == tree.resolve(_TIP)
        return Checkout(path, State.IN_SYNC if at_tip else State.STALE, patches=patches)
    if tree.resolve(CHECKED_OUT) == tree.resolve(_TIP):
        return Checkout(path, State.STALE, patches=patches)
    lost = [
        name
        for name, content in patches.items()
        if content not in on_disk.values() and not _is_committed(project, content)
    ]
    if lost:
        return Checkout(path, State.UNEXPORTED, _some(lost), patches)
    # Without one of its commits, or in another order: all of it is in the patches.
    return Checkout(path, State.STALE, patches=patches)


def _foreign(base: Base, path: Path) -> str | None:
    if path.is_symlink() or not path.is_dir():
        return "it is not a folder"
    if not (path / ".git").is_dir():
        return "it has no .git folder"
    tree = Repository.at(path)
    if tree.resolve("refs/tags/base") != base.base_commit:
        return f"its tag `base` is not commit {base.base_commit}"
    if tree.resolve(_TIP) is None:
        return f"it has no branch {BRANCH}"
    return None


def _uncommitted(tree: Repository) -> str | None:
    for marker, what in _UNDER_WAY.items():
        if (tree.git_dir / marker).exists():
            return f"{what} under way"
    # Spelled out: the developer's configuration may hide untracked files.
    changes = tree.lines("status", "--porcelain", "--untracked-files=all", "--no-renames")
    return _some([change[3:] for change in changes]) if changes else None


def _not_a_series(base: Base, tree: Repository) -> str | None:
    """Why the branch cannot be written as patches and read back, if so."""
    if not tree.succeeds("merge-base", "--is-ancestor", base.base_commit, _TIP):
        return f"branch {BRANCH} does not descend from the tag `base`"
    commits = f"{base.base_commit}..{_TIP}"
    if merges := tree.lines("rev-list", "--merges", commits):
        return f"branch {BRANCH} has the merge commit {merges[0]}"
    trees = [*tree.lines("log", "--format=%T", commits), tree.text("rev-parse", "base^{tree}")]
    if any(one == other for one, other in pairwise(trees)):
        return f"branch {BRANCH} has a commit that changes nothing"
    return None


def _loose_commits(tree: Repository) -> str | None:
    """Commits on other branches, in the stash, or on a detached HEAD."""
    subjects = tree.lines(
        *("log", "--format=%s", f"--exclude={CHECKED_OUT}", "--all", "HEAD", "--not", _TIP)
    )
    return f"outside branch {BRANCH}: {_some(subjects)}" if subjects else None


def _is_committed(project: Path, content: bytes) -> bool:
    """Whether some commit of the project's own repository has a file with these bytes."""
    if not (project / ".git").exists():
        return False
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    try:
        return bool(Repository.at(project).text("log", "--all", "-1", f"--find-object={blob}"))
    except GitError:  # it does not know that blob
        return False


def ignored_work(found: Checkout) -> str | None:
    """Untracked files that upstream's .gitignore hides from `git status`, if there are any."""
    patterns = [f"--exclude={pattern}" for pattern in EXPENDABLE]
    files = Repository.at(found.path).lines("ls-files", "--others", "--directory", *patterns)
    return _some(files) if files else None


def unexportable(base: Base, found: Checkout) -> str | None:
    """Why the fork cannot be exported, as a sentence that says what to do; None if it can."""
    if found.state is State.ABSENT:
        return f"{found.path} is {found}; run `checkout {base.name}` first."
    if found.state is State.FOREIGN:
        return f"{found.path} is {found}; move it away and run `checkout {base.name}`."
    if found.state is State.UNCOMMITTED:
        return f"{found.path} has {found}; commit or remove them first."
    if found.patches is None:
        return f"{found.path} cannot be exported: {found.detail}; rebase it onto `base`."
    if Repository.at(found.path).lines("rev-list", "HEAD", "--not", _TIP):
        return f"{found.path} has commits {found.detail}; move them to that branch first."
    return None


def _some(items: list[str]) -> str:
    shown = ", ".join(items[:3])
    return shown if len(items) <= 3 else f"{shown} and {len(items) - 3} more"
