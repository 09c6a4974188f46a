"""A mutant is killed by a test, survives all, or does not end; a swap reaches everybody."""

import subprocess
import sys
from pathlib import Path

import pytest

import validation
from validation.mutation.sandbox import swap_function

PACKAGE = "def double(x):\n    return 2 * x\n"
TESTS = """
from transformer_lens import double

def test_zero():
    assert double(0) == 0

def test_one():
    assert double(1) == 2
"""
DRIVER = """
import sys
from pathlib import Path
from validation.mutation.sandbox import Fate, in_sandbox, swap_function

def work(sandbox):
    for text in ("2 * x", "3 * x", "exec('while True: pass')", "__import__('os')._exit(3)"):
        source = f"def double(x):\\n    return {text}\\n"
        swap = lambda: swap_function("transformer_lens/__init__.py", "double", source)
        run = sandbox.run(swap, None, 1)
        print("outcome", run if isinstance(run, Fate) else run.error or run.failed, file=sys.stderr)

in_sandbox(Path.cwd(), ["test_double.py"], work)
"""


def test_every_fate(tmp_path: Path) -> None:
    """The same code survives, another is killed by the test that sees it, and a loop times out."""
    (tmp_path / "transformer_lens").mkdir()
    (tmp_path / "transformer_lens/__init__.py").write_text(PACKAGE, encoding="utf-8")
    (tmp_path / "test_double.py").write_text(TESTS, encoding="utf-8")
    root = str(Path(validation.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r})\n{DRIVER}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    outcomes = [line for line in result.stderr.splitlines() if line.startswith("outcome")]
    assert outcomes == [
        "outcome None",
        "outcome test_double.py::test_one",
        "outcome Fate.TIMEOUT",
        "outcome Fate.KILLED",
    ]


def test_swap_reaches_what_was_imported_and_inherited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A subclass' method, a property and a name imported before all have the new code.

    A property or a wrapped function that loses its decorator loses it for all too.
    """
    source = (
        "from contextlib import contextmanager\n\n"
        "class A:\n    @property\n    def p(self):\n        return 1\n"
        "    def m(self, x=1):\n        return x\n"
        "    @contextmanager\n    def c(self):\n        yield 1\n"
    )
    (tmp_path / "swapped_module.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    import swapped_module  # type: ignore[import-not-found]

    class B(swapped_module.A):  # type: ignore[misc]
        """Inherits before the swap."""

    changed = source.replace("1", "2")
    swap_function("swapped_module.py", "A.p", changed)
    swap_function("swapped_module.py", "A.m", changed)
    assert (B().p, B().m()) == (2, 2)
    swap_function("swapped_module.py", "A.p", source.replace("    @property\n", ""))
    assert B().p() == 1
    swap_function("swapped_module.py", "A.c", source.replace("    @contextmanager\n", ""))
    assert list(B().c()) == [1]
    monkeypatch.delitem(sys.modules, "swapped_module")
