"""Invariants of the static rules; `test_check` breaks each rule once."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from transformer_lens_fork.git import Repository
from transformer_lens_fork.history import apply_patch, format_patches
from transformer_lens_fork.patchfile import read_patch
from transformer_lens_fork.rules import check_after, check_before
from transformer_lens_fork.tests import synthetic

# Few different lines: hunks that fit in several places. Lines that look like parts of a patch.
LINE = st.sampled_from(["a", "b", "", " ", "-- ", "+", "@@ -1 +1 @@", "\\ No", "diff --git", "ä"])
CONTENT = st.tuples(st.lists(LINE, max_size=30), st.sampled_from(["", "\n", "\r\n"])).map(
    lambda parts: "\n".join(parts[0]) + parts[1]
)
FEW = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def two_commits(folder: Path, old: str, new: str) -> tuple[Path, Repository]:
    """Commits both contents of a file; the branch ends at the first, the patch has the second."""
    tree = Path(tempfile.mkdtemp(dir=folder))
    repository = Repository.create(tree)
    base = synthetic.commit(tree, {"kept": "", "file": old})
    tip = synthetic.commit(tree, {"file": new})
    ((name, content),) = format_patches(repository, base, tip).items()
    repository.run("reset", "--quiet", "--hard", base)
    path = folder / name
    path.write_bytes(content)
    return path, repository


@FEW
@given(old=CONTENT, new=CONTENT)
def test_what_git_writes_has_no_findings(tmp_path: Path, old: str, new: str) -> None:
    """Whatever changes in a file, its patch fits exactly, before and after."""
    assume(old != new)
    path, repository = two_commits(tmp_path, old, new)
    patch = read_patch(path)
    assert list(check_before(repository, patch)) == []
    apply_patch(repository, path)
    assert list(check_after(repository, patch)) == []


@FEW
@given(old=CONTENT, new=CONTENT, other=CONTENT)
def test_another_file_is_always_found(tmp_path: Path, old: str, new: str, other: str) -> None:
    """A patch that meets a file it was not made for is named, even where git would apply it."""
    assume(len({old, new, other}) == 3)
    path, repository = two_commits(tmp_path, old, new)
    assert repository.work_tree is not None
    synthetic.commit(repository.work_tree, {"file": other})
    messages = [finding.message for finding in check_before(repository, read_patch(path))]
    assert "its preimage SHA is" in messages[0]
