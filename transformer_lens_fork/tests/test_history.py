"""Commits from patches and patches from commits: the same on every machine, byte for byte."""

from pathlib import Path

import pytest

from transformer_lens_fork.bases import Base, load_bases
from transformer_lens_fork.errors import PinMismatchError
from transformer_lens_fork.git import GitError, Repository
from transformer_lens_fork.history import apply_patch, commit_base, format_patches
from transformer_lens_fork.tests import synthetic

HOSTILE = """
[core]
    autocrlf = true
    hooksPath = {hooks}
    abbrev = 4
    fileMode = false
    quotePath = false
[commit]
    gpgSign = true
[user]
    name = Somebody Else
    email = else@example.org
[init]
    templateDir = {hooks}
    defaultBranch = trunk
[i18n]
    commitEncoding = ISO-8859-1
[am]
    threeWay = true
    messageid = true
[apply]
    whitespace = fix
[format]
    signOff = true
    subjectPrefix = XX
    numbered = true
    attach = true
[diff]
    noprefix = true
    mnemonicPrefix = true
    algorithm = histogram
    context = 9
    suppressBlankEmpty = true
"""


@pytest.fixture
def hostile_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whose configuration, hooks, attributes, ignores and variables change everything."""
    home = tmp_path / "hostile home"
    hooks = home / "hooks"
    hooks.mkdir(parents=True)
    for name in ("pre-commit", "commit-msg", "applypatch-msg", "pre-applypatch", "post-checkout"):
        (hooks / name).write_text("#!/bin/sh\nexit 1\n")
        (hooks / name).chmod(0o755)
    (home / ".gitconfig").write_text(HOSTILE.format(hooks=hooks))
    (home / "git").mkdir()
    (home / "git" / "attributes").write_text("*.py text eol=crlf ident diff=python\n")
    (home / "git" / "ignore").write_text("*.py\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.setenv("GIT_DIR", str(home / "other.git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(home / "index"))
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody Else")
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2001-01-01T00:00:00")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("TZ", "Asia/Tokyo")


@pytest.mark.parametrize("name", list(load_bases()))
@pytest.mark.usefixtures("hostile_user")
def test_base_commit_is_reproducible(name: str, tmp_path: Path) -> None:
    """The pinned commit comes out under a hostile configuration, at another time and place."""
    base = load_bases()[name]
    repository = commit_base(base, tmp_path / "a tree")
    assert repository.resolve("refs/tags/base") == base.base_commit
    assert repository.resolve("refs/heads/llama31-rope") == base.base_commit
    assert repository.text("status", "--porcelain", "--ignored") == ""


def test_ignored_files_of_the_sdist_are_committed(base: Base, tmp_path: Path) -> None:
    """Upstream's .gitignore does not leave out a part of the sdist."""
    names = commit_base(base, tmp_path / "tree").lines("ls-files")
    assert sorted(names) == sorted(synthetic.FILES)


def test_other_base_commit_is_refused(base: Base, tmp_path: Path) -> None:
    """A tree that is not the pinned one is not built on."""
    other = base.model_copy(update={"base_commit": "1" * 40})
    message = f"becomes commit {base.base_commit}, but bases.toml pins base_commit 1111"
    with pytest.raises(PinMismatchError, match=message):
        commit_base(other, tmp_path / "tree")


@pytest.mark.usefixtures("hostile_user")
def test_round_trip_is_exact(base: Base, patches: Path, tmp_path: Path) -> None:
    """Patches applied and exported are the same bytes and the same commits, for any user."""
    repositories = [commit_base(base, tmp_path / name) for name in ("one", "two")]
    files = sorted(patches.glob("*.patch"))
    tips = [[apply_patch(repository, file) for file in files] for repository in repositories]
    assert tips[0] == tips[1]
    exported = format_patches(repositories[0], base.base_commit, "HEAD")
    assert exported == {file.name: file.read_bytes() for file in files}


@pytest.mark.parametrize(
    "subject",
    [
        "[Fix] brackets stay",
        "Re: so does this",
        "[PATCH 3/4] and even this",
        "Größe, in another alphabet: 模型",
        "a subject that is so long that the header of a mail has to fold it, which is undone later",
    ],
)
def test_any_subject_survives(base: Base, fork: Path, tmp_path: Path, subject: str) -> None:
    """`git am` neither strips nor mangles what `export` wrote."""
    tip = synthetic.commit(fork, {"tests/x.py": "x = 1\r\n"}, synthetic.message(subject))
    exported = format_patches(Repository.at(fork), base.base_commit, tip)
    (name, content), *_ = exported.items()
    (tmp_path / name).write_bytes(content)
    again = commit_base(base, tmp_path / "again")
    apply_patch(again, tmp_path / name)
    assert again.text("log", "-1", "--format=%s") == subject
    assert again.blob("HEAD", "tests/x.py") == b"x = 1\r\n"
    assert format_patches(again, base.base_commit, "HEAD") == exported


def test_export_ignores_the_forks_own_configuration(base: Base, patches: Path, fork: Path) -> None:
    """What the developer configures inside the fork does not change a byte."""
    settings = {
        "diff.noprefix": "true",
        "diff.algorithm": "histogram",
        "diff.context": "9",
        "diff.external": "/bin/false",
        "format.signOff": "true",
        "format.headers": "X-Evil: yes",
        "diff.python.xfuncname": "^LINE_1.*$",
        "core.abbrev": "5",
        "diff.orderFile": "/dev/null",
    }
    tree = Repository.at(fork)
    for name, value in settings.items():
        tree.run("config", name, value)
    exported = format_patches(tree, base.base_commit, "HEAD")
    assert exported == {file.name: file.read_bytes() for file in patches.glob("*.patch")}


def test_patch_that_does_not_apply_leaves_no_trace(base: Base, patches: Path, fork: Path) -> None:
    """The reason is git's, and the tree is as it was."""
    tree = Repository.at(fork)
    tip = tree.resolve("HEAD")
    with pytest.raises(GitError, match=r"patch failed: transformer_lens/rope\.py:17; .*not apply"):
        apply_patch(tree, min(patches.glob("*.patch")))
    assert tree.resolve("HEAD") == tip
    assert tree.text("status", "--porcelain") == ""
    assert not (tree.git_dir / "rebase-apply").exists()
