"""A tree's process as the parent sees it."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

from pydantic import TypeAdapter

from validation.architectures.records import Answer, Done, Failed, Task
from validation.execution.accidents import MemoryKills
from validation.execution.processes import describe_end, last_lines, worker_environment

_ANSWER: TypeAdapter[Done | Failed] = TypeAdapter(Answer)


class TreeFailed(Exception):
    """The tree raised something, or its process died; the message says what."""


class TreeProcess:
    """A process that has imported one tree; it starts when it is first needed."""

    def __init__(self, tree: Path, log: Path) -> None:
        """Starts nothing yet.

        Args:
            tree: folder that contains `transformer_lens/`.
            log: file that receives what it and its libraries print.
        """
        self._tree = tree
        self._log = log
        self._process: subprocess.Popen[str] | None = None

    def work(self, task: Task) -> None:
        """Has it do the task, and waits.

        Raises:
            TreeFailed: the tree cannot, or the process died; the next task has a new one.
        """
        process = self._process or self._start_process()
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # why it ended is told below
            process.stdin.write(task.model_dump_json() + "\n")
            process.stdin.flush()
        line = self._answers.readline()
        if not line.endswith("\n"):  # a killed worker may leave half a line
            end = describe_end(process.wait(), self._kills)
            said = last_lines(self._log, self._start)
            self.close()
            raise TreeFailed(f"the process {end}: {said}")
        answer = _ANSWER.validate_json(line)
        if isinstance(answer, Failed):
            # Results are published: where a tree lay on this machine says nothing.
            raise TreeFailed(answer.reason.replace(str(self._tree), "TREE"))

    def close(self) -> None:
        """Ends the process, whatever it does."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        self._answers.close()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process = None

    def _start_process(self) -> subprocess.Popen[str]:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._kills = MemoryKills.now()
        read_end, write_end = os.pipe()
        try:
            with self._log.open("ab") as output:
                self._start = output.tell()
                self._process = self._popen(output, write_end)
        finally:
            os.close(write_end)
        self._answers = os.fdopen(read_end, encoding="utf-8")
        return self._process

    def _popen(self, output: IO[bytes], answers: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            # -P: a `validation` in the current directory must not stand in for ours.
            [sys.executable, "-P", "-m", "validation.architectures.worker", str(self._tree)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(answers,),
            env=worker_environment(answers, keeps_heap=False) | {"PYTHONHASHSEED": "0"},
            text=True,
        )
