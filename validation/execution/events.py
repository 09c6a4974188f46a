"""The worker's end of the pipe on which events reach the parent."""

import os
import select
import threading
from types import TracebackType
from typing import Self

from pydantic import BaseModel

EVENTS_VARIABLE = "LLAMA31_PARITY_EVENTS"
"""Environment variable with the file descriptor that a worker writes its events to.

Not stdout: that belongs to the libraries, whose messages go to the case's log.
"""


class Reporter:
    """Sends events to the parent, one JSON line each."""

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "w", encoding="utf-8", buffering=1)
        self._is_done = threading.Event()

    @classmethod
    def from_environment(cls) -> Self:
        """The pipe that the parent passed down; this process ends when nobody reads it."""
        descriptor = int(os.environ[EVENTS_VARIABLE])
        reporter = cls(descriptor)
        arguments = (descriptor, reporter._is_done)
        threading.Thread(target=_end_with_reader, args=arguments, daemon=True).start()
        return reporter

    def send(self, event: BaseModel) -> None:
        """Writes one event."""
        self._file.write(event.model_dump_json() + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # From here on the parent stops reading because it was told all.
        self._is_done.set()
        self._file.close()


def _end_with_reader(descriptor: int, is_done: threading.Event) -> None:
    """Ends the process, whatever else it does, once the parent has ended: SIGKILL leaves orphans.

    Without this one would compute to its next event, minutes later, beside whoever runs it again.
    """
    pipe = select.poll()
    pipe.register(descriptor, 0)  # no event but that the other end is closed
    pipe.poll()
    if not is_done.is_set():  # else a traceback may still be on its way to the log
        os._exit(1)
