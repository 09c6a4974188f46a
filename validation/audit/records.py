"""The audit on disk: a JSON line for every release and attention."""

from collections.abc import Iterable
from enum import Enum
from typing import Annotated, Self

from packaging.version import Version
from pydantic import Field, model_validator

from validation.judgement.verdict import Verdict
from validation.reporting.records import Amount, Count, Finite, Record, Sha256

AUDIT = "audit.jsonl"


class Ending(Enum):
    """How far a release got."""

    MEASURED = "every context has a verdict"
    DIED = "its process ended before"
    REFUSED = "it could not load or run the checkpoint"
    NOT_INSTALLED = "it could not be installed here"


class ContextRecord(Record):
    """A release at one context.

    Attributes:
        verdict: name of a `Verdict`.
        reason: the figures that it rests on.
        notes: how the model was loaded.
        first_differing: first position at which a logit differs.
        first_wrong: first position whose error the floor does not allow.
        parity_ratio: subject's over floor's RMS error; None if only the floor is zero, or it is not
            finite.
        largest_ratio: the same in the range of positions where it is most.
        mean_abs: mean absolute error of the logits; None if it is not finite.
        seconds: of the forward.
    """

    context: Annotated[int, Field(ge=1)]
    verdict: str
    reason: str
    notes: tuple[str, ...]
    logits_total: Count
    logits_differing: Count
    first_differing: Count | None
    first_wrong: Count | None
    parity_ratio: Amount | None
    largest_ratio: Amount | None
    mean_abs: Amount | None
    floor_mean_abs: Amount
    max_abs: Amount | None
    kl_mean: Finite | None
    top1_agreement: Annotated[float, Field(ge=0, le=1)]
    seconds: Amount

    @model_validator(mode="after")
    def _verdict_agrees_with_the_count(self) -> Self:
        if self.verdict not in Verdict.__members__:
            raise ValueError(f"verdict is {self.verdict!r}; {', '.join(Verdict.__members__)} are")
        if (self.verdict == Verdict.IDENTICAL.name) != (self.logits_differing == 0) and (
            self.verdict != Verdict.REFERENCE_CHANGED.name
        ):
            raise ValueError(f"{self.verdict} contradicts {self.logits_differing} that differ")
        return self


class FrequencyRecord(Record):
    """See `WrongFrequencies`."""

    total: Annotated[int, Field(ge=1)]
    wrong: Count
    differing: Count
    largest_factor: Finite


class AuditProvenance(Record):
    """What a release was measured with.

    Attributes:
        packages: versions of the reference's process.
        measured_at: when the release was finished.
    """

    key: Sha256
    harness_sha256: Sha256
    git_commit: str
    git_dirty: bool
    checkpoint_sha256: Sha256
    prompt_sha256: Sha256
    prompt_source: str
    layers: Annotated[int, Field(ge=1)]
    seed: Count
    chunk: Count
    packages: dict[str, str]
    settings: dict[str, str]
    measured_at: str


class AuditRecord(Record):
    """One release with one attention.

    Attributes:
        model: what of it ran the checkpoint: `HookedTransformer` or `TransformerBridge`.
        ending: name of an `Ending`.
        reason: why, where it is not `MEASURED`.
        wheel_sha256: of PyPI's file, None if nothing was installed, or the harness had it already.
        tree_sha256: over its package's files.
        installed: versions that its process saw, by name.
        overridden: requirements that it declares and that these versions do not meet.
        contexts: ascending; those before a process died, too.
        frequencies: by what they are of, `Llama 3.1` or `checkpoint`; empty if none were seen.
    """

    release: str
    model: str
    attention: str
    ending: str
    reason: str
    checkpoint: str
    dtype: str
    wheel_sha256: Sha256 | None
    tree_sha256: Sha256 | None
    installed: dict[str, str]
    overridden: tuple[str, ...]
    contexts: tuple[ContextRecord, ...]
    frequencies: dict[str, FrequencyRecord]
    provenance: AuditProvenance

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.ending not in Ending.__members__:
            raise ValueError(f"ending is {self.ending!r}; {', '.join(Ending.__members__)} are")
        if bool(self.reason) == (self.ending == Ending.MEASURED.name):
            raise ValueError(f"{self.ending} contradicts the reason {self.reason!r}")
        if self.ending == Ending.NOT_INSTALLED.name and (self.contexts or self.installed):
            raise ValueError(f"{self.ending} contradicts what it measured")
        return self

    @property
    def is_finished(self) -> bool:
        """Whether it need not be run again; what pip or a process failed at may work next time."""
        return self.ending in (Ending.MEASURED.name, Ending.REFUSED.name)

    @property
    def name(self) -> str:
        """`2.9.0`, or `4.3.0 sdpa` where a release has more than one attention."""
        return self.release if self.attention == "eager" else f"{self.release} {self.attention}"


def latest(records: Iterable[AuditRecord]) -> list[AuditRecord]:
    """The last record of every release and attention, in the order of the releases."""
    found = {(Version(record.release), record.attention): record for record in records}
    return [found[key] for key in sorted(found)]


def measured_alike(records: Iterable[AuditRecord], like: AuditRecord) -> list[AuditRecord]:
    """Those of the same layers of the same checkpoint, with the same prompt."""
    names = ("checkpoint_sha256", "layers", "prompt_sha256")
    wanted = [getattr(like.provenance, name) for name in names]
    return [r for r in records if [getattr(r.provenance, name) for name in names] == wanted]
