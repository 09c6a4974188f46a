"""What is found of every architecture, on disk and between processes: lines of JSON."""

from math import inf, sqrt
from statistics import mean, stdev
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from validation.architectures.verdict import Outcome
from validation.execution.jobs import DtypeName, Message
from validation.reporting.records import Amount, Count, Record, Sha256

ARCHITECTURES = "architectures.jsonl"
SURFACE = "surface.json"
_CONFIDENCE = 0.975


class Parameter(Record):
    """One parameter of a public function; its default as `repr` has it, None if it has none."""

    name: str
    kind: str
    default: str | None


class Surface(Record):
    """What a tree shows to the outside.

    Attributes:
        signatures: by qualified name.
        unimportable: modules that need what is not installed.
        configurations: fields by official name, where the tree knows them without the hub.
    """

    signatures: dict[str, tuple[Parameter, ...]]
    unimportable: tuple[str, ...]
    configurations: dict[str, dict[str, str]]


class Task(Message):
    """What a worker is to do, on its standard input.

    Attributes:
        what: look at the surface, or run an architecture.
        architecture: its name; empty for the surface.
        dtype: of weights and activations.
        seeds: how many models with weights of their own.
        folder: where it writes what it observed.
        saved: folder of the other tree, whose saved state and configuration are to be loaded.
    """

    what: Literal["surface", "architecture"]
    folder: str
    architecture: str = ""
    dtype: DtypeName = "float32"
    seeds: int = 1
    saved: str | None = None


class Done(Message):
    """A task is done."""

    event: Literal["done"] = "done"


class Failed(Message):
    """The tree raised something."""

    event: Literal["failed"] = "failed"
    reason: str


Answer = Annotated[Done | Failed, Field(discriminator="event")]


class Observed(Record):
    """What a worker saw of one architecture, beside its tensors.

    Attributes:
        way: how the configuration came about.
        configuration: every field, as `repr` has it.
        shapes: of the state dict, by key.
        loaded_saved: what went wrong with what the other tree saved; None if it was not asked.
    """

    way: str
    configuration: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    loaded_saved: tuple[str, ...] | None


class Errors(Record):
    """One kind of tensors of both trees, and how far either is from HF's.

    Attributes:
        total: entries that are compared, over all seeds.
        differing: of them, those that are not the same in the two trees.
        before: mean absolute error of the release, mean of all seeds; None if HF has no such
            tensors.
        after: of the fork.
        before_max: largest absolute error of the release.
        after_max: of the fork.
        before_by_seed: mean absolute error of each seed's model, of the release; none if one of
            them, or of the fork's, is unknown.
        after_by_seed: of the fork.
    """

    total: Count
    differing: Count
    before: Amount | None
    after: Amount | None
    before_max: Amount | None
    after_max: Amount | None
    before_by_seed: tuple[Amount, ...]
    after_by_seed: tuple[Amount, ...]

    @property
    def is_same(self) -> bool:
        """Whether not one entry differs."""
        return self.differing == 0

    @property
    def outcome(self) -> Outcome:
        """Of this kind of tensors alone; whose error nobody knows, is FURTHER."""
        if self.is_same:
            return Outcome.SAME
        if self.before is None or self.after is None:
            return Outcome.FURTHER
        _, low, high = self.times or (1.0, -inf, inf)
        if high < 1:
            return Outcome.NEARER
        return Outcome.FURTHER if low > 1 else Outcome.LEVEL

    @property
    def times(self) -> tuple[float, float, float] | None:
        """How many times the release's error the fork's is: mean of all seeds, 95 % interval.

        Of each seed's model the quotient is taken, for some seeds' errors are many times others'.
        The interval is Student's. None of fewer than two seeds.
        """
        from scipy.stats import t as student

        quotients = list(map(_quotient, self.before_by_seed, self.after_by_seed))
        if len(quotients) < 2:
            return None
        if inf in quotients:
            return inf, inf, inf
        middle, freedom = mean(quotients), len(quotients) - 1
        half = float(student.ppf(_CONFIDENCE, freedom)) * stdev(quotients) / sqrt(len(quotients))
        return middle, middle - half, middle + half


def _quotient(before: float, after: float) -> float:
    if before == 0:
        return 1.0 if after == 0 else inf
    return after / before


class ArchitectureProvenance(Record):
    """What it was measured with."""

    key: Sha256
    harness_sha256: Sha256
    before_sha256: Sha256
    after_sha256: Sha256
    series_sha256: Sha256 | None
    git_commit: str
    git_dirty: bool
    packages: dict[str, str]
    settings: dict[str, str]
    measured_at: str


class ArchitectureRecord(Record):
    """One architecture at one dtype.

    Attributes:
        architecture: its name.
        official: the name by which it was loaded; empty if it has none.
        reference: HF's class, None where HF has none.
        stands_for: the remote class whose weights were converted, if it is another.
        dtype: of weights and activations.
        seeds: models with weights of their own.
        way: how the configuration came about.
        logits: without processing.
        processed: logits by upstream's default, folded and centred weights; without their mean.
        gradients: of the weights, in terms of HF's own.
        fields: of the configuration that are not the same, with both values.
        problems: whatever else is not as it was.
        verdict: name of an `Outcome`.
        reason: why, in a sentence.
    """

    architecture: str
    official: str
    reference: str | None
    stands_for: str | None
    dtype: DtypeName
    seeds: Count
    way: str
    logits: Errors | None
    processed: Errors | None
    gradients: Errors | None
    fields: dict[str, tuple[str, str]]
    problems: tuple[str, ...]
    verdict: str
    reason: str
    provenance: ArchitectureProvenance

    @model_validator(mode="after")
    def _has_known_name(self) -> Self:
        if self.verdict not in Outcome.__members__:
            raise ValueError(f"verdict is {self.verdict!r}; accepted are {[*Outcome.__members__]}")
        return self

    @property
    def outcome(self) -> Outcome:
        """The verdict as the enum."""
        return Outcome[self.verdict]


class SurfaceRecord(Record):
    """How the two trees' surfaces compare.

    Attributes:
        signatures: how many of the release were looked for.
        grown: those with parameters that it does not have, by name.
        added: how many public names are new.
        narrowed: what became of those that are not as they were.
        configurations: official names whose configuration is in both trees.
        fields: of those that differ, by name and field, with both values.
        unimportable: modules that could not be looked at.
    """

    signatures: Count
    grown: dict[str, tuple[str, ...]]
    added: Count
    narrowed: tuple[str, ...]
    configurations: Count
    fields: dict[str, dict[str, tuple[str, str]]]
    unimportable: tuple[str, ...]
    provenance: ArchitectureProvenance
