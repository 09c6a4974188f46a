"""The round trip of a developer, who never loses work on the way."""

import hashlib
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from transformer_lens_fork import series
from transformer_lens_fork.bases import Base, get_base
from transformer_lens_fork.errors import InputError, VerificationError
from transformer_lens_fork.git import Repository
from transformer_lens_fork.series import (
    UnexportedWorkWarning,
    checkout,
    ensure_checkout,
    export,
    fork_path,
    series_sha256,
)
from transformer_lens_fork.state import State, inspect
from transformer_lens_fork.tests import synthetic


def contents(folder: Path) -> dict[str, bytes]:
    """Every file in `folder` by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_untouched_checkout_exports_the_same_bytes(
    base: Base, project: Path, patches: Path, fork: Path
) -> None:
    """Also the commits have the same SHAs each time."""
    before = contents(patches)
    shutil.rmtree(fork)
    tips = []
    for _ in range(2):
        checkout(base, project)
        tips.append(Repository.at(fork).resolve("llama31-rope"))
        assert export(base, project) == []
        shutil.rmtree(fork)
    assert tips[0] == tips[1]
    assert contents(patches) == before


def test_real_round_trip(project: Path) -> None:
    """A commit in the real v2.8.0 becomes a patch, which becomes the same tree."""
    base = get_base("v2.8.0")
    fork = checkout(base, project)
    path = fork / "transformer_lens" / "HookedTransformerConfig.py"
    synthetic.commit(fork, {"tests/test_new.py": "", str(path): path.read_text() + "\nNEW = 1\n"})
    tree = Repository.at(fork).text("rev-parse", "HEAD^{tree}")
    (written,) = export(base, project)
    assert written == "0001-rope-form-the-angle-from-the-inverse-frequency.patch"
    before = contents(project / "patches" / "v2.8.0")
    shutil.rmtree(fork)
    checkout(base, project)
    assert Repository.at(fork).text("rev-parse", "HEAD^{tree}") == tree
    assert export(base, project) == []
    assert contents(project / "patches" / "v2.8.0") == before


def test_export_rewrites_the_series(base: Base, project: Path, fork: Path, patches: Path) -> None:
    """New patches are written, stale ones removed, and the cover letter stays."""
    (patches / "cover-letter.md").write_text("Dear reviewer")
    before = sorted(path.name for path in patches.glob("*.patch"))
    Repository.at(fork).run("reset", "--quiet", "--hard", "HEAD~1")
    synthetic.commit(fork, {"tests/test_x.py": ""}, synthetic.message("tests: another"))
    changed = export(base, project, dry_run=True)
    assert changed == [before[1], "0002-tests-another.patch"]
    assert sorted(path.name for path in patches.glob("*.patch")) == before
    assert export(base, project) == changed
    after = sorted(path.name for path in patches.iterdir())
    assert after == [before[0], "0002-tests-another.patch", "cover-letter.md"]
    assert [path.name for path in patches.parent.iterdir()] == [base.name]


def test_export_needs_a_checkout(base: Base, project: Path) -> None:
    """The sentence says which command comes first."""
    with pytest.raises(InputError, match=r"is not checked out; run `checkout v9\.9\.9` first"):
        export(base, project)


def test_export_refuses_uncommitted_changes(base: Base, project: Path, fork: Path) -> None:
    """What is not committed would silently be left out."""
    (fork / "README.md").write_text("edited")
    with pytest.raises(InputError, match=r"has uncommitted changes \(README\.md\); commit or"):
        export(base, project)


def test_export_refuses_merges(base: Base, project: Path, fork: Path) -> None:
    """A merge has no patch."""
    tree = Repository.at(fork)
    tree.run("checkout", "--quiet", "-b", "side")
    synthetic.commit(fork, {"tests/side.py": ""}, "side")
    tree.run("checkout", "--quiet", "llama31-rope")
    identity = ("-c", "user.name=x", "-c", "user.email=x")
    tree.run(*identity, "merge", "--quiet", "--no-ff", "--no-edit", "side")
    with pytest.raises(InputError, match=r"has the merge commit \w+; rebase it onto `base`"):
        export(base, project)


def test_export_refuses_commits_beside_the_branch(base: Base, project: Path, fork: Path) -> None:
    """Commits on a detached HEAD would be left out, and the developer would not notice."""
    Repository.at(fork).run("checkout", "--quiet", "--detach")
    synthetic.commit(fork, {"tests/x.py": ""}, "beside")
    with pytest.raises(InputError, match="commits outside branch llama31-rope: beside; move them"):
        export(base, project)


def test_other_branches_do_not_hinder_export(base: Base, project: Path, fork: Path) -> None:
    """An idea on another branch is nobody's business but its author's."""
    tree = Repository.at(fork)
    tree.run("checkout", "--quiet", "-b", "idea")
    synthetic.commit(fork, {"tests/idea.py": ""}, "an idea")
    tree.run("checkout", "--quiet", "llama31-rope")
    assert export(base, project) == []


def test_checkout_keeps_work(base: Base, project: Path, fork: Path) -> None:
    """Unexported commits stay, and the sentence says what to do with them."""
    tip = synthetic.commit(fork, {"tests/x.py": ""}, "work")
    with pytest.raises(
        InputError, match=r"is left as it is: .*work\.patch\); run `export v9\.9\.9`"
    ):
        checkout(base, project)
    (fork / "README.md").write_text("edited")
    with pytest.raises(InputError, match=r"uncommitted changes \(README\.md\); commit them there"):
        checkout(base, project)
    assert Repository.at(fork).resolve("llama31-rope") == tip
    assert (fork / "README.md").read_text() == "edited"


def test_checkout_keeps_a_folder_that_is_not_its_own(base: Base, project: Path) -> None:
    """Whatever it is, it is not deleted."""
    path = fork_path(base, project)
    path.mkdir(parents=True)
    (path / "precious").touch()
    with pytest.raises(InputError, match=r"it has no \.git folder\); move it away"):
        checkout(base, project)
    assert (path / "precious").exists()


def test_checkout_keeps_ignored_files(base: Base, project: Path, patches: Path, fork: Path) -> None:
    """Files that upstream ignores are invisible to `git status`, and still somebody's."""
    shutil.rmtree(fork)
    checkout(base, project)
    (fork / "notes.log").write_text("measured all night")
    max(patches.glob("*.patch")).unlink()
    with pytest.raises(InputError, match=r"is not replaced: move notes\.log out of it first"):
        checkout(base, project)
    (fork / "notes.log").unlink()
    checkout(base, project)
    assert inspect(base, project).state is State.IN_SYNC


