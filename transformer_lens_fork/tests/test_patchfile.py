"""Patch files are taken apart with the line each part stands on."""

import re
from pathlib import Path

import pytest

from transformer_lens_fork.git import Repository
from transformer_lens_fork.history import format_patches
from transformer_lens_fork.patchfile import MalformedPatchError, read_patch
from transformer_lens_fork.tests import synthetic


@pytest.fixture
def first(patches: Path) -> Path:
    """A patch of one hunk, as git wrote it."""
    return min(patches.glob("*.patch"))


def test_parts_and_their_lines(first: Path) -> None:
    """Message, trailers, file and hunk are where an editor shows them."""
    lines = first.read_text(encoding="utf-8").splitlines()
    patch = read_patch(first)
    assert [line.text for line in patch.reason] == [synthetic.REASON]
    assert [(key, value) for _, key, value in patch.trailers] == [
        tuple(trailer.split(": ", 1)) for trailer in synthetic.TRAILERS
    ]
    (change,) = patch.files
    assert change.path == synthetic.ROPE
    assert lines[change.number - 1] == f"diff --git a/{synthetic.ROPE} b/{synthetic.ROPE}"
    assert lines[change.index_number - 1] == f"index {change.before}..{change.after} 100644"
    (hunk,) = change.hunks
    assert lines[hunk.number - 1].startswith("@@ -17,7 +17,7 @@")
    assert [line.text for line in patch.added()] == ["+LINE_20 = 'first'"]
    assert all(lines[line.number - 1] == line.text for line in hunk.lines)


def test_folded_trailer_is_one(first: Path) -> None:
    """A trailer goes on where the next line is indented."""
    text = first.read_text(encoding="utf-8").replace("same\n", "same\n thing\n")
    first.write_text(text, encoding="utf-8")
    assert read_patch(first).trailers[-1][2] == "upstream does the same thing"


def test_last_paragraph_of_prose_is_no_trailer(first: Path) -> None:
    """Trailers that are followed by prose are part of the reason."""
    text = first.read_text(encoding="utf-8").replace("same\n", "same\n\nAnd so on.\n")
    first.write_text(text, encoding="utf-8")
    patch = read_patch(first)
    assert patch.trailers == []
    assert len(patch.reason) == 5


def test_new_deleted_and_unterminated_files(fork: Path, tmp_path: Path) -> None:
    """Hunks without an old or a new side, and without a last line feed, are read to their end."""
    files = {"tests/empty.py": "", "tests/new.py": "x = 1", "README.md": None, "kept.txt": "a\nb"}
    synthetic.commit(fork, files)
    tree = Repository.at(fork)
    (content,) = format_patches(tree, tree.text("rev-parse", "base"), "HEAD").values()
    path = tmp_path / "x.patch"
    path.write_bytes(content)
    changes = {change.path: change for change in read_patch(path).files}
    assert set(changes) == set(files)
    assert changes["tests/new.py"].before == "0" * 40
    assert changes["README.md"].after == "0" * 40
    assert changes["tests/empty.py"].hunks == ()
    assert [hunk.start for hunk in changes["tests/new.py"].hunks] == [1]
    assert len(changes["kept.txt"].hunks[0].lines) == 3


@pytest.mark.parametrize(
    ("pattern", "new", "says"),
    [
        (r"^From .*\n", "", "starts with `From `"),
        (r"^diff --git [\s\S]*", "", "changes no file"),
        (r" b/\S+$", " b/other.py", "does not name one plain file twice"),
        (r"^index .*\n", "", r"rope\.py has no `index` line"),
        (r"-17,7 \+17,7", "-17,9 +17,9", "the hunk of line 16 ends before its line counts do"),
        (r"-17,7 \+17,7", "-17,6 +17,6", "` LINE_23 = 23` is not part of a hunk"),
        (r"^ LINE_21", "?LINE_21", "the hunk of line 16 ends before its line counts do"),
        (r"\n\Z", "", "does not end with a line feed"),
        (r"^---[\s\S]*", "GIT binary patch\n", "is binary; patches of text are accepted"),
    ],
)
def test_malformed_patch_is_named(first: Path, pattern: str, new: str, says: str) -> None:
    """What git did not write is refused, at a line."""
    text, count = re.subn(
        pattern, new, first.read_text(encoding="utf-8"), count=1, flags=re.MULTILINE
    )
    assert count == 1
    first.write_text(text, encoding="utf-8")
    with pytest.raises(MalformedPatchError, match=says) as caught:
        read_patch(first)
    assert 1 <= caught.value.line <= text.count("\n") + 1


def test_empty_file_is_malformed(tmp_path: Path) -> None:
    """An empty file is no patch."""
    path = tmp_path / "x.patch"
    path.touch()
    with pytest.raises(MalformedPatchError):
        read_patch(path)
