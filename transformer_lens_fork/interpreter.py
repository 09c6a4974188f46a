"""Finds, or builds once, a Python that satisfies what a base requires.

The bases want different releases of transformers, so one environment cannot serve them all.
"""

import hashlib
import os
import subprocess
import sys
from email.parser import BytesParser
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from transformer_lens_fork.atomic import building_folder
from transformer_lens_fork.bases import Base
from transformer_lens_fork.errors import VerificationError
from transformer_lens_fork.layout import project_path
from transformer_lens_fork.progress import Report, silent
from transformer_lens_fork.sdist import cache_path, pristine_tree


def interpreter_for(base: Base, root: Path | None = None, report: Report = silent) -> Path:
    """A Python in which `base` and its fork import and run their tests.

    This one, if the installed packages satisfy the base; otherwise one in the user cache, built at
    the first call under the project's `constraints.txt`.

    Raises:
        VerificationError: the environment cannot be built.
    """
    wanted = requirements(base)
    if not unsatisfied(wanted):
        return Path(sys.executable)
    constraints = project_path(root) / "constraints.txt"
    arguments = [f"transformer-lens=={base.version}", *map(str, wanted)]
    key = hashlib.sha256("\n".join([sys.version, *arguments]).encode())
    if constraints.is_file():
        arguments += ["--constraint", str(constraints)]
        key.update(constraints.read_bytes())
    folder = cache_path() / "environments" / f"{base.name}-{key.hexdigest()[:16]}"
    python = folder / "bin" / "python"
    if not python.exists():
        _build(base, folder, arguments, report)
    return python


def requirements(base: Base) -> list[Requirement]:
    """What has to be installed here to run `base` and its tests: its own metadata and our pins."""
    with (pristine_tree(base) / "PKG-INFO").open("rb") as file:
        declared = BytesParser().parse(file).get_all("Requires-Dist", [])
    everything = [
        *map(Requirement, declared),
        Requirement(f"transformers{base.transformers}"),
        *map(Requirement, base.extra_requirements),
        Requirement("pytest"),
    ]
    return [
        requirement
        for requirement in everything
        # `extra` is empty: optional features are not tested.
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    ]


def unsatisfied(wanted: list[Requirement]) -> list[str]:
    """Those requirements, in words, that the running interpreter does not meet."""
    problems = []
    for requirement in wanted:
        try:
            installed = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            problems.append(f"{requirement} (not installed)")
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            problems.append(f"{requirement} (installed: {installed})")
    return problems


def _build(base: Base, folder: Path, arguments: list[str], report: Report) -> None:
    report(f"{base.name}: building an environment for it, once; this takes minutes")
    with building_folder(folder.parent) as scratch:
        built = scratch / "environment"
        _run(base, [sys.executable, "-m", "venv", str(built)])
        # Called as a module: the console scripts would not survive the renaming.
        pip = [str(built / "bin" / "python"), "-m", "pip"]
        _run(base, [*pip, "install", "--quiet", *arguments])
        # Another process may have been faster, and may be using it by now.
        if not folder.exists():
            built.rename(folder)


def _run(base: Base, command: list[str]) -> None:
    # tox sets both: the project's constraints are given, and its packages do not belong in there.
    ours = ("PIP_CONSTRAINT", "PYTHONPATH")
    variables = {name: value for name, value in os.environ.items() if name not in ours}
    result = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        reason = " ".join((result.stderr or result.stdout).strip().splitlines()[-3:])
        raise VerificationError(f"no environment for {base.name} can be built: {reason}")
