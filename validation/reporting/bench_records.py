"""The bench on disk: a JSON line for every work and context, with the turns of all contestants."""

from enum import Enum
from statistics import median
from typing import Annotated, Self

from pydantic import Field, model_validator

from validation.execution.bench_messages import WorkloadName
from validation.reporting.records import Amount, Count, Record, Sha256

BENCH = "bench.jsonl"

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Ending(Enum):
    """How a contestant fared at a point."""

    MEASURED = "measured"
    TOO_LARGE = "does not fit the memory, not attempted"
    DIED = "its process ended before the work"
    REFUSED = "the tree cannot run the checkpoint"


class TurnsRecord(Record):
    """What one contestant did at one point, turn by turn.

    Attributes:
        contestant: name of a `Contestant`.
        tree: what TransformerLens was run from; None: transformers.
        ending: name of an `Ending`.
        reason: why, where it was not measured.
        seconds: of each turn; the n-th of all contestants were measured one after the other.
        peak_memory_bytes: of its process (CPU) or the allocator (CUDA) in each turn.
        resting_memory_bytes: the same before each turn: the loaded model.
        planned_peak_memory_bytes: predicted, whether it was attempted or not.
        tokens: the ids that it chose greedily: equal ids speak for equal work.
        notes: how the model was loaded.
    """

    contestant: str
    tree: str | None
    tree_sha256: Sha256 | None
    series_sha256: Sha256 | None
    attention: str
    ending: str
    reason: str
    seconds: tuple[Positive, ...]
    peak_memory_bytes: tuple[Count, ...]
    resting_memory_bytes: tuple[Count, ...]
    planned_peak_memory_bytes: Count
    tokens: tuple[Count, ...]
    notes: tuple[str, ...]

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.ending not in Ending.__members__:
            raise ValueError(f"ending is {self.ending!r}; accepted are {[*Ending.__members__]}")
        lengths = {
            len(self.seconds),
            len(self.peak_memory_bytes),
            len(self.resting_memory_bytes),
        }
        if len(lengths) > 1 or self.is_measured != bool(self.seconds):
            raise ValueError(f"{self.ending} contradicts {len(self.seconds)} turns")
        if min(self.added_memory_bytes, default=0) < 0:
            raise ValueError("a peak is below what is at rest")
        return self

    @property
    def is_measured(self) -> bool:
        """Whether there are figures."""
        return self.ending == Ending.MEASURED.name

    @property
    def median_seconds(self) -> float:
        """Of the turns."""
        return median(self.seconds)

    @property
    def median_peak_bytes(self) -> float:
        """Of the turns' peaks."""
        return median(self.peak_memory_bytes)

    @property
    def added_memory_bytes(self) -> tuple[int, ...]:
        """By how much each turn's peak exceeds the loaded model at rest."""
        pairs = zip(self.peak_memory_bytes, self.resting_memory_bytes, strict=True)
        return tuple(peak - resting for peak, resting in pairs)

    @property
    def median_added_bytes(self) -> float:
        """Of these."""
        return median(self.added_memory_bytes)


class BenchProvenance(Record):
    """What a point was measured with.

    Attributes:
        load_average: of the machine when it began, over a minute; no part of the key.
        memory_limit_bytes: what all processes might take; no part of the key.
    """

    key: Sha256
    harness_sha256: Sha256
    git_commit: str
    git_dirty: bool
    sdist_sha256: Sha256
    checkpoint_sha256: Sha256
    layers: Count
    prompt_sha256: Sha256
    prompt_source: str
    seed: Count
    memory_limit_bytes: Count
    load_average: Amount
    packages: dict[str, str]
    settings: dict[str, str]
    measured_at: str


class BenchRecord(Record):
    """One work at one context.

    Attributes:
        generated: tokens after the context.
        repeats: turns that each contestant was to take.
        turns: of every contestant, in the order in which they took turns.
    """

    workload: WorkloadName
    context: Annotated[int, Field(ge=1)]
    generated: Count
    checkpoint: str
    base: str
    dtype: str
    device: str
    repeats: Annotated[int, Field(ge=1)]
    turns: tuple[TurnsRecord, ...]
    provenance: BenchProvenance

    @property
    def is_finished(self) -> bool:
        """Whether it need not be measured again: no process died."""
        return all(each.ending != Ending.DIED.name for each in self.turns)

    def of(self, contestant: str) -> TurnsRecord | None:
        """The turns of a contestant, None if it took no part."""
        return next((each for each in self.turns if each.contestant == contestant), None)
