"""What the bench and the processes of its contestants say to each other: lines of JSON."""

from typing import Annotated, Literal

from pydantic import Field

from validation.execution.jobs import Exhausted, Message, Refused

WorkloadName = Literal["forward", "hooks", "generate"]

GENERATED = 128
"""Greedy tokens of `generate`."""


class Piece(Message):
    """Work for a contestant, on its standard input.

    Attributes:
        workload: what is done.
        context: tokens of the prompt.
        generated: tokens that `generate` adds; the others ignore it.
    """

    workload: WorkloadName
    context: int
    generated: int = GENERATED


class Ready(Message):
    """The model is loaded.

    Attributes:
        notes: how, for the report.
    """

    event: Literal["ready"] = "ready"
    notes: tuple[str, ...]


class Timed(Message):
    """A piece is done.

    Attributes:
        seconds: it took.
        resting_memory_bytes: of the process (CPU) or of the allocator (CUDA) before it.
        peak_memory_bytes: the most while it ran.
        tokens: the ids it chose greedily: one after the context, or all that it generated.
    """

    event: Literal["timed"] = "timed"
    seconds: float
    resting_memory_bytes: int
    peak_memory_bytes: int
    tokens: tuple[int, ...]


BenchEvent = Annotated[Ready | Timed | Refused | Exhausted, Field(discriminator="event")]
