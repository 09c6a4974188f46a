"""An environment lies on top of this one, and what pip refuses is kept as its note."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from validation.__main__ import app
from validation.clients import environments
from validation.clients.catalogue import Client
from validation.clients.environments import NotInstallable, environment_for

_CLIENT = Client("standin", "standin", ("standin==1",), (), "none")


def _environment(
    client: Client, refused: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> tuple[environments.Environment, list[list[str]]]:
    """The environment where pip refuses commands with those words, and what was run for it."""
    run = environments._run
    commands: list[list[str]] = []

    def pip(command: list[str]) -> str:
        if "pip" not in command:
            return run(command)
        commands.append(command)
        if "--no-deps" not in command and set(refused) & set(command):
            raise NotInstallable("standin 1 depends on torch<1")
        return ""

    monkeypatch.setattr(environments, "_run", pip)
    monkeypatch.setattr(environments, "cache_path", lambda: folder)
    return environment_for(client, lambda _: None), commands


def test_packages_of_this_interpreter_are_beneath(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch is found and not installed; pip may not replace it; the second call builds nothing."""
    made, commands = _environment(_CLIENT, (), monkeypatch, tmp_path)
    assert made.note == ""
    assert any(word.startswith("torch==") for word in commands[0])
    found = environments._run([str(made.python), "-P", "-c", "import torch; print(torch.__file__)"])
    assert not Path(found).is_relative_to(tmp_path)
    assert environment_for(_CLIENT, lambda _: None) == made
    assert len(commands) == 1


def test_pins_that_exclude_ours_are_passed_over_and_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a client says what else it needs, it is installed without its dependencies."""
    client = Client("standin", "standin", ("standin==1",), (), "none", also=("nnsight",))
    made, commands = _environment(client, ("standin==1",), monkeypatch, tmp_path)
    assert made.note.endswith("without its dependencies: standin 1 depends on torch<1")
    assert "--no-deps" in commands[1]
    assert "nnsight" in commands[2]


def test_a_refusal_leaves_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an environment would be taken for a whole one."""
    with pytest.raises(NotInstallable, match="depends on torch<1"):
        _environment(_CLIENT, ("standin==1",), monkeypatch, tmp_path)
    assert list((tmp_path / "environments").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--only", "saelens"], "--only: 'saelens' is no client"),
        (["--only", "demos,"], "has an empty item"),
        (["--tree", "stock"], "--tree: 'stock' is not accepted"),
    ],
)
def test_bad_input_is_refused(arguments: list[str], says: str, tmp_path: Path) -> None:
    """One sentence and status 2, before anything is installed."""
    result = CliRunner().invoke(app, ["clients", "--out", str(tmp_path), *arguments])
    assert result.exit_code == 2
    assert says in result.stderr
