"""Folders that appear whole or not at all, also after Ctrl-C or beside a second process."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def building_folder(parent: Path) -> Iterator[Path]:
    """A temporary folder inside `parent`: on the same disk, so what is built can be renamed."""
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=".building-", dir=parent, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


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