@pytest.mark.usefixtures("patches")
def test_checkout_is_complete_or_absent(
    base: Base, project: Path, fork: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C between two patches leaves no half of a fork."""
    shutil.rmtree(fork)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(series, "apply_patch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        checkout(base, project)
    assert list(fork.parent.iterdir()) == []


def test_checkout_names_the_patch_that_does_not_apply(
    base: Base, project: Path, patches: Path, fork: Path
) -> None:
    """The sentence has the file and git's reason, and nothing is left behind."""
    shutil.rmtree(fork)
    min(patches.glob("*.patch")).unlink()
    with pytest.raises(VerificationError, match=r"patches/v9\.9\.9/0002-.* does not apply: patch"):
        checkout(base, project)
    assert list(fork.parent.iterdir()) == []


def test_checkout_takes_no_patch_at_an_offset(
    base: Base, project: Path, fork: Path, edit: Callable[[str, str], int]
) -> None:
    """Applied silently by git, it would make another fork than the patch file says."""
    shutil.rmtree(fork)
    edit("@@ -17,7 +17,7 @@", "@@ -15,7 +15,7 @@")
    with pytest.raises(
        VerificationError, match=r"0001-.*is not what is exported .*--static` names"
    ):
        checkout(base, project)
    assert list(fork.parent.iterdir()) == []


def test_work_begun_during_checkout_is_kept(
    base: Base, project: Path, patches: Path, fork: Path
) -> None:
    """Between the look and the replacement, somebody edits."""
    shutil.rmtree(fork)
    checkout(base, project)
    max(patches.glob("*.patch")).unlink()

    def edit(_message: str) -> None:
        (fork / "README.md").write_text("edited")

    with pytest.raises(InputError, match="has changed meanwhile"):
        checkout(base, project, edit)
    assert (fork / "README.md").read_text() == "edited"


def test_ensure_makes_and_refreshes(base: Base, project: Path, patches: Path, fork: Path) -> None:
    """Absent or stale, the fork is made; in sync, it is left alone."""
    shutil.rmtree(fork)
    assert ensure_checkout(base, project) == fork
    inode = fork.stat().st_ino
    assert ensure_checkout(base, project).stat().st_ino == inode
    max(patches.glob("*.patch")).unlink()
    ensure_checkout(base, project)
    assert inspect(base, project).state is State.IN_SYNC
    assert (fork / synthetic.ROPE).read_text() == synthetic.rope((20, "LINE_20 = 'first'"))


def test_ensure_leaves_work_and_says_so(base: Base, project: Path, fork: Path) -> None:
    """What the developer is working on is what gets tested, with a warning."""
    (fork / "README.md").write_text("edited")
    with pytest.warns(UnexportedWorkWarning, match=r"used as it is: uncommitted .*README\.md"):
        assert ensure_checkout(base, project) == fork
    assert (fork / "README.md").read_text() == "edited"


def test_two_checkouts_at_once(base: Base, project: Path) -> None:
    """One of them wins, and the fork is whole."""
    errors: list[Exception] = []

    def run() -> None:
        try:
            ensure_checkout(base, project)
        except InputError as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert inspect(base, project).state is State.IN_SYNC


def test_series_hash_depends_on_names_and_bytes(base: Base, project: Path, patches: Path) -> None:
    """Another name, another byte or another order is another series; other files are not."""
    first = series_sha256(base, project)
    (patches / "cover-letter.md").write_text("Dear reviewer")
    assert series_sha256(base, project) == first
    hashes = {first}
    patch = max(patches.glob("*.patch"))
    patch.write_bytes(patch.read_bytes() + b"\n")
    hashes.add(series_sha256(base, project))
    patch.rename(patches / "0003-x.patch")
    hashes.add(series_sha256(base, project))
    assert len(hashes) == 3


def test_hash_of_no_series(base: Base, project: Path) -> None:
    """Without patches it is the hash of nothing."""
    assert series_sha256(base, project) == hashlib.sha256().hexdigest()
