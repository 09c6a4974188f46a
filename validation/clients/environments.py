"""An environment for each client: its packages on top of those of this interpreter.

torch, transformers and the release's dependencies are not installed again: a `.pth` file adds the
packages of this interpreter behind those of the environment.
"""

import hashlib
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from transformer_lens_fork.atomic import building_folder
from transformer_lens_fork.layout import project_path
from transformer_lens_fork.sdist import cache_path
from validation.clients.catalogue import Client

_KEPT = ("torch", "transformers", "transformer-lens", "numpy")
"""The figures depend on them: pip may not replace them."""


class NotInstallable(Exception):
    """pip cannot install a client beside these versions; the message is what it said."""


@dataclass(frozen=True)
class Environment:
    """A Python with a client.

    Attributes:
        python: its interpreter.
        note: how it was made, where it was not as the client declares; else empty.
    """

    python: Path
    note: str


def environment_for(client: Client, report: Callable[[str], None]) -> Environment:
    """The client's environment, built in the user's cache at the first call.

    Raises:
        NotInstallable: pip refuses, even without the client's dependencies if that is allowed.
    """
    kept = [f"{name}=={version(name)}" for name in _KEPT]
    constraints = project_path() / "constraints.txt"
    ingredients = [sys.version, sys.prefix, *client.requirements, *client.also, *kept]
    key = hashlib.sha256("\n".join(ingredients).encode() + constraints.read_bytes()).hexdigest()
    folder = cache_path() / "environments" / f"{client.name}-{key[:16]}"
    if not folder.is_dir():
        report(f"{client.name}: building an environment for it, once")
        with building_folder(folder.parent) as scratch:
            built = scratch / "environment"
            note = _build(client, built, [*kept, "--constraint", str(constraints)])
            (built / "note.txt").write_text(note, encoding="utf-8")
            if not folder.is_dir():  # another process may have been faster
                built.rename(folder)
    note = (folder / "note.txt").read_text(encoding="utf-8")
    return Environment(folder / "bin" / "python", note)


def packages_of(environment: Environment, client: Client) -> dict[str, str]:
    """Versions of what decides what the client computes."""
    names = (client.package, *_KEPT)
    code = (
        "import json, sys\nfrom importlib.metadata import version\n"
        "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    )
    command = [str(environment.python), "-P", "-c", code, *names]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(result.stdout)
    return found


def _build(client: Client, folder: Path, kept: list[str]) -> str:
    """Makes the environment in `folder`; returns its note."""
    # pip is this interpreter's: it comes with the other packages.
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    python = folder / "bin" / "python"
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    own = Path(_run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]))
    (own / "beneath.pth").write_text("".join(f"{path}\n" for path in sorted(paths)))
    install = [str(python), "-m", "pip", "install"]
    try:
        _run([*install, *client.requirements, *kept])
    except NotInstallable as refusal:
        if not client.also:
            raise
        _run([*install, "--no-deps", *client.requirements])
        _run([*install, *client.also, *kept])
        return f"installed without its dependencies: {refusal}"
    return ""


def _run(command: list[str]) -> str:
    # tox sets both: the constraints are given, and the project's packages do not belong in there.
    ours = ("PIP_CONSTRAINT", "PYTHONPATH")
    variables = {name: value for name, value in os.environ.items() if name not in ours}
    result = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise NotInstallable(conflict(result.stdout + result.stderr))
    return result.stdout.strip()


def conflict(said: str) -> str:
    """What pip says is the matter: the requirements that exclude each other, or its last error."""
    lines = [line.strip() for line in said.splitlines()]
    if "The conflict is caused by:" in lines:
        # Of the lines that follow, those of the client come first; the constraints are our own.
        after = lines[lines.index("The conflict is caused by:") + 1 :]
        both = [line for line in after if " depends on " in line or "user requested" in line]
        return "; ".join(both[:3])
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["pip said nothing"])[-1]
