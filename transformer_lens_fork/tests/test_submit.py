"""A series becomes a branch in a clone of upstream, which is otherwise left as it was."""

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from transformer_lens_fork.bases import Base
from transformer_lens_fork.errors import InputError, VerificationError
from transformer_lens_fork.git import Repository
from transformer_lens_fork.history import compare_series
from transformer_lens_fork.series import export
from transformer_lens_fork.submit import COVER_LETTER, submit
from transformer_lens_fork.tests import synthetic
from transformer_lens_fork.upstream.formats import COMMANDS, missing_tools

DEV = "the development line"


def git(folder: Path, *arguments: str) -> str:
    """Git as a user runs it there."""
    command = ["git", "-C", str(folder), "-c", "commit.gpgSign=false", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def upstream(base: Base, tmp_path: Path) -> Path:
    """A clone with the release's tag, of which the lock file differs, and a later commit on dev."""
    folder = tmp_path / "their clone"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=dev")
    git(folder, "config", "user.name", "A Reviewer")
    git(folder, "config", "user.email", "reviewer@example.org")
    for name, content in (synthetic.FILES | {"pyproject.toml": "# theirs\n"}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8", newline="\n")
    (folder / ".git" / "info" / "attributes").write_text("* -text\n", encoding="ascii")
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--message=release")
    git(folder, "tag", base.name)
    (folder / synthetic.ROPE).write_text(synthetic.rope((1, "LINE_1 = 'later'")), encoding="utf-8")
    git(folder, "commit", "--quiet", "--all", f"--message={DEV}")
    return folder


@pytest.fixture
def letter(patches: Path) -> Path:
    """The series with a cover letter."""
    (patches / COVER_LETTER).write_text("# Title\n\nDear reviewer\n", encoding="utf-8")
    return patches


def test_the_series_becomes_a_branch(
    base: Base, project: Path, letter: Path, upstream: Path
) -> None:
    """On the tag, with the clone's user as committer; what is checked out stays."""
    before = git(upstream, "rev-parse", "HEAD")
    made = submit(base, upstream, root=project, runs_gates=False)
    assert made.branch == "v9.9.9-llama31"
    assert made.elsewhere == ("pyproject.toml",)
    assert made.text == "# Title\n\nDear reviewer\n"
    assert git(upstream, "rev-parse", made.branch) == made.commit
    assert git(upstream, "merge-base", made.branch, base.name) == git(
        upstream, "rev-parse", base.name
    )
    subjects = git(upstream, "log", "--format=%s", f"{base.name}..{made.branch}").splitlines()
    assert len(subjects) == 2
    assert subjects[-1] == synthetic.SUBJECT
    log = git(upstream, "log", "--format=%B %cn %an", f"{base.name}..{made.branch}")
    assert "A Reviewer Dévelopeuse" in log
    assert synthetic.REASON in log
    assert "Forwarded:" not in log
    assert "A = 1" in git(upstream, "show", f"{made.branch}:{synthetic.ROPE}")
    assert git(upstream, "rev-parse", "HEAD") == before
    assert git(upstream, "status", "--porcelain") == ""
    assert git(upstream, "worktree", "list").count("\n") == 0


def test_the_first_patch_alone_brings_its_own_text(
    base: Base, project: Path, patches: Path, upstream: Path
) -> None:
    """A bug fix that needs nothing of the rest, onto the line where development goes on."""
    made = submit(base, upstream, count=1, onto="dev", root=project, runs_gates=False)
    assert made.branch == "v9.9.9-llama3-rope-tables"
    assert made.text == f"# {synthetic.SUBJECT}\n\n{synthetic.REASON}\n"
    assert git(upstream, "log", "--format=%s", "-2", made.branch).splitlines() == [
        synthetic.SUBJECT,
        DEV,
    ]
    content = git(upstream, "show", f"{made.branch}:{synthetic.ROPE}")
    assert "LINE_1 = 'later'" in content
    assert "LINE_20 = 'first'" in content


def test_a_tool_that_complains_of_more_leaves_no_branch(
    base: Base, project: Path, patches: Path, upstream: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here a checker that knows of every assignment to A; what it said before is upstream's."""
    found = {"LINE_1": 1}

    def check(_tool: str, tree: Path) -> Counter[str]:
        source = (tree / synthetic.ROPE).read_text(encoding="utf-8")
        return Counter(found | ({f"{synthetic.ROPE}: A": 1} if "A = 1" in source else {}))

    monkeypatch.setattr("transformer_lens_fork.submit.missing_tools", list)
    monkeypatch.setattr("transformer_lens_fork.submit.complaints", check)
    with pytest.raises(
        VerificationError, match=rf"^On the branch, pycln complains: {synthetic.ROPE}: A"
    ):
        submit(base, upstream, root=project)
    assert git(upstream, "branch", "--format=%(refname:short)") == "dev"


@pytest.mark.parametrize("is_right", [True, False])
def test_its_tests_run_there(
    is_right: bool, base: Base, project: Path, fork: Path, upstream: Path
) -> None:
    """One that fails leaves no branch."""
    test = f"from transformer_lens import rope\n\n\ndef test_it():\n    assert {is_right}\n"
    changed: dict[str, str | None] = {
        synthetic.ROPE: synthetic.rope((20, "LINE_20 = 'first'")),
        "tests/test_it.py": test,
    }
    synthetic.commit(fork, changed)
    export(base, project)
    if is_right:
        made = submit(base, upstream, count=1, root=project)
        assert made.tests == 1
        assert made.tools == (() if missing_tools() else tuple(COMMANDS))
        return
    with pytest.raises(
        VerificationError, match=r"^On the branch, tests/test_it\.py::test_it fails"
    ):
        submit(base, upstream, count=1, root=project)
    assert git(upstream, "branch", "--format=%(refname:short)") == "dev"
    assert git(upstream, "worktree", "list").count("\n") == 0


def test_a_tag_that_differs_where_a_patch_reaches_is_refused(
    base: Base, project: Path, letter: Path, upstream: Path
) -> None:
    """The patches were made for other lines."""
    git(upstream, "tag", "--force", base.name, "dev")
    with pytest.raises(VerificationError, match=rf"^{synthetic.ROPE} is not the same in the tag"):
        submit(base, upstream, root=project, runs_gates=False)


def test_a_conflict_is_named(base: Base, project: Path, letter: Path, upstream: Path) -> None:
    """And nothing is left of the attempt."""
    (upstream / synthetic.ROPE).write_text(synthetic.rope((20, "OTHER = 1")), encoding="utf-8")
    git(upstream, "commit", "--quiet", "--all", "--message=another way")
    with pytest.raises(VerificationError, match=rf"conflict there, in {synthetic.ROPE}"):
        submit(base, upstream, onto="dev", root=project, runs_gates=False)
    assert git(upstream, "branch", "--format=%(refname:short)") == "dev"
    assert git(upstream, "worktree", "list").count("\n") == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"count": 3}, r"--patches: 3 are more than the 2 of v9\.9\.9"),
        ({"onto": "nowhere"}, r"--onto: 'nowhere' is no commit"),
        ({"onto": "--help"}, r"--onto: '--help' is no commit"),
        ({"branch": "dev"}, r"--branch: 'dev' is there already"),
        ({"branch": "main"}, r"--branch: 'main' is not accepted"),
        ({"branch": "a..b"}, r"--branch: 'a\.\.b' is not accepted"),
    ],
)
def test_bad_input_is_refused(
    options: dict[str, object],
    says: str,
    base: Base,
    project: Path,
    patches: Path,
    upstream: Path,
) -> None:
    """Before anything is made."""
    with pytest.raises(InputError, match=rf"^{says}"):
        submit(base, upstream, root=project, **options)  # type: ignore[arg-type]


