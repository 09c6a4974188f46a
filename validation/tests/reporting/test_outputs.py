"""A folder that cannot take the results is refused before they are computed."""

import os
from pathlib import Path

import pytest

from transformer_lens_fork.errors import InputError
from validation.reporting.outputs import refuse_unusable_folder


def test_a_new_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    """What is tried leaves nothing behind."""
    refuse_unusable_folder(tmp_path / "a" / "out")
    assert list((tmp_path / "a" / "out").iterdir()) == []


def test_a_folder_of_an_earlier_run_is_accepted(tmp_path: Path) -> None:
    """It is left as it is."""
    (tmp_path / "logs").mkdir()
    for name in ("results.jsonl", "report.md", "report.html", "error_by_position.png", "notes"):
        (tmp_path / name).write_text("kept", encoding="utf-8")
    (tmp_path / "logs" / "fork-float32.log").write_text("kept", encoding="utf-8")
    refuse_unusable_folder(tmp_path)
    assert {path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == {"kept"}
    assert len(list(tmp_path.rglob("*"))) == 7


@pytest.mark.parametrize(
    "name",
    [
        "results.jsonl",
        "report.md",
        "report.html",
        "error_by_position.png",
        "logs/reference-float32.log",
    ],
)
@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_something_else_where_a_file_goes(tmp_path: Path, name: str, kind: str) -> None:
    """A folder or a pipe under the name of a file is named."""
    (tmp_path / "logs").mkdir()
    if kind == "folder":
        (tmp_path / name).mkdir()
    else:
        os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=rf"^--out: .*/{name}': Not a regular file\)"):
        refuse_unusable_folder(tmp_path)


@pytest.mark.parametrize("dangling", [False, True])
def test_logs_are_no_folder(tmp_path: Path, dangling: bool) -> None:
    """A file, or a link to nothing, where the folder of logs should be."""
    if dangling:
        (tmp_path / "logs").symlink_to(tmp_path / "nowhere")
    else:
        (tmp_path / "logs").touch()
    with pytest.raises(InputError, match=r"^--out: .* cannot be written \('.*/logs': N"):
        refuse_unusable_folder(tmp_path)


def test_out_is_a_file(tmp_path: Path) -> None:
    """Or below one."""
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(InputError, match=r"^--out: '.*' cannot be written"):
            refuse_unusable_folder(out)


@pytest.mark.parametrize("name", ["n" * 300, "a/" * 3000, "a\0b"])
def test_a_name_the_system_does_not_take(tmp_path: Path, name: str) -> None:
    """Too long, or with NUL."""
    with pytest.raises(InputError, match=r"^--out: '.*' cannot be written"):
        refuse_unusable_folder(tmp_path / name)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc")
def test_a_folder_that_takes_no_files() -> None:
    """That exists, and that nobody may write to, not even root."""
    with pytest.raises(InputError, match=r"^--out: '/proc/self' cannot be written"):
        refuse_unusable_folder(Path("/proc/self"))
