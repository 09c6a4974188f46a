"""Imports of large libraries, which take a fifth less time if nothing looks for garbage."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module


@contextmanager
def uncollected() -> Iterator[None]:
    """Within it no garbage is looked for; what is there at its end is never looked through again.

    The interpreter looks after every few hundred new objects. Those of an import are many, and live
    to the end of the process.
    """
    is_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if is_enabled:
            gc.enable()


def import_uncollected(name: str) -> None:
    """Imports the module `name` so, unless it is there: a model dropped by now is still found."""
    if name not in sys.modules:
        with uncollected():
            import_module(name)
