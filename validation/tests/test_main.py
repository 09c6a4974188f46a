"""The command line ends in one sentence, and what is cheap to refuse is refused first."""

import errno
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from transformer_lens_fork.errors import InputError, VerificationError
from validation.__main__ import _failures, app


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (InputError("--x: 'a' is not accepted."), "error: --x: 'a' is not accepted."),
        (VerificationError("a hash\ndiffers"), "error: a hash differs"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/o/r"),
            "No space left on device: '/o/r'",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device: 'OUT'"),
        (OSError("20480 requested and 0 written"), "20480 requested and 0 written: 'OUT'"),
        (PermissionError(errno.EACCES, "Permission denied", b"/x"), "Permission denied: "),
        (
            ModuleNotFoundError("none", name="numpy.linalg"),
            "'numpy' is not installed: `pip install",
        ),
    ],
)
def test_failures_are_one_sentence(
    error: Exception, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the user can mend, and what the system refuses: status 2, one line on stderr."""
    with pytest.raises(typer.Exit) as end, _failures(Path("OUT")):
        raise error
    assert end.value.exit_code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert sentence in shown.err
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError(),
        BrokenPipeError(),
        KeyboardInterrupt(),
        ModuleNotFoundError("none", name="validation.no_such"),
        ModuleNotFoundError("a library's own words"),
    ],
)
def test_a_bug_is_not_hidden(error: BaseException) -> None:
    """What is nobody's input keeps its traceback."""
    with pytest.raises(type(error)), _failures():
        raise error


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["--subjects", "fork,no-such-tree"], "--subjects"),
        (["--subjects", "~nobody-of-that-name/x"], "--subjects"),
        (["--out", "FILE"], "--out"),
        (["--out", "FULL"], "--out"),
        (["--device", "cuda:99"], "--device"),
        (["--gpus", "2"], "--gpus"),
        (["--gpus", "2", "--stream-layers"], "--gpus"),
        (["--shard", "3/2"], "--shard"),
        (["--base", "v9"], "BASE"),
        (["--checkpoint", "no-such-folder"], "--checkpoint"),
        (["--checkpoint", "~nobody-of-that-name/x"], "--checkpoint"),
    ],
)
def test_cheap_refusals_come_first(
    arguments: list[str], field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is fetched, built or unpacked for a request that cannot be served."""

    def costly(*_: object, **__: object) -> Path:
        raise AssertionError("refused too late")

    monkeypatch.setattr("validation.models.checkpoints.smollm2_folder", costly)
    monkeypatch.setattr("validation.models.checkpoints._fetch_from_hub", costly)
    monkeypatch.setattr("validation.models.trees.ensure_checkout", costly)
    monkeypatch.setattr("validation.models.trees.pristine_tree", costly)
    (tmp_path / "FILE").touch()
    (tmp_path / "FULL" / "report.md").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    sound = ["run", "--checkpoint", "smollm2", "--subjects", "stock,fork", "--out", "out"]
    result = CliRunner().invoke(app, [*sound, *arguments])
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith(f"error: {field}")
    assert result.stderr.count("\n") == 1


def test_a_report_of_no_run_is_refused(tmp_path: Path) -> None:
    """Nothing is written for folders that hold no results."""
    result = CliRunner().invoke(app, ["report", str(tmp_path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: FOLDERS: ")
    assert list((tmp_path / "out").iterdir()) == []
