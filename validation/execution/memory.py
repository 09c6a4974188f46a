"""How much memory this process takes, and what it gives back to the system."""

import ctypes
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

_SLACK_BYTES = 512 * 2**20
"""Growth after which it is looked whether holes are the cause."""


class Heap:
    """Keeps the C library's heap from growing by holes.

    Workers with eager attention keep what they free (`processes.py`), which is faster.
    But in chunks every tensor of scores is a little larger than the hole that the last one left,
    and keys and values come to lie between: 20 GB of heap were seen, of which 5 were in use.
    """

    def __init__(self, slack_bytes: int = _SLACK_BYTES) -> None:
        """Lets the heap grow by `slack_bytes` before holes are returned."""
        self._slack_bytes = slack_bytes
        self._kept_bytes: int | None = None

    def tidy(self) -> None:
        """To be called between layers: what is freed then costs one more fault a page later."""
        resident = resident_memory()
        if self._kept_bytes is None:
            self._kept_bytes = resident
        elif resident > self._kept_bytes + self._slack_bytes:
            return_freed_memory()
            self._kept_bytes = None


def return_freed_memory() -> None:
    """Returns free pages to the system, also those below what is in use."""
    with suppress(AttributeError, OSError):  # glibc's alone
        ctypes.CDLL(None).malloc_trim(0)


def resident_memory() -> int:
    """Bytes of this process in memory; 0 where the system does not say in this way."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def reset_peak_memory() -> None:
    """Lets `peak_memory` count from now on.

    Linux: 5 resets the high-water mark of the resident set (proc(5), clear_refs). Elsewhere the
    peak stays the process's; contexts grow, so it is the case's own all the same.
    """
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        with suppress(OSError):
            clear.write_text("5", encoding="ascii")


def peak_memory() -> int:
    """The most bytes of this process that were in memory at once."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    # Kilobytes on Linux, bytes on macOS (getrusage(2)).
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
