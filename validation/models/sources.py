"""What of a source tree can change what it computes."""

import errno
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from validation.models.hashing import files_sha256

PACKAGE = "transformer_lens"

_MOST_FILES = 20_000
"""A hundred times as many as the package has."""


def source_sha256(tree: Path) -> str:
    """One sha256 over every file of the package: a worker imports nothing else from a tree.

    Links are followed. `__pycache__` is left out: it is keyed to its source.

    Raises:
        OSError: a file or folder cannot be read, or there are too many.
    """
    files = list(islice(_files(tree / PACKAGE), _MOST_FILES + 1))
    if len(files) > _MOST_FILES:
        raise OSError(errno.E2BIG, f"More than {_MOST_FILES} files, or a link to them", str(tree))
    return files_sha256(tree, files)


def _files(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """All files below `folder` but Python's own byte code; links are followed, but not in circles.

    Args:
        folder: where to look.
        above: the real paths of the folders that led here.
    """
    here = folder.resolve()
    if here in above:
        return
    for path in sorted(folder.iterdir()):
        if not path.is_dir():
            yield path
        elif path.name != "__pycache__":
            yield from _files(path, (*above, here))
