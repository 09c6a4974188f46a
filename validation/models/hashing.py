"""Hashes that say which files a result was measured with."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

_BLOB = re.compile(r"[0-9a-f]{64}")


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content."""
    target = path.resolve()
    if target.parent.name == "blobs" and _BLOB.fullmatch(target.name):
        return target.name  # the hub's cache names large files by their sha256
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_sha256(root: Path, paths: Iterable[Path]) -> str:
    """One sha256 over the names, relative to `root`, and contents of `paths`."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{file_sha256(path)}  {path.relative_to(root).as_posix()}\n".encode())
    return digest.hexdigest()
