"""A tree's hash follows its package, all of it, and nothing beside it."""

import os
import shutil
import time
from pathlib import Path

import pytest

from transformer_lens_fork.bases import get_base
from transformer_lens_fork.errors import InputError
from validation.models import sources
from validation.models.sources import source_sha256
from validation.models.trees import refuse_bad_folders, resolve_tree

BASE = get_base("v3.9.0")


def _ignore(_: str) -> None:
    """Reports nothing."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A clone in small: the package, and what else a repository has."""
    for name in (
        "transformer_lens/__init__.py",
        "transformer_lens/data/models.json",
        "tests/__init__.py",
        "docs/make_docs.py",
        "demos/conftest.py",
        "setup.py",
        "README.md",
        "experiments/run.py",
        "experiments/weights.bin",
        "results/log.txt",
    ):
        file = tmp_path / "tree" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("1\n", encoding="utf-8")
    linked = tmp_path / "elsewhere"
    linked.mkdir()
    (linked / "rope.py").write_text("1\n", encoding="utf-8")
    (tmp_path / "tree" / "transformer_lens" / "linked").symlink_to(linked)
    return tmp_path / "tree"


@pytest.mark.parametrize(
    "name",
    [
        "transformer_lens/__init__.py",
        "transformer_lens/new.py",
        "transformer_lens/data/models.json",
        "transformer_lens/kernel.cpython-311-x86_64-linux-gnu.so",
        "transformer_lens/sourceless.pyc",
        "transformer_lens/linked/rope.py",
        "transformer_lens/linked/data.bin",
    ],
)
def test_what_can_be_imported_counts(tree: Path, name: str) -> None:
    """A file of the package that is edited or added, also behind a link."""
    before = source_sha256(tree)
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_text("2\n", encoding="utf-8")
    assert source_sha256(tree) != before


@pytest.mark.parametrize(
    "name",
    [
        "transformer_lens/__pycache__/__init__.cpython-311.pyc",
        "helper.py",
        "torch/__init__.py",
        "tests/test_new.py",
        "docs/source/conf.py",
        "demos/demo.py",
        "setup.py",
        "README.md",
        "experiments/weights.bin",
        "results/log.txt",
        ".venv/lib/torch/__init__.py",
    ],
)
def test_what_is_not_imported_does_not_count(tree: Path, name: str) -> None:
    """Byte code, and what lies beside the package: a worker imports nothing of it."""
    before = source_sha256(tree)
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_text("2\n", encoding="utf-8")
    assert source_sha256(tree) == before


def test_links_in_circles_end(tree: Path) -> None:
    """A link to a folder above it is followed no further."""
    (tree / "transformer_lens" / "data" / "loop").symlink_to(tree / "transformer_lens")
    (tree / "transformer_lens" / "data" / "whole").symlink_to(tree)
    before = source_sha256(tree)
    (tree / "transformer_lens" / "linked" / "rope.py").write_text("2\n", encoding="utf-8")
    assert source_sha256(tree) != before


def test_names_on_disk_need_not_be_text(tree: Path) -> None:
    """A name that is no UTF-8 is hashed as the bytes it is."""
    before = source_sha256(tree)
    Path(os.fsdecode(os.fsencode(tree / "transformer_lens") + b"/\xff.txt")).touch()
    assert source_sha256(tree) != before


def test_real_trees_are_quick(fork: Path) -> None:
    """A real clone, with its tests and documents, takes less than a second."""
    start = time.perf_counter()
    assert len(source_sha256(fork)) == 64
    assert time.perf_counter() - start < 1


def test_a_dangling_link_is_named(tree: Path) -> None:
    """The refusal has the name of the link."""
    (tree / "transformer_lens" / "gone.py").symlink_to(tree / "nowhere")
    with pytest.raises(InputError, match=r"^--subjects: '.*gone\.py' cannot be read \(No such"):
        resolve_tree(str(tree), BASE, _ignore)


def test_a_pipe_is_not_waited_for(tree: Path) -> None:
    """Reading it would never end."""
    os.mkfifo(tree / "transformer_lens" / "pipe.py")
    with pytest.raises(InputError, match=r"pipe\.py' cannot be read \(Not a regular file\)"):
        resolve_tree(str(tree), BASE, _ignore)


def test_a_link_to_the_whole_disk_is_refused(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take hours."""
    monkeypatch.setattr(sources, "_MOST_FILES", 100)
    (tree / "transformer_lens" / "root").symlink_to("/usr")
    with pytest.raises(InputError, match="More than 100 files, or a link to them"):
        resolve_tree(str(tree), BASE, _ignore)


@pytest.mark.parametrize("spec", ["", "~nobody-of-that-name/x", "a" * 5000, "a/" * 3000, "a\0b"])
def test_odd_paths_are_refused(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths that the system itself does not accept are no tracebacks."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^--subjects: .* is accepted\.$"):
        refuse_bad_folders([spec])
    with pytest.raises(InputError, match=r"^--subjects: .* is accepted\.$"):
        resolve_tree(spec, BASE, _ignore)


def test_the_name_beside_the_hash_is_the_users(tree: Path, tmp_path: Path) -> None:
    """The same files under another name have the same hash."""
    copied = Path(shutil.copytree(tree, tmp_path / "copied"))
    first, second = (resolve_tree(str(path), BASE, _ignore) for path in (tree, copied))
    assert first.sha256 == second.sha256
    assert (first.name, second.name) == (str(tree), str(copied))
