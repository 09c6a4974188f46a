"""Tests of a series are run with and without each patch, for real, on the tiny release."""

from pathlib import Path

import pytest

from transformer_lens_fork import trial
from transformer_lens_fork.bases import Base
from transformer_lens_fork.check import check
from transformer_lens_fork.series import export
from transformer_lens_fork.tests import synthetic

NEW = "tests/unit/test_new.py"
GOOD = """import pytest
from transformer_lens import rope


def test_good():
    assert rope.LINE_20 == 'first'
"""


@pytest.fixture
def findings(base: Base, project: Path, fork: Path, monkeypatch: pytest.MonkeyPatch) -> "Findings":
    """Checks a series whose patches write the given files."""
    # This pytest's own settings must not reach the one inside.
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    return Findings(base, project, fork)


class Findings:
    """Commits, exports and checks."""

    def __init__(self, base: Base, project: Path, fork: Path) -> None:
        self._base, self._project, self._fork = base, project, fork

    def of(self, *series: dict[str, str | None]) -> list[str]:
        """The findings on a series, each as `patch number:line: message`."""
        for files in series:
            synthetic.commit(self._fork, files)
        export(self._base, self._project)
        found = check(self._base, self._project)
        return [str(finding).partition("/v9.9.9/")[2][3:].replace(SLUG, "") for finding in found]


NOT_FIRST = "AssertionError: assert 20 == 'first'"
SLUG = "-rope-form-the-angle-from-the-inverse-frequency.patch"
FIX: dict[str, str | None] = {synthetic.ROPE: synthetic.rope((20, "LINE_20 = 'first'"))}


def test_good_patches(findings: Findings) -> None:
    """A test that fails without its patch, and one that a later patch adds to the same file."""
    more = GOOD + "\n\ndef test_more():\n    assert rope.LINE_21 == 'second'\n"
    second = synthetic.rope((20, "LINE_20 = 'first'"), (21, "LINE_21 = 'second'"))
    assert findings.of({**FIX, NEW: GOOD}, {synthetic.ROPE: second, NEW: more}) == []


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("def test_it():\n    pass\n", "but it passes."),
        (
            "@pytest.mark.skipif(rope.LINE_20 == 20, reason='')\ndef test_it():\n    pass\n",
            "but it is skipped.",
        ),
        (
            "def test_it():\n    if rope.LINE_20 == 20:\n        pytest.xfail('')\n",
            "but it is marked as expected to fail.",
        ),
        (
            "@pytest.mark.parametrize('x', [rope.LINE_20])\ndef test_it(x):\n    assert x != 20\n",
            "but it is not there.",
        ),
    ],
)
def test_new_test_that_does_not_fail_without_its_patch(
    findings: Findings, body: str, says: str
) -> None:
    """However it avoids failing, it is named, with the line that adds it."""
    (finding,) = findings.of({**FIX, NEW: f"{GOOD}\n\n{body}"})
    where, _, what = finding.partition(": ")
    assert what.startswith(f"{NEW}::test_it")
    assert what.endswith(f"has to fail without this patch, {says}")
    number, line = where.split(":")
    assert number == "1"
    assert int(line) > 20


def test_test_that_needs_a_later_patch(findings: Findings) -> None:
    """Each patch has to stand with those before it alone."""
    (finding,) = findings.of({NEW: GOOD}, FIX)
    assert finding == f"1:22: {NEW}::test_good fails with this patch: {NOT_FIRST}."


def test_later_patch_that_breaks_an_earlier_test(findings: Findings) -> None:
    """All tests of the series so far are run after each patch."""
    undone: dict[str, str | None] = {synthetic.ROPE: synthetic.rope((21, "LINE_21 = 'first'"))}
    (finding,) = findings.of({**FIX, NEW: GOOD}, undone)
    assert finding == f"2:1: {NEW}::test_good fails with this patch: {NOT_FIRST}."


