"""What the probe reports, from inside another process."""

import sys
from pathlib import Path

import pytest

from transformer_lens_fork.trial import probe

OUTCOMES = """
import pytest

@pytest.fixture
def bad_setup():
    raise ValueError("in setup")

@pytest.fixture
def bad_teardown():
    yield
    raise ValueError("in teardown")

def test_passes(): pass
def test_fails(): assert 1 == 2, "told"
def test_setup(bad_setup): pass
def test_teardown(bad_teardown): pass
def test_both(bad_teardown): pytest.skip("skipped, then broken")
def test_skipped(): pytest.skip("not here")
@pytest.mark.xfail
def test_xfailed(): assert 0
@pytest.mark.xfail
def test_xpassed(): pass
@pytest.mark.xfail(strict=True)
def test_strict(): pass
@pytest.mark.parametrize("x", ["a", "b::c [d]"])
def test_each(x): assert x == "a"
def test_parts(subtests):
    with subtests.test("one"):
        assert 0
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with a package and two test files, one of which cannot be collected."""
    tree = tmp_path / "a tree"
    for name, content in (
        ("transformer_lens/__init__.py", ""),
        ("tests/test_outcomes.py", OUTCOMES),
        ("tests/test_broken.py", "import nowhere\n"),
    ):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(content)
    return tree


def test_outcome_of_each_kind(tree: Path) -> None:
    """The worst phase decides, and a file that cannot be collected hides no other."""
    run = probe(Path(sys.executable), tree, ["tests/test_broken.py", "tests/test_outcomes.py"])
    assert (run.died, run.aborted) == (None, None)
    prefix = "tests/test_outcomes.py::test_"
    assert {test.removeprefix(prefix): outcome for test, outcome in run.outcomes.items()} == {
        "passes": "passed",
        "fails": "failed",
        "setup": "failed",
        "teardown": "failed",
        "both": "failed",
        "skipped": "skipped",
        "xfailed": "xfailed",
        "xpassed": "passed",
        "strict": "failed",
        "each[a]": "passed",
        "each[b::c [d]]": "failed",
        "parts": "failed",
    }
    assert run.errors[f"{prefix}fails"] == "AssertionError: told"
    assert run.errors[f"{prefix}setup"] == "ValueError: in setup"
    assert run.errors["tests/test_broken.py"] == "ModuleNotFoundError: No module named 'nowhere'"


def test_import_alone(tree: Path) -> None:
    """Without test files only the import is tried, and it leaves no byte code."""
    assert probe(Path(sys.executable), tree, []).died is None
    assert not list(tree.rglob("*.pyc"))
    (tree / "transformer_lens" / "__init__.py").write_text("raise SystemExit(0)\n")
    died = probe(Path(sys.executable), tree, []).died
    assert died == "transformer_lens does not import: SystemExit: 0"


def test_package_from_elsewhere_is_not_the_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed transformer_lens must not stand in for a tree without one."""
    installed = tmp_path / "installed" / "transformer_lens"
    installed.mkdir(parents=True)
    (installed / "__init__.py").touch()
    tree = tmp_path / "tree"
    tree.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(installed.parent))
    run = probe(Path(sys.executable), tree, [])
    assert run.died == f"transformer_lens does not import: it comes from {installed}/__init__.py"


def test_what_a_docstring_test_raised_is_its_reason(tree: Path) -> None:
    """Not the line of the docstring that the traceback begins with."""
    (tree / "transformer_lens" / "__init__.py").write_text('"""Divide.\n\n>>> 1 // 0\n0\n"""\n')
    run = probe(Path(sys.executable), tree, ["transformer_lens"], ["--doctest-modules"])
    (why,) = run.errors.values()
    assert why.startswith("UNEXPECTED EXCEPTION: ZeroDivisionError(")
