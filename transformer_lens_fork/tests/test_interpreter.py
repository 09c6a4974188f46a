"""The interpreter that satisfies a base is found, or built from what pip offers."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from transformer_lens_fork import interpreter
from transformer_lens_fork.bases import Base, get_base
from transformer_lens_fork.errors import VerificationError
from transformer_lens_fork.interpreter import interpreter_for, requirements, unsatisfied


def make_wheel(folder: Path, name: str, version: str) -> None:
    """Writes a wheel that holds its own name."""
    stem = f"{name}-{version}"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        wheel.writestr(f"{stem}.dist-info/METADATA", metadata)
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{stem}.dist-info/WHEEL", tags)
        wheel.writestr(f"{stem}.dist-info/RECORD", "")
        wheel.writestr(f"{name}/__init__.py", f"VERSION = {version!r}\n")


@pytest.fixture
def index(tmp_path: Path, tarball: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is pip's only index: the tiny release, two releases of what it needs."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name, version in (("pytest", "9.0"), ("transformers", "4.0"), ("transformers", "999.1")):
        make_wheel(folder, name, version)
    (folder / tarball.name).write_bytes(tarball.read_bytes())
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


@pytest.fixture
def elsewhere(base: Base) -> Base:
    """The tiny release, wanting a transformers that is not installed here."""
    return base.model_copy(update={"transformers": ">=999"})


def test_requirements_are_metadata_and_pins(base: Base) -> None:
    """Optional features are left out; our own pins and pytest come on top."""
    pinned = base.model_copy(update={"extra_requirements": ("typeguard>=4",)})
    assert list(map(str, requirements(pinned))) == [
        "pytest>=7",
        "transformers>=4",
        "typeguard>=4",
        "pytest",
    ]


def test_real_requirements_are_read() -> None:
    """The old release declares its requirements in the old form."""
    names = {requirement.name: requirement for requirement in requirements(get_base("v2.8.0"))}
    assert "typeguard" in names
    assert not names["beartype"].specifier.contains("0.23.1")


def test_running_interpreter_serves(base: Base, project: Path) -> None:
    """Nothing is built where everything is there."""
    assert interpreter_for(base, project) == Path(sys.executable)


def test_unsatisfied_are_named() -> None:
    """Both an old version and an absent package."""
    wanted = [Requirement("pytest<1"), Requirement("no-such-package"), Requirement("pytest>=7")]
    installed = f"installed: {pytest.__version__}"
    assert unsatisfied(wanted) == [f"pytest<1 ({installed})", "no-such-package (not installed)"]


@pytest.mark.usefixtures("index")
def test_environment_is_built_once_under_constraints(
    elsewhere: Base, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second call finds it; other constraints want another one."""
    (project / "constraints.txt").write_text("pytest==9.0\n")
    reports: list[str] = []
    python = interpreter_for(elsewhere, project, reports.append)
    code = "import pytest, transformers; print(pytest.VERSION, transformers.VERSION)"
    printed = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout == "9.0 999.1\n"
    assert reports == ["v9.9.9: building an environment for it, once; this takes minutes"]
    monkeypatch.setattr(interpreter, "_build", None)
    assert interpreter_for(elsewhere, project) == python
    (project / "constraints.txt").write_text("pytest<9\n")
    with pytest.raises(TypeError):
        interpreter_for(elsewhere, project)


def test_impossible_environment_is_told(
    elsewhere: Base, project: Path, index: Path, cache: Path
) -> None:
    """The sentence has the reason that pip gives, and nothing half-built stays."""
    (index / "transformers-999.1-py3-none-any.whl").unlink()
    (project / "constraints.txt").write_text("# another environment\n")
    before = sorted((cache / "environments").glob("*"))
    message = r"no environment for v9\.9\.9 can be built: .*transformers>=999"
    with pytest.raises(VerificationError, match=message):
        interpreter_for(elsewhere, project)
    assert sorted((cache / "environments").glob("*")) == before
