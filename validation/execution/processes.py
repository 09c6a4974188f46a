"""Starts a worker process and reads its events until it ends, however it ends."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter

from transformer_lens_fork.bases import REPOSITORY
from validation.execution.accidents import MemoryKills
from validation.execution.events import EVENTS_VARIABLE
from validation.execution.jobs import (
    Event,
    Exhausted,
    Measured,
    Progress,
    ReferenceJob,
    Refused,
    SubjectJob,
)
from validation.models.reference import EAGER

_EVENT: TypeAdapter[Progress | Measured | Refused | Exhausted] = TypeAdapter(Event)
_LAST_LINES = 5

_FILE = re.compile(r'File "/[^"\n]*/((?:site-packages|transformer_lens|validation)/)')
"""Of a traceback: the path before the package."""

ENVIRONMENT = {
    "PYTHONDONTWRITEBYTECODE": "1",
    # The checkpoint is on disk by now: a look at the hub could only slow a worker down.
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Large pages for large tensors: torch asks for them, where Linux grants them on request.
    "THP_MEM_ALLOC_ENABLE": "1",
}
"""Of every process that runs a model."""

KEPT_HEAP = {
    "MALLOC_MMAP_THRESHOLD_": str(2**33),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
}
"""Of processes in which eager attention is what is compared. Without it glibc returns every tensor
of scores to the system and faults it in again: a fifth of the time of 32k tokens in chunks. The
price is holes in the heap (see `Heap`); sdpa has no scores, is as fast without, and then takes what
it needs and no more. Other allocators ignore it."""


class WorkerDied(Exception):
    """A worker ended before its work; the message has its signal or status and its last lines.

    Attributes:
        did_not_fit: there was no memory for a context that it ran or compared.
    """

    def __init__(self, message: str, *, did_not_fit: bool = False) -> None:
        """As the attributes say."""
        super().__init__(message)
        self.did_not_fit = did_not_fit


def run_worker(
    job: ReferenceJob | SubjectJob,
    log: Path,
    python: Path | None = None,
    module: str = "validation.execution.worker",
) -> Iterator[Progress | Measured | Refused]:
    """Runs `job` in a process of its own.

    Args:
        job: what to run.
        log: file that receives what the worker and its libraries print.
        python: the interpreter; this one if None.
        module: what runs the job.

    Yields:
        The worker's events as they come.

    Raises:
        WorkerDied: it was killed, ran out of memory, exited with an error, or before it had
            measured every context.
        OSError: it could not write its files, for want of room on the disk.
    """
    job_file = job.scratch / f"{job.kind}.job.json"
    job_file.write_text(job.model_dump_json(), encoding="utf-8")
    log.parent.mkdir(parents=True, exist_ok=True)
    missing = {forward.context for forward in job.forwards}
    is_running = False
    kills = MemoryKills.now()
    read_end, write_end = os.pipe()
    with log.open("ab") as output:
        start = output.tell()
        try:
            process = subprocess.Popen(
                # -P: a `validation` or `torch` in the current directory must not stand in for ours.
                [str(python or sys.executable), "-P", "-m", module, str(job_file)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(write_end,),
                env=worker_environment(write_end, keeps_heap=job.attention == EAGER),
            )
        finally:
            os.close(write_end)
        try:
            with os.fdopen(read_end, encoding="utf-8") as events:
                for line in events:
                    if not line.endswith("\n"):  # a killed worker may leave half a line
                        break
                    event = _EVENT.validate_json(line)
                    if isinstance(event, Measured):
                        missing.discard(event.context)
                    elif isinstance(event, Refused):
                        missing.clear()
                    elif isinstance(event, Exhausted):
                        raise death_of(event, is_running=is_running)
                    is_running = isinstance(event, Progress)
                    yield event
            status = process.wait()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
    if status != 0 or missing:
        raise WorkerDied(f"{describe_end(status, kills)}: {last_lines(log, start)}")


def death_of(event: Exhausted, *, is_running: bool = False) -> OSError | WorkerDied:
    """What is raised over a worker that ran out of something.

    Args:
        event: what it said.
        is_running: whether it had begun with a context, or was loading a model.
    """
    if event.resource == "disk":
        return OSError(f"a worker's file cannot be written ({event.reason})")
    return WorkerDied(f"ran out of memory: {event.reason}", did_not_fit=is_running)


def worker_environment(descriptor: int, *, keeps_heap: bool) -> dict[str, str]:
    """Variables of a worker that writes its events to `descriptor`; see `KEPT_HEAP`."""
    paths = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    return (
        os.environ
        | ENVIRONMENT
        | (KEPT_HEAP if keeps_heap else {})
        | {
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            EVENTS_VARIABLE: str(descriptor),
        }
    )


def describe_end(status: int, kills: MemoryKills) -> str:
    """How a process ended, of which `kills` was counted when it started."""
    if status >= 0:
        return f"exited with status {status}"
    if -status == signal.SIGKILL:
        return MemoryKills.now().describe_sigkill(kills)
    return f"killed by {signal.Signals(-status).name}"


def last_lines(log: Path, start: int) -> str:
    """What a worker printed last; its output begins at byte `start` of the log."""
    text = log.read_bytes()[start:].decode("utf-8", errors="replace")
    # Results are published: where the code lay on this machine says nothing, nor do underlines.
    text = _FILE.sub(r'File "\1', text)
    lines = [line.strip() for line in text.splitlines() if line.strip(" ~^")]
    return " | ".join(lines[-_LAST_LINES:]) or "it printed nothing"
