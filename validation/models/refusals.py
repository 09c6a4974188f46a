"""Words for refusals: values and foreign exceptions, each short and on one line."""

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

from transformer_lens_fork.errors import InputError

_LONGEST = 200
"""Characters of a value or reason: enough to recognise it, and still a sentence."""


def shown(value: object) -> str:
    """The value as Python writes it, cut in the middle if it is long."""
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python is willing to print
        text = f"a {type(value).__name__} too long to print"
    return _cut(text)


def reason(error: BaseException) -> str:
    """What an exception says, on one line; its type if it says nothing."""
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
    elif isinstance(error, KeyError):  # its message is no more than the key
        text = f"{error} is missing"
    else:
        text = str(error)
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return _cut(" ".join(text.split())).rstrip(". ") or type(error).__name__


def regular_file(path: Path) -> Path:
    """The path, if a regular file is there: opening a pipe would wait for ever.

    Raises:
        OSError: there is none.
    """
    if not path.is_file():
        code = errno.EINVAL if path.exists() else errno.ENOENT
        says = "Not a regular file" if path.exists() else os.strerror(code)
        raise OSError(code, says, str(path))
    return path


def read_json_object(field: str, path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Args:
        field: the option that led to this file.
        path: the file.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    try:
        content = json.loads(regular_file(path).read_bytes().decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{field}: {shown(str(path))} cannot be read as JSON ({reason(error)}); an object in "
            "UTF-8 is accepted."
        ) from None
    if not isinstance(content, dict):
        raise InputError(
            f"{field}: {shown(str(path))} holds {shown(content)}; an object is accepted."
        )
    return content


def _cut(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    half = (_LONGEST - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"
