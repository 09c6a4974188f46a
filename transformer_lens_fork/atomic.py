"""Folders that appear whole or not at all, also after Ctrl-C or beside a second process."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_PREFIX = ".building-"


@contextmanager
def building_folder(parent: Path) -> Iterator[Path]:
    """A temporary folder inside `parent`: on the same disk, so what is built can be renamed.

    What processes that were killed have left there is removed first.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for folder in parent.glob(f"{_PREFIX}*"):
        _remove_abandoned(folder)
    temporary, held = _make(parent)
    try:
        with temporary as name:
            yield Path(name)
    finally:
        if held is not None:
            os.close(held)


def _make(parent: Path) -> tuple["tempfile.TemporaryDirectory[str]", int | None]:
    """A new folder and the descriptor that holds it, None where the file system has no locks."""
    while True:
        temporary = tempfile.TemporaryDirectory(
            prefix=_PREFIX, dir=parent, ignore_cleanup_errors=True
        )
        folder = Path(temporary.name)
        try:
            held = _hold(folder)
        except (BlockingIOError, FileNotFoundError):
            # Another process took it for abandoned in the instant before it was held.
            temporary.cleanup()
        else:
            return temporary, held


def _hold(folder: Path) -> int | None:
    """Holds the folder until the descriptor is closed, by this process or by its end.

    Returns:
        The descriptor; None where the file system has no locks.

    Raises:
        BlockingIOError: another process holds it.
        FileNotFoundError: another process has removed it.
    """
    if sys.platform == "win32":
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder.stat()
    except (BlockingIOError, FileNotFoundError):
        os.close(descriptor)
        raise
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_abandoned(folder: Path) -> None:
    try:
        held = _hold(folder)
    except OSError:  # somebody is at work in it, or it is no folder
        return
    if held is not None:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def replace_folder(path: Path, built: Path) -> None:
    """Renames the folder `built` to `path`, in place of what may be there.

    What was there ends beside `built`, to be removed with it, and comes back if the renaming fails.
    """
    replaced = built.with_name("replaced")
    if path.exists():
        path.rename(replaced)
    try:
        built.rename(path)
    except BaseException:
        if replaced.exists() and not path.exists():
            replaced.rename(path)
        raise
