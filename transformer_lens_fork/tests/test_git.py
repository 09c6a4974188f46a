"""git sees its arguments, and nothing of the user's environment."""

import os
from pathlib import Path

import pytest

from transformer_lens_fork.git import GitError, Repository, environment


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """An empty repository."""
    return Repository.create(tmp_path)


def test_git_variables_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run from a hook, git would otherwise work on the hook's repository and index."""
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/elsewhere/index")
    variables = environment({"GIT_AUTHOR_NAME": "x"})
    assert "GIT_DIR" not in variables
    assert "GIT_INDEX_FILE" not in variables
    assert variables["GIT_AUTHOR_NAME"] == "x"
    assert variables["LC_ALL"] == "C"


def test_tree_without_git_is_not_the_one_around(tmp_path: Path) -> None:
    """A folder that lost its `.git` is an error, not a part of what is around it."""
    Repository.create(tmp_path)
    inner = tmp_path / "inner"
    inner.mkdir()
    with pytest.raises(GitError, match="not a git repository"):
        Repository.at(inner).run("status")


def test_failure_carries_gits_words(repository: Repository) -> None:
    """The message is what git printed."""
    with pytest.raises(GitError, match="'frobnicate' is not a git command"):
        repository.run("frobnicate")


def test_git_that_was_killed_is_told(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A git that prints nothing, as one that a signal ended, still makes a sentence."""
    (tmp_path / "git").write_text("#!/bin/sh\nkill -9 $$\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(GitError, match="git status ended with status -9"):
        repository.run("status")


def test_missing_folder_is_told(tmp_path: Path) -> None:
    """A folder that is not there is an error of ours, not a traceback."""
    with pytest.raises(GitError, match=r"git cannot be run: .*nowhere"):
        Repository.at(tmp_path / "nowhere").run("status")


def test_unknown_revision_is_none(repository: Repository) -> None:
    """An empty repository has no HEAD."""
    assert repository.resolve("HEAD") is None
    assert repository.blob("HEAD", "x") is None
    assert not repository.succeeds("cat-file", "-e", "HEAD")


def test_attributes_do_not_change_bytes(repository: Repository, tmp_path: Path) -> None:
    """A tree's own .gitattributes does not convert line ends, here or for the user's git."""
    (tmp_path / ".gitattributes").write_text("* text eol=crlf ident\n")
    (tmp_path / "x").write_bytes(b"a\r\nb\n$Id$\n")
    repository.run("add", ".")
    assert repository.run("cat-file", "blob", ":x") == b"a\r\nb\n$Id$\n"
    (tmp_path / "x").unlink()
    repository.run("checkout", "--", "x")
    assert (tmp_path / "x").read_bytes() == b"a\r\nb\n$Id$\n"
