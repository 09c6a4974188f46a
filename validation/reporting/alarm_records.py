"""Clean comparisons and planted faults on disk: one JSON line for every reference they share."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from validation.judgement.kills import is_noticed
from validation.judgement.verdict import Verdict
from validation.reporting.records import Amount, Count, Record, Sha256
from validation.reporting.results import SlopeRecord

ALARMS = "alarms.jsonl"


class RuleRecord(Record):
    """A comparison against one way of making the floor.

    Attributes:
        verdict: name of a `Verdict`.
        parity_ratio: subject's over floor's RMS error over all positions.
        worst_ratio: the same in the bin of positions where it is most; None: unbounded.
    """

    verdict: str
    parity_ratio: Amount | None
    worst_ratio: Amount | None

    @model_validator(mode="after")
    def _has_known_name(self) -> Self:
        if self.verdict not in Verdict.__members__:
            raise ValueError(f"verdict is {self.verdict!r}; accepted are {[*Verdict.__members__]}")
        return self

    @property
    def outcome(self) -> Verdict:
        """The verdict as the enum."""
        return Verdict[self.verdict]

    @property
    def is_alarm(self) -> bool:
        """Whether the verdict says that something is wrong."""
        return is_noticed(self.outcome)


class ComparisonRecord(Record):
    """One subject against the reference.

    Attributes:
        kind: name of a clean deviation, or of a planted fault.
        is_clean: whether it must not fail: a reordering, with the weights as they are.
        is_fault: whether a mistake is in it.
        judged: against the floor that judges.
        rules: against other floors made of the same reorderings, by rule; none if identical.
        ratios: of each bin (`bins.bin_edges`); None: unbounded, or not recorded at all.
        intervals: their 95 % confidence intervals.
        slope: growth of the ratio with position.
        power_ratio: how many times the floor a plain RoPE is; None: unbounded.
    """

    kind: str
    is_clean: bool
    is_fault: bool
    logits_differing: Count
    reason: str
    judged: RuleRecord
    rules: dict[str, RuleRecord]
    ratios: tuple[Amount | None, ...] | None = None
    intervals: tuple[tuple[Amount, Amount] | None, ...] | None = None
    slope: SlopeRecord | None
    power_ratio: Amount | None
    top1_counted: Count

    @property
    def is_identical(self) -> bool:
        """Whether the verdict rests on no floor."""
        return self.judged.outcome is Verdict.IDENTICAL


class AlarmProvenance(Record):
    """What the comparisons were measured with."""

    key: Sha256
    harness_sha256: Sha256
    git_commit: str
    git_dirty: bool
    tree_sha256: Sha256
    series_sha256: Sha256 | None
    sdist_sha256: Sha256
    checkpoint_sha256: Sha256
    packages: dict[str, str]
    settings: dict[str, str]
    measured_at: str


class AlarmRecord(Record):
    """All comparisons that share weights, prompt, reference and floors.

    Attributes:
        llama: name of a `RandomLlama`.
        floors: RMS error of each reordering of the reference.
    """

    llama: str
    seed: Count
    dtype: str
    context: Annotated[int, Field(ge=1)]
    floors: dict[str, Amount]
    comparisons: tuple[ComparisonRecord, ...]
    seconds: Amount
    provenance: AlarmProvenance
