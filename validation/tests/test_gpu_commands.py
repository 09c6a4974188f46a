"""What the README says is to be run on a GPU is accepted, and planned on a machine without one."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from validation.__main__ import app
from validation.reporting.readme import README

_NOT_PLANNED = ("--require", "--out", "--shard")
"""What concerns results alone, or which of the cases are run."""


def gpu_commands(name: str) -> list[list[str]]:
    """The README's options on CUDA of a command, of each line that has it."""
    text = README.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(rf"^python -m validation {name} (.*--device cuda.*)$", text, re.M)
    return [shlex.split(line) for line in lines]


def without(options: list[str], *dropped: str) -> list[str]:
    """The options but these, with their values."""
    values = [i + 1 for i, word in enumerate(options) if word in dropped]
    return [word for i, word in enumerate(options) if word not in dropped and i not in values]


@pytest.fixture(autouse=True)
def _without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def test_every_size_has_its_command() -> None:
    """Those that fit at every length, the others streamed, and the faults."""
    runs, (faults,) = gpu_commands("run"), gpu_commands("faults")
    found = {
        options[options.index("--checkpoint") + 1]: "--stream-layers" in options
        for options in runs
        if "--shard" not in options
    }
    kept = ("llama-3.2-1b", "llama-3.2-3b", "llama-3.1-8b")
    streamed = ("llama-3.1-70b", "llama-3.1-405b")
    assert found == {f"random:{size}": size in streamed for size in (*kept, *streamed)}
    assert "random:llama-3.2-1b" in faults


@pytest.mark.parametrize(
    "options", [*gpu_commands("run"), *gpu_commands("faults")], ids=lambda words: words[-1]
)
def test_it_is_planned_without_a_gpu(options: list[str]) -> None:
    """All of it fits; without the memory of a GPU nothing can be said of it."""
    words = ["plan", *without(options, *_NOT_PLANNED)]
    result = CliRunner().invoke(app, [*words, "--memory", "125g"])
    assert result.exit_code == 0, result.output
    says = "No CUDA device is here: memory is as --memory has it, and no time is known."
    assert says in result.stdout.splitlines()
    assert not re.search(r"\d s\b|minutes", result.stdout)
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 2
    assert "'cuda' by `plan` with --memory." in refused.stderr


@pytest.mark.parametrize("name", ["run", "faults"])
def test_nothing_but_the_gpu_is_missing(name: str, tmp_path: Path) -> None:
    """Its own words are accepted; --memory does not let it begin without CUDA."""
    for options in gpu_commands(name):
        words = [name, *without(options, "--out"), "--out", str(tmp_path), "--memory", "125g"]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2, result.output
        assert result.stderr.startswith("error: --device: 'cuda' is asked for and torch")