def test_patch_that_breaks_the_import(findings: Findings) -> None:
    """A tree that cannot be imported is a finding, with the reason, and needs no test file."""
    (finding,) = findings.of({"transformer_lens/__init__.py": "import nowhere\n"})
    message = "transformer_lens does not import: ModuleNotFoundError: No module named 'nowhere'"
    assert finding == f"1:1: With this patch, {message}."


def test_test_file_that_does_not_import_without_the_patch(findings: Findings) -> None:
    """An import of what the patch adds fails every test in the file, as it should."""
    test = "from transformer_lens.new import x\n\n\ndef test_x():\n    assert x\n"
    assert findings.of({"transformer_lens/new.py": "x = 1\n", NEW: test}) == []


def test_test_file_that_never_imports(findings: Findings) -> None:
    """The error of the collection is told."""
    (finding,) = findings.of({**FIX, NEW: "import nowhere\n"})
    assert finding == (
        f"1:1: {NEW} fails with this patch: ModuleNotFoundError: No module named 'nowhere'."
    )


def test_conftest_that_needs_the_patch(findings: Findings) -> None:
    """Without the patch pytest gives up, so no test passes."""
    conftest = "from transformer_lens.new import x\n"
    test = "def test_x():\n    pass\n"
    files: dict[str, str | None] = {"transformer_lens/new.py": "x = 1\n", NEW: test}
    assert findings.of({**files, "tests/conftest.py": conftest}) == []


def test_conftest_that_never_works(findings: Findings) -> None:
    """With the patch pytest gives up as well, which is a finding."""
    (finding,) = findings.of({**FIX, NEW: GOOD, "tests/conftest.py": "import nowhere\n"})
    assert finding.startswith("1:1: With this patch, pytest ended early, with 4: ")


def test_upstream_tests_in_a_changed_file(findings: Findings) -> None:
    """Tests that were there are not new, and one that needs a hub is not the patch's fault."""
    old = synthetic.FILES["tests/test_upstream.py"]
    new = GOOD.replace("import pytest\n", "")
    assert findings.of({**FIX, "tests/test_upstream.py": f"{old}\n\n{new}"}) == []


def test_broken_upstream_test(findings: Findings) -> None:
    """One that passed before has to pass after."""
    old = synthetic.FILES["tests/test_upstream.py"]
    (finding,) = findings.of({"tests/test_upstream.py": old.replace("pass", "assert 0")})
    assert "tests/test_upstream.py::test_fine fails with this patch: assert 0." in finding


def test_crash_is_told_with_its_signal(findings: Findings) -> None:
    """A run that dies without the patch proves nothing, and is not taken for a failing test."""
    test = "import os\nfrom transformer_lens import rope\n\n\ndef test_x():\n"
    test += "    if rope.LINE_20 == 20:\n        os.abort()\n"
    (finding,) = findings.of({**FIX, NEW: test})
    assert finding.startswith("1:1: The tests it adds give no result without it: ")
    assert "the run died with SIGABRT" in finding


@pytest.mark.parametrize(
    ("end", "says"), [("os._exit(0)", "no exit status"), ("pytest.exit('enough')", "2")]
)
def test_test_that_ends_the_run(findings: Findings, end: str, says: str) -> None:
    """Tests after it did not run: a run without its end is no result."""
    test = f"import os\nimport pytest\n\n\ndef test_x():\n    {end}\n\n\ndef test_y(): assert 0\n"
    (finding,) = findings.of({**FIX, NEW: test})
    assert finding.startswith(f"1:1: With this patch, pytest ended early, with {says}: ")


def test_run_without_end(findings: Findings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that hangs is stopped and told."""
    monkeypatch.setattr(trial, "_TIMEOUT_SECONDS", 2)
    test = "import threading\n\n\ndef test_x():\n    threading.Event().wait()\n"
    (finding,) = findings.of({**FIX, NEW: test})
    assert finding == "1:1: With this patch, the run did not end within 2 seconds."
