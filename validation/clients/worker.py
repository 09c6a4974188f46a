"""A client's process: `python -m validation.clients.worker TREE MODULE FUNCTION SEEN FOLDER`."""

import sys
from importlib import import_module
from pathlib import Path

from validation.execution.arithmetic import fix_arithmetic
from validation.models.subject import import_from

_SEED = 0


def main(tree: str, module: str, function: str, seen_file: str, folder: str) -> None:
    """Runs one exercise on the tree, whose `transformer_lens` is imported before anything else."""
    import_from(Path(tree))
    fix_arithmetic(1, _SEED)
    from validation.clients.observations import Seen

    seen = Seen(Path(seen_file))
    try:
        getattr(import_module(module), function)(seen, Path(folder))
    finally:
        seen.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
