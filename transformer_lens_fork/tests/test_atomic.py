"""Folders are replaced whole or not at all."""

from pathlib import Path

import pytest

from transformer_lens_fork.atomic import building_folder, replace_folder


def make(folder: Path, name: str) -> Path:
    """Makes a folder with one empty file."""
    folder.mkdir()
    (folder / name).touch()
    return folder


def test_folder_is_replaced(tmp_path: Path) -> None:
    """The new content is there, the old is gone with the folder it was built in."""
    path = make(tmp_path / "path", "old")
    with building_folder(tmp_path) as scratch:
        replace_folder(path, make(scratch / "built", "new"))
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_old_folder_comes_back(tmp_path: Path) -> None:
    """A renaming that fails halfway is undone."""
    path = make(tmp_path / "path", "old")
    with building_folder(tmp_path) as scratch, pytest.raises(FileNotFoundError):
        replace_folder(path, scratch / "never built")
    assert [file.name for file in path.iterdir()] == ["old"]


def test_interrupted_building_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C removes what was being built."""

    def interrupted() -> None:
        with building_folder(tmp_path) as scratch:
            make(scratch / "built", "new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
