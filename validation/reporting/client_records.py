"""What clients did on the release and on the fork, on disk: a JSON line for each exercise."""

from enum import Enum
from typing import Annotated

from pydantic import Field, JsonValue

from validation.reporting.records import Count, Finite, Record, Sha256

CLIENTS = "clients.jsonl"


class Ending(Enum):
    """How one process ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    NOT_INSTALLED = "cannot be installed"
    NOT_ATTEMPTED = "not attempted"


class Outcome(Enum):
    """What came of an exercise on both trees."""

    SAME = "the same on both, bit for bit"
    EXACT = "differs only where the fork computes what transformers does, bit for bit"
    FORK_ONLY = "runs on the fork, not on the release"
    SAME_FAILURE = "fails on both alike"
    NOT_INSTALLED = "cannot be installed beside these versions"
    DIFFERS = "differs where nothing may"
    BROKEN = "runs on the release and not on the fork"

    @property
    def is_break(self) -> bool:
        """Whether the fork breaks the client."""
        return self in (Outcome.DIFFERS, Outcome.BROKEN)


class Value(Record):
    """Something that both trees have to compute alike.

    Attributes:
        name: what it is.
        sha256: over its bits.
        size: values, or characters of a text.
        unlike_transformers: values that are not what `transformers` computes; None where it
            computes no such thing.
    """

    name: str
    sha256: Sha256
    size: Count
    unlike_transformers: Count | None = None


class Figure(Record):
    """Something measured, and what it may be at most."""

    figure: str
    value: Finite
    at_most: Finite | None = None

    @property
    def is_beyond(self) -> bool:
        """Whether it is more than it may be."""
        return self.at_most is not None and self.value > self.at_most


class Attempt(Record):
    """One exercise on one tree.

    Attributes:
        ending: how its process ended.
        reason: why it did not complete; empty if it did.
        seconds: of the process.
        seen: what it saw before it ended.
    """

    ending: Ending
    reason: str = ""
    seconds: Annotated[float, Field(ge=0)] = 0.0
    seen: tuple[Value | Figure, ...] = ()


class ClientProvenance(Record):
    """What an exercise was run with.

    Attributes:
        key: sha256 over everything that could change the outcome.
        trees: sha256 of each tree's source by name.
        series_sha256: of the patches that make the fork.
        packages: of the client's environment, by name.
        note: how the environment was made, where it was not as the client declares.
        settings: of the machine and torch.
        git_commit: of this repository.
        git_dirty: whether files differed from it.
        measured_at: when, UTC.
    """

    key: Sha256
    trees: dict[str, Sha256]
    series_sha256: Sha256 | None
    packages: dict[str, str]
    note: str
    settings: dict[str, JsonValue]
    git_commit: str
    git_dirty: bool
    measured_at: str


class ClientRecord(Record):
    """One exercise of one client."""

    client: str
    version: str
    exercise: str
    stock: Attempt
    fork: Attempt
    provenance: ClientProvenance

    @property
    def case(self) -> tuple[str, str]:
        """Names the exercise."""
        return self.client, self.exercise
