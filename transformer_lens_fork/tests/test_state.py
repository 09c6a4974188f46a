"""What counts as work is recognised, whatever form it has."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from transformer_lens_fork.bases import Base
from transformer_lens_fork.git import Repository
from transformer_lens_fork.series import checkout
from transformer_lens_fork.state import State, inspect
from transformer_lens_fork.tests import synthetic


def test_absent_then_in_sync(base: Base, project: Path) -> None:
    """No folder and an empty one are the same; a checkout is in sync."""
    assert inspect(base, project).state is State.ABSENT
    (project / "transformer_lens_fork" / base.name).mkdir(parents=True)
    assert inspect(base, project).state is State.ABSENT
    checkout(base, project)
    assert inspect(base, project).state is State.IN_SYNC


def dirty_edit(fork: Path, _git: Repository) -> None:
    """Changes a file."""
    (fork / "README.md").write_text("edited")


def dirty_new(fork: Path, git: Repository) -> None:
    """Adds a file, with `git status` told to hide such."""
    git.run("config", "status.showUntrackedFiles", "no")
    (fork / "new.py").touch()


def dirty_staged(fork: Path, git: Repository) -> None:
    """Stages a file."""
    (fork / "new.py").touch()
    git.run("add", "new.py")


def stash(fork: Path, git: Repository) -> None:
    """Stashes a change."""
    (fork / "README.md").write_text("edited")
    git.run("-c", "user.name=x", "-c", "user.email=x", "stash", "--quiet")


def branch(fork: Path, git: Repository) -> None:
    """Commits on another branch."""
    git.run("checkout", "--quiet", "-b", "idea")
    synthetic.commit(fork, {"tests/x.py": ""}, "an idea")
    git.run("checkout", "--quiet", "llama31-rope")


def detached(fork: Path, git: Repository) -> None:
    """Commits on no branch."""
    git.run("checkout", "--quiet", "--detach")
    synthetic.commit(fork, {"tests/x.py": ""}, "detached")


def committed(fork: Path, _git: Repository) -> None:
    """Commits on the branch."""
    synthetic.commit(fork, {"tests/x.py": ""}, "third")


def emptied(_fork: Path, git: Repository) -> None:
    """Commits nothing on the branch."""
    arguments = ("-c", "user.name=x", "-c", "user.email=x", "commit", "--allow-empty")
    git.run(*arguments, "--quiet", "--message=nothing")


def merged(fork: Path, git: Repository) -> None:
    """Merges another branch."""
    git.run("checkout", "--quiet", "-b", "side", "base")
    synthetic.commit(fork, {"tests/side.py": ""}, "side")
    git.run("checkout", "--quiet", "llama31-rope")
    git.run("-c", "user.name=x", "-c", "user.email=x", "merge", "--quiet", "--no-edit", "side")


def unrelated(_fork: Path, git: Repository) -> None:
    """Moves the branch to a commit without parents."""
    tree = git.text("rev-parse", "HEAD^{tree}")
    identity = ("-c", "user.name=x", "-c", "user.email=x")
    git.run("reset", "--quiet", "--hard", git.text(*identity, "commit-tree", tree, "-m", "root"))


def bisecting(_fork: Path, git: Repository) -> None:
    """Begins a bisection."""
    (git.git_dir / "BISECT_LOG").touch()


def no_git(_fork: Path, git: Repository) -> None:
    """Removes the repository."""
    shutil.rmtree(git.git_dir)


def moved_tag(_fork: Path, git: Repository) -> None:
    """Moves the tag `base`."""
    git.run("tag", "--force", "base", "HEAD")


def no_branch(_fork: Path, git: Repository) -> None:
    """Renames the branch."""
    git.run("branch", "--quiet", "--move", "llama31-rope", "renamed")


@pytest.mark.parametrize(
    ("work", "state", "detail"),
    [
        (dirty_edit, State.UNCOMMITTED, "README.md"),
        (dirty_new, State.UNCOMMITTED, "new.py"),
        (dirty_staged, State.UNCOMMITTED, "new.py"),
        (bisecting, State.UNCOMMITTED, "a bisection under way"),
        (stash, State.UNEXPORTED, "outside branch llama31-rope: "),
        (branch, State.UNEXPORTED, "outside branch llama31-rope: an idea"),
        (detached, State.UNEXPORTED, "outside branch llama31-rope: detached"),
        (committed, State.UNEXPORTED, "0003-third.patch"),
        (emptied, State.UNEXPORTED, "has a commit that changes nothing"),
        (merged, State.UNEXPORTED, "has the merge commit "),
        (unrelated, State.UNEXPORTED, "does not descend from the tag `base`"),
        (no_git, State.FOREIGN, "it has no .git folder"),
        (moved_tag, State.FOREIGN, "its tag `base` is not commit "),
        (no_branch, State.FOREIGN, "it has no branch llama31-rope"),
    ],
)
@pytest.mark.usefixtures("patches")
def test_work_is_recognised(
    base: Base,
    project: Path,
    fork: Path,
    work: Callable[[Path, Repository], None],
    state: State,
    detail: str,
) -> None:
    """Each kind of work, or of damage, has its state and is named."""
    work(fork, Repository.at(fork))
    found = inspect(base, project)
    assert found.state is state
    assert detail in found.detail


def test_link_is_foreign(base: Base, project: Path, fork: Path, tmp_path: Path) -> None:
    """A link in place of the folder is not followed when it comes to replacing."""
    fork.rename(tmp_path / "elsewhere")
    fork.symlink_to(tmp_path / "elsewhere")
    assert inspect(base, project).state is State.FOREIGN


@pytest.mark.usefixtures("patches")
def test_leftovers_of_tools_are_no_work(base: Base, project: Path, fork: Path) -> None:
    """Byte code and caches do not make a tree dirty, though this release does not ignore them."""
    (fork / "transformer_lens" / "__pycache__").mkdir()
    (fork / "transformer_lens" / "__pycache__" / "rope.cpython-311.pyc").touch()
    (fork / ".pytest_cache").mkdir()
    (fork / ".pytest_cache" / "x").touch()
    assert inspect(base, project).state is State.IN_SYNC


def test_untouched_checkout_is_stale_when_patches_change(
    base: Base, project: Path, patches: Path, fork: Path
) -> None:
    """Nobody worked in it, so what it holds came from patches."""
    shutil.rmtree(fork)
    checkout(base, project)
    max(patches.glob("*.patch")).unlink()
    assert inspect(base, project).state is State.STALE


def test_exported_work_is_work_until_it_is_committed(
    base: Base, project: Path, patches: Path
) -> None:
    """Patches thrown away leave the fork as the only copy; committed ones do not."""
    last = max(patches.glob("*.patch"))
    content = last.read_bytes()
    last.unlink()
    found = inspect(base, project)
    assert (found.state, found.detail) == (State.UNEXPORTED, last.name)
    around = Repository.create(project)
    around.run("hash-object", "-w", "--stdin", stdin=content)
    assert inspect(base, project).state is State.UNEXPORTED
    last.write_bytes(content)
    synthetic.commit(project, {}, "patches")
    last.unlink()
    assert inspect(base, project).state is State.STALE


@pytest.mark.usefixtures("patches")
def test_other_commit_checked_out_is_not_in_sync(base: Base, project: Path, fork: Path) -> None:
    """The files are those of the base then: the fork's own have to come back before a test."""
    Repository.at(fork).run("checkout", "--quiet", "--detach", "base")
    assert inspect(base, project).state is State.STALE