def test_a_folder_without_the_tag_is_refused(
    base: Base, project: Path, patches: Path, upstream: Path, tmp_path: Path
) -> None:
    """It is not upstream's, or its tags were not fetched."""
    git(upstream, "tag", "--delete", base.name)
    for folder in (upstream, tmp_path / "nothing"):
        with pytest.raises(InputError, match=r"^--upstream: .* has no tag v9\.9\.9"):
            submit(base, folder, root=project)


def test_series_are_compared(base: Base, project: Path, fork: Path, patches: Path) -> None:
    """What a reviewer has to look at anew; a commit without the series is refused."""
    history = Repository.create(project)
    synthetic.commit(project, {".gitignore": "transformer_lens_fork/\n"}, "first version")
    synthetic.commit(fork, {synthetic.ROPE: synthetic.rope((20, "LINE_20 = 'again'"))}, None)
    export(base, project)
    shown = compare_series(base, "HEAD", project)
    assert shown.splitlines()[0].startswith("1:  ")
    assert "= 1:" in shown
    assert "-:  ------- > 3:" in shown
    assert history.resolve("HEAD~1") is None
    with pytest.raises(InputError, match=r"^SINCE is 'HEAD~1'; a commit of this repository"):
        compare_series(base, "HEAD~1", project)
