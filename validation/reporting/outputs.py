"""Refuses a folder that the results could not be written to, before anything is computed."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from transformer_lens_fork.errors import InputError
from validation.models.refusals import reason, shown
from validation.reporting.report import HTML, MARKDOWN, PLOT
from validation.reporting.results import RESULTS

LOGS = "logs"
"""What the worker processes print is kept in this folder."""


def refuse_unusable_folder(
    folder: Path, files: Iterable[str] = (RESULTS, MARKDOWN, HTML, PLOT)
) -> None:
    """Raises InputError unless `files` and logs could be written to `folder` now."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _try_writing(folder)
        for name in files:
            _refuse_no_file(folder / name)
        logs = folder / LOGS
        if logs.exists() or logs.is_symlink():
            _try_writing(logs)
            for log in logs.glob("*.log"):
                _refuse_no_file(log)
    except (OSError, ValueError) as error:  # ValueError: NUL in its name
        where = getattr(error, "filename", None) or str(folder)
        raise InputError(
            f"--out: {shown(str(folder))} cannot be written ({shown(where)}: {reason(error)}); a "
            "writable folder, empty or of an earlier run, is accepted."
        ) from None


def _try_writing(folder: Path) -> None:
    # Permissions do not tell of a full disk or one mounted read-only.
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"1")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None


def _refuse_no_file(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise FileExistsError(0, "Not a regular file", str(path))
