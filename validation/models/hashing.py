"""Hashes that say which files a result was measured with."""

import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from validation.models.refusals import regular_file

_BLOB = re.compile(r"[0-9a-f]{64}")


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content.

    Raises:
        OSError: it is no regular file that can be read; `filename` says which.
    """
    target = path.resolve()
    if target.parent.name == "blobs" and _BLOB.fullmatch(target.name) and target.is_file():
        return target.name  # the hub's cache names large files by their sha256
    with regular_file(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_sha256(root: Path, paths: Iterable[Path]) -> str:
    """One sha256 over the names, relative to `root`, and contents of `paths`.

    Raises:
        OSError: one is no regular file that can be read; `filename` says which.
    """
    digest = hashlib.sha256()
    for path in sorted(paths):
        # As bytes: names on disk need not be UTF-8.
        name = os.fsencode(path.relative_to(root).as_posix())
        digest.update(f"{file_sha256(path)}  ".encode() + name + b"\n")
    return digest.hexdigest()


def json_sha256(value: object) -> str:
    """Over a value as JSON, whatever the order of its keys: of what a result depends on."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
