"""Every rule of `check`, broken one at a time."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from transformer_lens_fork import bases
from transformer_lens_fork.bases import Base, get_base
from transformer_lens_fork.check import check
from transformer_lens_fork.git import Repository
from transformer_lens_fork.series import checkout, export
from transformer_lens_fork.tests import synthetic

Edit = Callable[[str, str], int]
FIRST = "patches/v9.9.9/0001-rope-form-the-angle-from-the-inverse-frequency.patch"


@pytest.fixture
def static(base: Base, project: Path, fork: Path) -> Callable[[], list[str]]:
    """Runs the static rules on the series, the fork being put away first."""

    def run() -> list[str]:
        shutil.rmtree(fork)
        return [str(finding) for finding in check(base, project, static_only=True)]

    return run


def test_good_series_has_no_findings(
    base: Base, project: Path, patches: Path, static: Callable[[], list[str]]
) -> None:
    """With and without a checkout, and with a cover letter."""
    (patches / "cover-letter.md").write_text("Dear reviewer")
    assert check(base, project, static_only=True) == []
    assert static() == []


def test_sdist_hash_mismatch(
    base: Base, project: Path, tmp_path: Path, tarball: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The finding names the line of the pin."""
    wrong = base.model_copy(update={"sdist_sha256": "d" * 64})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tarball.parent))
    pins = tmp_path / "bases.toml"
    pins.write_text("# pins\n\n" + "d" * 64)
    monkeypatch.setattr(bases, "PINS", pins)
    *_, finding = check(wrong, project)
    assert str(finding) == (
        "transformer_lens_fork/bases.toml:3: The sdist of transformer-lens 9.9.9 has sha256 "
        f"{base.sdist_sha256}, but bases.toml pins sdist_sha256 {'d' * 64}."
    )


def test_base_commit_mismatch(base: Base, project: Path) -> None:
    """A pin that is not in the file at all still gives a finding."""
    wrong = base.model_copy(update={"base_commit": "e" * 40})
    *_, finding = check(wrong, project)
    assert f"becomes commit {base.base_commit}, but bases.toml pins base_commit eee" in str(finding)


def test_offset(static: Callable[[], list[str]], edit: Edit) -> None:
    """A hunk that git would apply three lines further down."""
    line = edit("@@ -17,7 +17,7 @@", "@@ -14,7 +14,7 @@")
    message = f"The hunk applies to {synthetic.ROPE} only with offset +3."
    assert f"{FIRST}:{line}: {message}" in static()


def test_fuzz(static: Callable[[], list[str]], edit: Edit) -> None:
    """A context line that is not in the file."""
    line = edit("\n LINE_18 = 18", "\n LINE_18 = 81") + 1
    findings = static()
    assert (
        f"{FIRST}:{line}: The hunk would need fuzz: line 18 of {synthetic.ROPE} is "
        "`LINE_18 = 18`, not `LINE_18 = 81`."
    ) in findings
    assert any(f"{FIRST}:1: The patch does not apply: " in finding for finding in findings)


def test_hunk_past_the_end(static: Callable[[], list[str]], edit: Edit) -> None:
    """A hunk below the last line needs fuzz as well."""
    edit("@@ -17,7 +17,7 @@", "@@ -39,7 +39,7 @@")
    line = edit("\n LINE_19 = 19", "\n LINE_19 = 91") - 1
    assert f"{FIRST}:{line}: The hunk would need fuzz: line 39 of" in "\n".join(static())


@pytest.mark.parametrize("which", ["preimage", "postimage"])
def test_blob_mismatch(static: Callable[[], list[str]], edit: Edit, fork: Path, which: str) -> None:
    """A patch that was made for, or that makes, another file than it says."""
    commit = "base" if which == "preimage" else "HEAD~1"
    blob = Repository.at(fork).text("rev-parse", f"{commit}:{synthetic.ROPE}")
    line = edit(blob, "f" * 40)
    when = "before" if which == "preimage" else "after"
    assert (
        f"{FIRST}:{line}: {synthetic.ROPE} is blob {blob} {when} this patch, "
        f"but its {which} SHA is {'f' * 40}."
    ) in static()


def test_new_file_that_exists(static: Callable[[], list[str]], edit: Edit, fork: Path) -> None:
    """A preimage of zeros stands for a file that must not be there."""
    blob = Repository.at(fork).text("rev-parse", f"base:{synthetic.ROPE}")
    edit(blob, "0" * 40)
    assert f"is blob {blob} before this patch, but its preimage SHA is absent" in str(static())


