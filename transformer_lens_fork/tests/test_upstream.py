"""Upstream's checks before and after a series, on the tiny release."""

import json
from pathlib import Path
from typing import Any

import pytest

from transformer_lens_fork.bases import Base
from transformer_lens_fork.errors import VerificationError
from transformer_lens_fork.progress import silent
from transformer_lens_fork.series import export
from transformer_lens_fork.tests import synthetic
from transformer_lens_fork.trial import Run
from transformer_lens_fork.upstream import excluded, formats, run, suite
from transformer_lens_fork.upstream.summary import Summary, render, write_summary

HUB = "tests/test_upstream.py::test_needs_hub"
FINE = "tests/test_upstream.py::test_fine"
NEW = "tests/test_new.py"
GOOD = (
    "from transformer_lens import rope\n\n\ndef test_good():\n    assert rope.LINE_20 == 'first'\n"
)
FIX: dict[str, str | None] = {synthetic.ROPE: synthetic.rope((20, "LINE_20 = 'first'")), NEW: GOOD}


@pytest.fixture
def upstream(
    base: Base, project: Path, fork: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> "Upstream":
    """Checks a series whose patches write the given files."""
    # Its tests are not in folders, its pytest has no plugins, and there are no tools here.
    monkeypatch.setattr(suite, "FOLDERS", ("tests",))
    monkeypatch.setattr(run, "pytest_options", lambda _: ())
    monkeypatch.setattr(run, "COMMANDS", {})
    monkeypatch.setattr(run, "refuse_other_tools", lambda: None)
    listed = tmp_path / "excluded.json"
    listed.write_text(json.dumps({excluded.HUB: [HUB]}), encoding="utf-8")
    monkeypatch.setattr(run, "excluded_path", lambda _: listed)
    return Upstream(base, project, fork, tmp_path / "pieces", listed)


class Upstream:
    """Commits, exports and checks.

    Attributes:
        kept: folder of finished pieces.
        listed: the tests that cannot pass.
    """

    def __init__(self, base: Base, project: Path, fork: Path, kept: Path, listed: Path) -> None:
        self._base, self._project, self._fork = base, project, fork
        self.kept, self.listed = kept, listed

    def of(self, *series: dict[str, str | None], each: bool = True, **own: Any) -> Summary:
        """The summary of a series; `own` is what else `check_upstream` is told."""
        for files in series:
            synthetic.commit(self._fork, files)
        export(self._base, self._project)
        asked: dict[str, Any] = {"lists": False, "report": silent, "root": self._project} | own
        return run.check_upstream(self._base, self.kept, each=each, **asked)


def test_good_series(upstream: Upstream) -> None:
    """What passed passes, the new test fails on the release, and the hub's is left out."""
    summary = upstream.of(FIX)
    assert summary.findings == ()
    base, patched = summary.trees
    assert base.outcomes == {"passed": 1, "failed": 1}
    assert patched.outcomes == {"passed": 2, "failed": 1}
    assert (patched.same, patched.new, summary.failing_on_base) == (2, 1, 1)
    assert summary.excluded == {excluded.HUB: 1}


def test_patch_that_breaks_a_test_of_upstream(upstream: Upstream) -> None:
    """A test that the series does not touch is run too, and named with the patch."""
    broken: dict[str, str | None] = {
        "tests/test_upstream.py": synthetic.FILES["tests/test_upstream.py"].replace(
            "pass", "raise KeyError('no more')"
        )
    }
    (finding,) = upstream.of(FIX, broken).findings
    assert finding.startswith("0002-")
    assert finding.endswith(f"{FINE} has passed on the release and fails: KeyError: 'no more'")


def test_a_test_that_is_gone(upstream: Upstream) -> None:
    """To delete a test is no way to pass it."""
    gone: dict[str, str | None] = {
        "tests/test_upstream.py": "def test_needs_hub():\n    raise OSError\n"
    }
    (finding,) = upstream.of({**FIX, **gone}).findings
    assert finding.endswith(f"{FINE} has passed on the release and is gone: ")


def test_new_test_that_passes_on_the_release(upstream: Upstream) -> None:
    """It shows nothing of the series."""
    test = "def test_idle():\n    pass\n"
    (finding,) = upstream.of({**FIX, "tests/test_idle.py": test}).findings
    assert finding == (
        "tests/test_idle.py::test_idle is new and has passed on the release's sources"
    )


def test_new_test_that_fails(upstream: Upstream) -> None:
    """On the fork a new test has to pass."""
    test = "def test_bad():\n    assert 1 == 2\n"
    (finding,) = upstream.of({**FIX, "tests/test_bad.py": test}).findings
    assert "tests/test_bad.py::test_bad is new and fails: assert 1 == 2" in finding


def test_only_the_last_patch(upstream: Upstream) -> None:
    """What a later patch mends is not seen without the trees between."""
    broken: dict[str, str | None] = {synthetic.ROPE: "LINE_20 = 0\n"}
    summary = upstream.of({NEW: GOOD, **broken}, FIX, each=False)
    assert summary.findings == ()
    assert len(summary.trees) == 2


@pytest.mark.parametrize(
    ("listed", "says"),
    [
        ({}, f"{HUB} fails on the release and is not listed: OSError: offline"),
        (
            {excluded.HUB: [HUB, FINE]},
            f"{FINE} is listed as failing on the release and has passed",
        ),
        (
            {excluded.HUB: [HUB, "tests/test_old.py::test_x"]},
            "tests/test_old.py::test_x is listed as failing on the release and is not there",
        ),
    ],
)
def test_list_that_does_not_fit(
    upstream: Upstream, listed: dict[str, list[str]], says: str
) -> None:
    """What is missing from the list and what is stale in it are named."""
    upstream.listed.write_text(json.dumps(listed), encoding="utf-8")
    assert upstream.of(FIX).findings == (says,)


def test_list_is_written(upstream: Upstream) -> None:
    """What fails on the release is written down with a reason, and then fits."""
    upstream.listed.unlink()
    assert upstream.of(FIX, lists=True).findings == ()
    assert json.loads(upstream.listed.read_text(encoding="utf-8")) == {excluded.HUB: [HUB]}


def test_only_some_paths(upstream: Upstream) -> None:
    """What is listed of the others stays listed, and is not held against them."""
    more = {"tests/other/test_old.py::test_x": excluded.HUB}
    excluded.write_excluded(upstream.listed, Run(), {HUB: excluded.HUB, **more})
    summary = upstream.of(FIX, only=("tests/test_upstream",))
    assert summary.findings == ()
    assert [tree.outcomes for tree in summary.trees] == [{"passed": 1, "failed": 1}] * 2
    upstream.of(only=("tests/test_upstream",), lists=True)
    assert more.items() <= excluded.read_excluded(upstream.listed).items()


def test_what_is_finished_is_not_run_again(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second run takes every outcome from the folder."""
    first = upstream.of(FIX)
    monkeypatch.setattr(suite, "probe", lambda *_: pytest.fail("it was run again"))
    assert upstream.of() == first


def test_test_that_ends_the_process(upstream: Upstream) -> None:
    """The other files of its piece are run without it."""
    test = "import os\n\n\ndef test_exits():\n    os._exit(3)\n"
    (finding,) = upstream.of({**FIX, "tests/test_exits.py": test}).findings
    assert "tests/test_exits.py is new and fails: the run died with exit status 3" in finding


def test_summary_on_disk(upstream: Upstream, tmp_path: Path) -> None:
    """The Markdown has a row for each tree, and the JSON reads back."""
    summary = upstream.of(FIX)
    write_summary(summary, tmp_path / "out")
    text = (tmp_path / "out" / "upstream.json").read_text(encoding="utf-8")
    assert Summary.model_validate_json(text) == summary
    assert "| base | 1 | 0 | 0 | 1 | 2 | 0 |\n" in render(summary)


def test_complaints_have_no_place(tmp_path: Path) -> None:
    """Neither folder nor line: the same complaint two lines further down is the same."""
    output = (
        f"would reformat {tmp_path}/a.py\n"
        "All done!\n"
        "b.py:12: error: Bad  [misc]\n"
        "b.py:40:7: error: Bad  [misc]\n"
        "b.py:41: note: See there\n"
        f"\x1b[1mERROR:\x1b[0m {tmp_path}/c.py Imports are incorrectly sorted.\n"
    )
    plain = formats._COLOUR.sub("", output)
    assert formats.read_complaints(plain, tmp_path) == {
        "would reformat a.py": 1,
        "b.py: error: Bad [misc]": 2,
        "ERROR: c.py Imports are incorrectly sorted.": 1,
    }


def test_new_complaint_is_a_finding(base: Base) -> None:
    """One more of the same counts, and so does one less, which is none."""

    def tree(name: str, count: int) -> run.Tree:
        found = {"mypy": formats.Complaints({"a.py: error: Bad": count})}
        return run.Tree(name, "0" * 40, Run(outcomes={}), found)

    worse = run.compare(base, [tree("base", 1), tree("0001", 2)], {}, Run())
    assert worse.findings == ("0001: mypy says of it, and not of the release: a.py: error: Bad",)
    assert run.compare(base, [tree("base", 2), tree("0001", 1)], {}, Run()).findings == ()


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them nothing is run."""
    monkeypatch.setattr(formats, "PINS", ("no-such-tool==1",))
    with pytest.raises(VerificationError, match=r"no-such-tool==1 \(not installed\)"):
        formats.refuse_other_tools()


def test_tool_that_gives_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool that breaks down has not found everything in order."""
    monkeypatch.setattr(formats, "COMMANDS", {"json.tool": ("--no-such-option",)})
    with pytest.raises(VerificationError, match="gives no verdict"):
        formats.complaints("json.tool", tmp_path)
