"""Imports of large libraries, which take a fifth less time if nothing looks for garbage."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


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