@pytest.mark.usefixtures("patches")
def test_unexported_commit_is_drift(base: Base, project: Path, fork: Path) -> None:
    """A fork that is ahead of its patches."""
    synthetic.commit(fork, {"tests/x.py": ""}, synthetic.message("tests: ahead"))
    (finding,) = check(base, project, static_only=True)
    assert str(finding) == (
        "patches/v9.9.9/0003-tests-ahead.patch:1: "
        "The patch is missing here, but is exported from transformer_lens_fork/v9.9.9."
    )


@pytest.mark.usefixtures("patches")
def test_uncommitted_change_is_drift(base: Base, project: Path, fork: Path) -> None:
    """A fork with edits is not what the patches say."""
    (fork / "README.md").write_text("edited")
    (finding,) = check(base, project, static_only=True)
    message = "transformer_lens_fork/v9.9.9 differs from the patches: uncommitted changes"
    assert str(finding) == f"patches/v9.9.9:1: {message} (README.md)."


@pytest.mark.usefixtures("patches")
def test_patch_ahead_of_the_fork_is_drift(base: Base, project: Path, fork: Path) -> None:
    """A series with a patch that the fork lacks."""
    Repository.at(fork).run("reset", "--quiet", "--hard", "HEAD~1")
    (finding,) = check(base, project, static_only=True)
    assert "0002-" in finding.file
    assert finding.message == "No such patch is exported from transformer_lens_fork/v9.9.9."


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2026 03:04:05 +0100", "2026 03:04:05 +0100 (CET)"),
        ("Subject: rope", "Subject: [PATCH 1/2] rope"),
        (f"\n\n{synthetic.REASON}", f"\n\n\n{synthetic.REASON}"),
        ("From 0000000", "From 1111111"),
        ("100644", "100755"),
    ],
)
def test_patch_that_export_would_write_otherwise(
    static: Callable[[], list[str]], edit: Edit, old: str, new: str
) -> None:
    """A hand-edited patch that still applies is found by the round trip."""
    edit(old, new)
    assert any(FIRST in finding and "export" in finding for finding in static())


def test_renumbered_patch(static: Callable[[], list[str]], patches: Path) -> None:
    """Numbers are export's too."""
    last = max(patches.glob("*.patch"))
    last.rename(last.with_name(last.name.replace("0002", "0003")))
    findings = static()
    assert any("0003-" in finding and "No such patch" in finding for finding in findings)
    assert any("0002-" in finding and "missing here" in finding for finding in findings)


def test_message_without_reason(static: Callable[[], list[str]], edit: Edit) -> None:
    """A subject and trailers say what, not why."""
    edit(f"{synthetic.REASON}\n\n", "")
    message = "The message gives no reason: only a subject and trailers."
    assert f"{FIRST}:4: {message}" in static()


@pytest.mark.parametrize("trailer", synthetic.TRAILERS)
def test_missing_trailer(static: Callable[[], list[str]], edit: Edit, trailer: str) -> None:
    """Each of the three is asked for by name, with what it accepts."""
    edit(f"{trailer}\n", "")
    name = trailer.partition(":")[0]
    (finding,) = (text for text in static() if "no trailer" in text)
    # At the end of what is left of the message.
    assert finding.startswith(f"{FIRST}:9: The message has no trailer `{name}:`; accepted is ")


@pytest.mark.parametrize(
    ("trailer", "value"),
    [
        ("Forwarded", "maybe"),
        ("Forwarded", "yes"),
        ("Forwarded", "not-needed"),
        ("Forwarded", "nope"),
        ("Forwarded", ""),
        ("Bug", ""),
        ("Drop-when", ""),
    ],
)
def test_bad_trailer(static: Callable[[], list[str]], edit: Edit, trailer: str, value: str) -> None:
    """A value that says nothing is quoted back, on its own line."""
    (old,) = (line for line in synthetic.TRAILERS if line.startswith(f"{trailer}:"))
    line = edit(old, f"{trailer}: {value}".strip())
    assert f"{FIRST}:{line}: `{trailer}: {value}` is not accepted; " in "\n".join(static())


