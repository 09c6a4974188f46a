"""What the machine, not the code under test, does to a worker: no memory left, no room on disk."""

import errno
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import torch

from validation.models.refusals import reason

Resource = Literal["memory", "disk"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# On CPU torch raises a RuntimeError. Its own and safetensors' messages are all there is to go by.
_MEMORY = re.compile(
    r"can't allocate memory|Cannot allocate memory|std::bad_alloc|No executable batch size"
)
_OS_ERROR = re.compile(r"os error (\d+)")
# What numpy says of a short write; the number of the error is lost by then.
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")


def exhausted(error: BaseException) -> Resource | None:
    """What ran out, if `error` says that something of the machine did."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "memory"
    if isinstance(error, OSError) and error.errno is not None:
        number: int | None = error.errno
    else:
        number = int(found[1]) if (found := _OS_ERROR.search(str(error))) else None
    if number in _NO_ROOM or (isinstance(error, OSError) and _SHORT_WRITE.search(str(error))):
        return "disk"
    if number == errno.ENOMEM or (isinstance(error, RuntimeError) and _MEMORY.search(str(error))):
        return "memory"
    return None


def what_ran_out(error: BaseException) -> str:
    """The reason in few words, such as 'No space left on device'."""
    found = _OS_ERROR.search(str(error))
    return os.strerror(int(found[1])) if found else reason(error)


@dataclass(frozen=True)
class MemoryKills:
    """How many processes the kernel has killed for want of memory.

    Attributes:
        group: in this control group and those below it (cgroup v2), None if it does not say.
        machine: on this machine (Linux 4.13 and later), None if it does not say.
    """

    group: int | None
    machine: int | None

    @classmethod
    def now(cls) -> Self:
        """As the kernel counts now."""
        return cls(_count(_group_events()), _count(Path("/proc/vmstat")))

    def describe_sigkill(self, before: "MemoryKills") -> str:
        """Says of a process that SIGKILL ended since `before` who sent it, as far as is known."""
        name = signal.SIGKILL.name
        counts = ((before.group, self.group), (before.machine, self.machine))
        known = [(then, now) for then, now in counts if then is not None and now is not None]
        if not known:
            return f"killed by {name} (out of memory?)"
        # The group's count is of this run's processes alone: the first that is known decides.
        then, now = known[0]
        if now > then:
            return f"killed by {name}: out of memory, the kernel says"
        return f"killed by {name}, not by the kernel for want of memory"


def _group_events() -> Path:
    try:
        groups = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        groups = []
    own = next((line[3:] for line in groups if line.startswith("0::")), "/")
    return Path("/sys/fs/cgroup") / own.lstrip("/") / "memory.events"


def _count(path: Path) -> int | None:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
