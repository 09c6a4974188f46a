"""An environment for each release, built once by pip: what differs between releases, and no more.

An environment is a stack of layers, each a virtual environment that sees those below it: the
release with what only it needs, the transformers of its generation, and the packages of the
harness, torch among them, which all share. What pip installs into a layer hides what lies below.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from textwrap import shorten

from packaging.requirements import Requirement

from transformer_lens_fork.atomic import building_folder
from transformer_lens_fork.sdist import cache_path
from validation.audit.releases import Generation
from validation.models.sources import PACKAGE

_DISTRIBUTION = "transformer-lens"

_SHOWN = (
    *("torch", "transformers", "numpy", "safetensors", "tokenizers", "huggingface-hub"),
    *("accelerate", "datasets", "einops", "jaxtyping", "beartype", "typeguard"),
)
"""Packages whose versions are recorded: those that compute, and those that releases disagree on."""

_REPORT = "pip.json"

# Messages are published: not where this machine fetches packages from, nor the list of versions.
_URL = re.compile(r"\S*://\S+")
_LISTED = re.compile(r" *\(from versions: [^)]*\)")


class CannotInstall(Exception):
    """A release has no environment here; the message is pip's."""


@dataclass(frozen=True)
class Environment:
    """Where a release can be run.

    Attributes:
        python: its interpreter.
        tree: the folder with its `transformer_lens/`.
        wheel_sha256: of the file that PyPI has of it, None if it was installed here before.
        packages: versions that a process of it sees, by name.
        overridden: requirements that the release declares and that are not met here.
    """

    python: Path
    tree: Path
    wheel_sha256: str | None
    packages: dict[str, str]
    overridden: tuple[str, ...]


def environment_for(
    release: str, generation: Generation, report: Callable[[str], None]
) -> Environment:
    """The environment of a release, built at the first call.

    Everything that the release declares is resolved by pip: with the generation's transformers and
    with the torch that is installed here, which is the reference's. What it declares of these two
    does not count if it excludes them.

    Raises:
        CannotInstall: pip does not find the release, or what else it requires.
    """
    below: tuple[Path, ...] = (Path(sysconfig.get_path("purelib")),)
    transformers = f"transformers=={generation.transformers}"
    if metadata.version("transformers") != generation.transformers:
        wanted = (transformers, *generation.beside)
        name = f"transformers-{generation.transformers}"
        below = (_site(_layer(name, wanted, below, report)), *below)
    fixed = {"torch": metadata.version("torch"), "transformers": generation.transformers}
    layers = _release_layers(release, fixed, below, report)
    stack = (*map(_site, layers), *below)
    paths = [str(path) for path in stack]
    return Environment(
        python=layers[0] / "bin" / "python",
        # Below the layers if the harness' own packages happen to have this very release.
        tree=next(path for path in stack if (path / PACKAGE / "__init__.py").is_file()),
        wheel_sha256=next(filter(None, map(_wheel_sha256, stack)), None),
        packages={name: version for name in _SHOWN if (version := _version(name, paths))},
        overridden=_overridden(_declared(paths), fixed),
    )


def _release_layers(
    release: str, fixed: dict[str, str], below: tuple[Path, ...], report: Callable[[str], None]
) -> tuple[Path, ...]:
    """One with all it requires; or two, what of that does not exclude `fixed`, and it alone."""
    name, wheel = f"{_DISTRIBUTION}-{release}", f"{_DISTRIBUTION}=={release}"
    pins = tuple(f"{package}=={version}" for package, version in fixed.items())
    try:
        return (_layer(name, (wheel, *pins), below, report),)
    except CannotInstall as refusal:
        try:
            bare = _layer(f"{name}-alone", ("--no-deps", wheel), below, report)
        except CannotInstall:
            raise refusal from None
        declared = _declared([str(_site(bare))])
        dropped = _overridden(declared, fixed)
        if not dropped:
            raise
    others = tuple(str(r) for r in declared if str(r) not in dropped)
    return _layer(name, (*others, *pins), (_site(bare), *below), report), bare


def _declared(paths: list[str]) -> list[Requirement]:
    """What the release on these paths requires here, optional features left out."""
    found = next(iter(metadata.Distribution.discover(name=_DISTRIBUTION, path=paths)))
    requirements = map(Requirement, found.requires or ())
    return [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]


def _overridden(declared: list[Requirement], fixed: dict[str, str]) -> tuple[str, ...]:
    return tuple(
        str(requirement)
        for requirement in declared
        if (version := fixed.get(requirement.name))
        and not requirement.specifier.contains(version, prereleases=True)
    )


def _layer(
    name: str, wanted: tuple[str, ...], below: tuple[Path, ...], report: Callable[[str], None]
) -> Path:
    """The folder of a virtual environment with `wanted` on top of the folders `below`."""
    key = hashlib.sha256("\n".join([sys.version, *wanted, *map(str, below)]).encode())
    folder = cache_path() / "environments" / f"{name}-{key.hexdigest()[:16]}"
    if not folder.exists():
        report(f"installing {name}")
        with building_folder(folder.parent) as scratch:
            built = scratch / "environment"
            venv.create(built, symlinks=True)
            # Entries of a .pth file come after the environment's own packages.
            lines = "".join(f"{path}\n" for path in below)
            (_site(built) / "below.pth").write_text(lines, encoding="utf-8")
            _install(built, wanted)
            if not folder.exists():  # another process may have been faster
                built.rename(folder)
    return folder


def _site(layer: Path) -> Path:
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(layer)}))


def _install(layer: Path, wanted: tuple[str, ...]) -> None:
    # The interpreter's own pip, for the environment: one of its own would take longer to install
    # than most releases.
    command = [sys.executable, "-m", "pip", "--python", str(layer / "bin" / "python"), "install"]
    options = ["--no-input", "--report", str(_site(layer) / _REPORT)]
    # tox sets both: the project's constraints are for the harness, whose packages lie below.
    ours = ("PIP_CONSTRAINT", "PYTHONPATH")
    variables = {name: value for name, value in os.environ.items() if name not in ours}
    result = subprocess.run(
        [*command, *options, *wanted], env=variables, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise CannotInstall(_reason(result.stdout, result.stderr))


def _reason(output: str, errors: str) -> str:
    """What pip says of a failure: the conflict if there is one, else its errors."""
    _, conflict, details = output.partition("The conflict is caused by:")
    lines = [line for line in errors.splitlines() if line.startswith("ERROR:")]
    if conflict:
        lines = details.partition("\n\n")[0].splitlines()
        # A constraint is this machine's, not the release's.
        lines = [line for line in lines if "(constraint)" not in line]
    text = "; ".join(line.removeprefix("ERROR:").strip() for line in lines if line.strip())
    text = _LISTED.sub("", _URL.sub("the index", text))
    return shorten(" ".join(text.split()) or "pip failed", 400, placeholder=" ...")


def _wheel_sha256(site: Path) -> str | None:
    """Of the release, if pip installed it to this folder."""
    path = site / _REPORT
    report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"install": []}
    for item in report["install"]:
        if item["metadata"]["name"] in (_DISTRIBUTION, _DISTRIBUTION.replace("-", "_")):
            hashes: dict[str, str] = item["download_info"]["archive_info"]["hashes"]
            return hashes.get("sha256")
    return None


def _version(name: str, paths: list[str]) -> str | None:
    found = metadata.Distribution.discover(name=name, path=paths)
    return next((distribution.version for distribution in found), None)
