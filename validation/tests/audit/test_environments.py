"""Every release gets an environment of its own, of layers that others share."""

import subprocess
from pathlib import Path

import pytest
import torch

from validation.audit import environments
from validation.audit.environments import CannotInstall, Environment, environment_for
from validation.audit.releases import Generation
from validation.tests.audit.conftest import make_wheel

OLD = Generation(
    releases=">=2.7,<3",
    model="HookedTransformer",
    transformers="4.1.0",
    beside=("shared-by-all",),
    why="a test",
)


@pytest.fixture
def releases(index: Path) -> Path:
    """Two releases, the transformers that they run with, and what else they need."""
    for name, version in (("transformers", "4.1.0"), ("shared-by-all", "1.0"), ("only", "3.2")):
        make_wheel(index, name, version)
    make_wheel(index, "transformer-lens", "2.8.0", "torch", "transformers>=4", "only<4")
    make_wheel(index, "transformer-lens", "2.9.0", "torch", "only<4", "only>=3.3")
    make_wheel(index, "transformer-lens", "2.9.1", "torch<2", "transformers>=4.9", "only<4")
    return index


def _printed(environment: Environment, code: str) -> list[str]:
    command = [str(environment.python), "-P", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return result.stdout.split()


@pytest.mark.usefixtures("releases")
def test_a_release_sees_its_own_transformers_and_our_torch() -> None:
    """The packages of the harness lie below, hidden where the release has its own."""
    reports: list[str] = []
    environment = environment_for("2.8.0", OLD, reports.append)
    code = "import torch, transformers, only, shared_by_all, transformer_lens as t; "
    code += "print(torch.__version__, transformers.VERSION, only.VERSION, t.VERSION, t.__file__)"
    *versions, file = _printed(environment, code)
    assert versions == [torch.__version__, "4.1.0", "3.2", "2.8.0"]
    assert Path(file).is_relative_to(environment.tree)
    assert environment.packages["transformers"] == "4.1.0"
    assert environment.packages["torch"] == torch.__version__
    assert environment.wheel_sha256 is not None
    assert environment.overridden == ()
    assert reports == ["installing transformers-4.1.0", "installing transformer-lens-2.8.0"]


@pytest.mark.usefixtures("releases")
def test_an_environment_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second call finds it, and says the same."""
    first = environment_for("2.8.0", OLD, lambda _: None)
    monkeypatch.setattr(environments, "_install", None)
    assert environment_for("2.8.0", OLD, lambda _: None) == first


@pytest.mark.usefixtures("releases")
def test_what_pip_refuses_is_told(tmp_path: Path) -> None:
    """A conflict by what conflicts, a release that is not there by that; no half-built layer."""
    with pytest.raises(CannotInstall, match=r"2\.9\.0 depends on only>=3\.3"):
        environment_for("2.9.0", OLD, lambda _: None)
    with pytest.raises(CannotInstall, match=r"No matching distribution found for .*2\.12\.0"):
        environment_for("2.12.0", OLD, lambda _: None)
    built = [path.name for path in (tmp_path / "cache" / "environments").iterdir()]
    assert sorted(name.rpartition("-")[0] for name in built) == [
        "transformer-lens-2.9.0-alone",
        "transformers-4.1.0",
    ]


@pytest.mark.usefixtures("releases")
def test_bounds_that_exclude_our_torch_are_overridden_and_named() -> None:
    """What else the release requires is installed all the same."""
    environment = environment_for("2.9.1", OLD, lambda _: None)
    code = "import torch, transformers, only, transformer_lens; "
    code += "print(torch.__version__, transformers.VERSION, only.VERSION, transformer_lens.VERSION)"
    assert _printed(environment, code) == [torch.__version__, "4.1.0", "3.2", "2.9.1"]
    assert environment.overridden == ("torch<2", "transformers>=4.9")
    assert environment.wheel_sha256 is not None
    assert environment_for("2.9.1", OLD, lambda _: None) == environment


def test_messages_of_pip_are_fit_to_be_published() -> None:
    """Neither where packages come from nor the list of all versions."""
    errors = (
        "WARNING: look at https://mirror.example/simple/\n"
        "ERROR: Could not find a version that satisfies a==2 (from versions: 0.1, 0.2)\n"
        "ERROR: cannot fetch https://user:secret@mirror.example/simple/a/ now\n"
    )
    said = environments._reason("", errors)
    assert said == ("Could not find a version that satisfies a==2; cannot fetch the index now")
