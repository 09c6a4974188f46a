"""Upstream's formatters and type checker, and what they complain about in a tree."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from packaging.requirements import Requirement

from transformer_lens_fork.errors import VerificationError
from transformer_lens_fork.interpreter import unsatisfied

PINS = ("pycln==2.5.0", "isort==5.8.0", "black==23.12.1", "mypy==1.17.0")
"""The releases of upstream's `uv.lock`; 2.8.0 has no lock, and these are in its ranges."""

COMMANDS: dict[str, tuple[str, ...]] = {
    # As upstream's makefile has them (`check-format`), and its CI for mypy.
    "pycln": ("--check", "--all", ".", "--exclude", "__init__.py"),
    "isort": ("--check-only", "."),
    "black": ("--check", "."),
    "mypy": ("--no-incremental", "."),
}

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PLACE = re.compile(r"(\.pyi?):\d+(:\d+)?")

Complaints = Counter[str]
"""How often each is made; without line numbers, which every patch moves."""


def missing_tools() -> list[str]:
    """Those that are not installed in the pinned releases, in words."""
    return unsatisfied([Requirement(pin) for pin in PINS])


def refuse_other_tools() -> None:
    """Raises VerificationError unless the tools are installed in the pinned releases."""
    if problems := missing_tools():
        raise VerificationError(
            f"upstream's tools are missing: {', '.join(problems)}; `tox list` shows the "
            "environment that has them."
        )


def complaints(tool: str, tree: Path) -> Complaints:
    """What `tool` says of the files in `tree`.

    Raises:
        VerificationError: it ended in another way than with a verdict.
    """
    result = subprocess.run(
        [sys.executable, "-m", tool, *COMMANDS[tool]],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    output = _COLOUR.sub("", result.stdout + result.stderr)
    found = read_complaints(output, tree)
    # Each ends with 1 over a file that is not as it should be, and with more over its own trouble.
    if result.returncode > 1 or (result.returncode == 1) != bool(found):
        said = " ".join(output.strip().splitlines()[-3:])
        raise VerificationError(f"{tool} gives no verdict (status {result.returncode}): {said}")
    return found


def read_complaints(output: str, tree: Path) -> Complaints:
    """The lines that name a file of `tree`, each without its folder and its place in the file."""
    found: Complaints = Counter()
    for line in output.splitlines():
        text = " ".join(line.replace(f"{tree}/", "").split())
        if re.search(r"\.pyi?\b", text) and not re.search(r": note: ", text):
            found[_PLACE.sub(r"\1", text)] += 1
    return found
