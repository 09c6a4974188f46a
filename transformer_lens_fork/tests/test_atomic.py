"""Folders are replaced whole or not at all."""

import subprocess
import sys
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


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    """The next to build there clears it away, and leaves alone what others are building."""
    code = (
        "import os, pathlib, signal, sys\n"
        "from transformer_lens_fork.atomic import building_folder\n"
        "with building_folder(pathlib.Path(sys.argv[1])) as scratch:\n"
        "    (scratch / 'half').touch()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    [abandoned] = tmp_path.iterdir()
    assert (abandoned / "half").exists()
    with building_folder(tmp_path) as ours, building_folder(tmp_path) as theirs:
        assert sorted(tmp_path.iterdir()) == sorted((ours, theirs))
        with building_folder(ours) as inner:  # in a folder that is itself held
            assert inner.parent == ours
    assert list(tmp_path.iterdir()) == []