@pytest.mark.parametrize(
    "value",
    [
        "yes https://example.org/2",
        "yes, as https://example.org/2",
        "no",
        "no, upstream takes no features",
        "not-needed upstream has it",
        "not-needed, upstream has it",
    ],
)
def test_accepted_trailer(static: Callable[[], list[str]], edit: Edit, value: str) -> None:
    """All forms of `Forwarded` that the tool names."""
    edit("no, it is synthetic", value)
    assert static() == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("+LINE_20 = 'first'", "+LINE_20 = 'first' ", "The patch adds trailing whitespace here."),
        ("+LINE_20 = 'first'", "+LINE_20 = 'first'\t", "The patch adds trailing whitespace here."),
        ("+LINE_20 = 'first'", "+LINE_20 = 'first'\r", "The patch adds trailing whitespace here."),
        (synthetic.REASON, f"{synthetic.REASON} ", "The message has trailing whitespace here."),
    ],
)
def test_trailing_whitespace(
    static: Callable[[], list[str]], edit: Edit, old: str, new: str, says: str
) -> None:
    """In code and in the message."""
    line = edit(old, new)
    assert f"{FIRST}:{line}: {says}" in static()


def test_file_outside_the_allowed_list(base: Base, project: Path, fork: Path) -> None:
    """The file is named, and what is allowed."""
    synthetic.commit(fork, {"README.md": "changed\n"})
    export(base, project)
    (finding,) = check(base, project)
    assert str(finding) == (
        f"{FIRST}:12: README.md is outside the files that bases.toml allows: "
        "transformer_lens/*.py, tests/**."
    )


def test_findings_are_collected(static: Callable[[], list[str]], edit: Edit) -> None:
    """One run tells everything that is wrong."""
    edit("Bug: ", "Bag: ")
    edit("+LINE_20 = 'first'", "+LINE_20 = 'first' ")
    edit("@@ -17,7 +17,7 @@", "@@ -16,7 +16,7 @@")
    findings = "\n".join(static())
    for part in ("no trailer `Bug:`", "trailing whitespace", "offset +1", "postimage"):
        assert part in findings


def test_malformed_patch(static: Callable[[], list[str]], edit: Edit) -> None:
    """A file that is no patch does not hide what is wrong with the others."""
    line = edit("index ", "indexes ")
    assert static()[
        0
    ] == f"{FIRST}:{line - 1}: Malformed: {synthetic.ROPE} has no `index` line " + (
        "with its blob SHAs."
    )


def test_stray_file(static: Callable[[], list[str]], patches: Path) -> None:
    """Only patches and the cover letter belong there."""
    (patches / "0001-old.patch.orig").touch()
    (finding,) = static()
    assert finding.endswith(
        "0001-old.patch.orig:1: The file is neither a patch nor cover-letter.md."
    )


def test_no_patches(base: Base, project: Path) -> None:
    """A check of nothing does not pass."""
    (finding,) = check(base, project, static_only=True)
    assert str(finding) == "patches/v9.9.9:1: The folder holds no patches."


@pytest.mark.usefixtures("patches")
def test_checkout_is_only_read(base: Base, project: Path, fork: Path) -> None:
    """No rule, and no test run, leaves a trace in the developer's tree."""
    before = {path: path.stat().st_mtime_ns for path in fork.rglob("*")}
    assert check(base, project) == []
    assert {path: path.stat().st_mtime_ns for path in fork.rglob("*")} == before


GOOD_TEST = '''"""A synthetic test."""

from transformer_lens import loading_from_pretrained as loading


def test_constant() -> None:
    """The patch adds the constant."""
    assert loading.SYNTHETIC == 1
'''
VACUOUS_TEST = '''

def test_nothing() -> None:
    """Holds with any patch."""
    assert loading.get_pretrained_model_config is not None
'''


def test_real_release(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The real v3.9.0: a patch with a good and a vacuous test, and one that breaks the import."""
    base = get_base("v3.9.0")
    fork = checkout(base, project)
    module = "transformer_lens/loading_from_pretrained.py"
    source = (fork / module).read_text(encoding="utf-8")
    test = "tests/unit/test_synthetic.py"
    series: list[dict[str, str | None]] = [
        {module: f"{source}\nSYNTHETIC = 1\n", test: GOOD_TEST + VACUOUS_TEST},
        {module: f"{source}\nimport no_such_module\n"},
    ]
    for number, files in enumerate(series, 1):
        synthetic.commit(fork, files, synthetic.message(f"loading: patch {number}"))
    export(base, project)
    reports: list[str] = []
    findings = check(base, project, report=reports.append)
    assert [str(finding) for finding in findings] == [
        "patches/v3.9.0/0001-loading-patch-1.patch:28: tests/unit/test_synthetic.py::test_nothing "
        "has to fail without this patch, but it passes.",
        "patches/v3.9.0/0002-loading-patch-2.patch:1: With this patch, transformer_lens does not "
        "import: ModuleNotFoundError: No module named 'no_such_module'.",
    ]
    assert "v3.9.0: tests of patch 2 of 2, 0002-loading-patch-2.patch" in reports
    assert capsys.readouterr().out == ""
