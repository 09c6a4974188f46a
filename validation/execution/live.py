"""A contestant's process as the bench sees it: it stays, and works when it is told to."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

from pydantic import TypeAdapter

from validation.execution.accidents import MemoryKills
from validation.execution.bench_messages import BenchEvent, Piece, Ready, Timed
from validation.execution.jobs import Exhausted, ReferenceJob, Refused, SubjectJob
from validation.execution.processes import (
    WorkerDied,
    death_of,
    describe_end,
    last_lines,
    worker_environment,
)
from validation.models.reference import EAGER
from validation.models.subject import SubjectRefused

_EVENT: TypeAdapter[Ready | Timed | Refused | Exhausted] = TypeAdapter(BenchEvent)


class LiveWorker:
    """A process that holds one model.

    Attributes:
        notes: how the model was loaded.
    """

    def __init__(self, job: ReferenceJob | SubjectJob, job_file: Path, log: Path) -> None:
        """Starts it and waits until its model is loaded.

        Args:
            job: which model; its forwards are not run.
            job_file: where the job is written for it.
            log: file that receives what it and its libraries print.

        Raises:
            WorkerDied: it ended before.
            SubjectRefused: the tree cannot load or run the checkpoint.
        """
        job_file.write_text(job.model_dump_json(), encoding="utf-8")
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        self._kills = MemoryKills.now()
        read_end, write_end = os.pipe()
        try:
            with log.open("ab") as output:
                self._start = output.tell()
                self._process = _start_process(job, job_file, output, write_end)
        finally:
            os.close(write_end)
        self._events = os.fdopen(read_end, encoding="utf-8")
        try:
            event = self._next_event()
        except BaseException:
            self.close()
            raise
        assert isinstance(event, Ready), "it says so before it is asked for work"
        self.notes = event.notes

    def work(self, piece: Piece) -> Timed:
        """Has it do the piece, and waits.

        Raises:
            WorkerDied: it was killed, ran out of memory or raised an error.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # why it ended is told below
            self._process.stdin.write(piece.model_dump_json() + "\n")
            self._process.stdin.flush()
        event = self._next_event()
        assert isinstance(event, Timed), "it answers each piece with one event"
        return event

    def _next_event(self) -> Ready | Timed:
        line = self._events.readline()
        if not line.endswith("\n"):  # a killed worker may leave half a line
            status = self._process.wait()
            said = last_lines(self._log, self._start)
            raise WorkerDied(f"{describe_end(status, self._kills)}: {said}")
        event = _EVENT.validate_json(line)
        if isinstance(event, Exhausted):
            raise death_of(event)
        if isinstance(event, Refused):
            raise SubjectRefused(event.reason)
        return event

    def close(self) -> None:
        """Ends the process, whatever it does; its memory is free when this returns."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        self._events.close()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()


def _start_process(
    job: ReferenceJob | SubjectJob, job_file: Path, output: IO[bytes], events: int
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        # -P: a `validation` in the current directory must not stand in for ours.
        [sys.executable, "-P", "-m", "validation.execution.bench_worker", str(job_file)],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        pass_fds=(events,),
        # Where eager attention faults its scores in at every turn, a turn takes 0.6 to 1.6 times as
        # long as the one before; sdpa's peaks are without holes then.
        env=worker_environment(events, keeps_heap=job.attention == EAGER),
        text=True,
    )
