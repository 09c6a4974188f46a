"""Plants a fault in a tree that is already imported: its functions get the edited source's code.

Importing a planted copy takes seconds; this takes none, and is undone.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from validation.rope.faults import Fault, edited_source


@contextmanager
def swapped_code(fault: Fault, tree: Path) -> Iterator[None]:
    """The imported tree with the fault's code in its functions.

    Args:
        fault: the mistake.
        tree: folder from which `transformer_lens` was imported.

    Raises:
        ValueError: the source does not have the text to edit exactly once.
    """
    live = sys.modules[".".join(fault.file.with_suffix("").parts)]
    edited = ModuleType(live.__name__)
    edited.__package__ = live.__package__
    exec(compile(edited_source(fault, tree), str(fault.file), "exec"), vars(edited))
    functions = _functions(live)
    own: dict[str, CodeType] = {name: found.__code__ for name, found in functions.items()}
    for name, found in _functions(edited).items():
        # Its globals and its cell for super() stay the live module's.
        functions[name].__code__ = found.__code__
    try:
        yield
    finally:
        for name, code in own.items():
            functions[name].__code__ = code


def _functions(module: ModuleType) -> dict[str, FunctionType]:
    """The functions and methods that `module` itself defines."""
    owners: list[Any] = [module]
    owners += [
        item
        for item in vars(module).values()
        if isinstance(item, type) and item.__module__ == module.__name__
    ]
    return {
        f"{owner.__name__}.{name}": item
        for owner in owners
        for name, item in vars(owner).items()
        if isinstance(item, FunctionType) and item.__module__ == module.__name__
    }
