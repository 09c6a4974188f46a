"""The command line: one sentence for bad input, and exit statuses that CI can use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from transformer_lens_fork.__main__ import app
from transformer_lens_fork.bases import Base
from transformer_lens_fork.tests import synthetic


def run(*arguments: str) -> Result:
    """Calls the command line."""
    return CliRunner().invoke(app, arguments)


def test_workflow(only_base: Base, project: Path) -> None:
    """checkout, commit, export, check, status: the way the help tells it."""
    fork = project / "transformer_lens_fork" / only_base.name
    assert run("checkout", "--all").stdout == f"v9.9.9: {fork}\n"
    synthetic.commit(fork, {synthetic.ROPE: synthetic.rope((20, "A = 1"))})
    name = "0001-rope-form-the-angle-from-the-inverse-frequency.patch"
    dry = run("export", "v9.9.9", "--dry-run")
    assert (dry.exit_code, dry.stdout) == (1, f"v9.9.9: would change {name}\n")
    assert run("export", "v9.9.9").stdout == f"v9.9.9: changed {name}\n"
    dry = run("export", "v9.9.9", "--dry-run")
    assert (dry.exit_code, dry.stdout) == (0, "v9.9.9: would change nothing\n")
    checked = run("check", "--static")
    assert (checked.exit_code, checked.stdout) == (0, "")
    assert "applying patch 1 of 1" in checked.stderr
    status = run("status").stdout
    for part in ("v9.9.9", "verified", "in sync", only_base.base_commit[:12]):
        assert part in status


def test_failed_check_prints_findings(only_base: Base, patches: Path) -> None:
    """Findings go to standard output, one a line; the exit status is 1."""
    (patches / "notes.txt").touch()
    result = run("check", only_base.name, "--static")
    assert result.exit_code == 1
    assert result.stdout == (
        "patches/v9.9.9/notes.txt:1: The file is neither a patch nor cover-letter.md.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("checkout",), "BASE is missing; accepted are v9.9.9, --all."),
        (("export",), "BASE is missing; accepted are v9.9.9, --all."),
        (("check", "v1"), "BASE is 'v1'; accepted are v9.9.9."),
        (("checkout", "../x"), "BASE is '../x'; accepted are v9.9.9."),
        (("checkout", "v9.9.9", "--all"), "BASE is 'v9.9.9' beside --all; one of the two is"),
        (("export", "v9.9.9"), "is not checked out; run `checkout v9.9.9` first."),
        (
            ("upstream", "v9.9.9", "--patches", "first", "--out", "out"),
            "--patches: 'first' is not accepted; 'all' and 'last' are.",
        ),
    ],
)
@pytest.mark.usefixtures("only_base")
def test_bad_input_is_one_sentence(arguments: tuple[str, ...], says: str) -> None:
    """Exit status 2, on standard error, without a traceback."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.usefixtures("only_base")
def test_broken_pins_are_bad_input(project: Path) -> None:
    """Also a mistake in bases.toml is answered with a sentence."""
    (project / "bases.toml").write_text("[v1]\nversion = 3\n")
    result = run("status")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "error: bases.toml: v1." in result.stderr


@pytest.mark.usefixtures("only_base")
def test_failed_verification_exits_with_1(patches: Path, fork: Path) -> None:
    """A patch that does not apply is no bad input."""
    fork.rename(patches / "away")
    min(patches.glob("*.patch")).unlink()
    result = run("checkout", "v9.9.9")
    assert result.exit_code == 1
    assert "error: patches/v9.9.9/0002-" in result.stderr


def test_help_teaches() -> None:
    """The help shows the workflow and every command; it needs no heavy import."""
    root = Path(__file__).parents[2]
    code = (
        "import sys; from transformer_lens_fork.__main__ import app\n"
        "try: app(['--help'])\n"
        "finally: assert not {'torch', 'transformers', 'tarfile'} & set(sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    for part in ("checkout v3.9.0", "export v3.9.0", "check v3.9.0", "Drop-when:", "Exit status"):
        assert part in result.stdout
    for command in ("checkout", "export", "check", "status"):
        assert "--help" in run(command, "--help").stdout
