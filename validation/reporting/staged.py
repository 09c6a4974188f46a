"""The staged proof on disk: one JSON line a subject and dtype, appended, never overwritten."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field

from validation.execution.jobs import AttentionName
from validation.judgement.graft import Graft, LogitError
from validation.judgement.stages import Stage, StageRecord
from validation.judgement.tally import Place
from validation.judgement.verdict import Verdict
from validation.reporting.records import (
    Amount,
    Count,
    Record,
    RecordFile,
    Sha256,
    finite,
    newest,
)

STAGES = "stages.jsonl"

_StageName = Annotated[str, Field(json_schema_extra={"enum": list(Stage.__members__)})]


class PlaceRecord(Record):
    """Where a number stands: token position, frequency pair, decoder layer, which tensor."""

    position: Count
    pair: Count | None
    layer: Count | None
    what: str

    @classmethod
    def of(cls, place: Place | None) -> Self | None:
        """The place, if there is one."""
        if place is None:
            return None
        return cls(position=place.position, pair=place.pair, layer=place.layer, what=place.what)

    def __str__(self) -> str:
        return str(Place(self.position, self.pair, self.layer, self.what))


class DistanceRecord(Record):
    """How far reference and subject are from an oracle; errors are None where not finite."""

    oracle: str
    reference_differing: Count
    reference_largest: Amount | None
    subject_differing: Count
    subject_largest: Amount | None


class StageRow(Record):
    """The subject against the reference at one stage; `largest` is None if it is not finite."""

    stage: _StageName
    unit: str
    compared: Count
    differing: Count
    first: PlaceRecord | None
    largest: Amount | None
    largest_at: PlaceRecord | None
    floor_ratio: Amount | None
    meets_identity: bool
    meets_floor: bool
    distances: tuple[DistanceRecord, ...]
    trouble: str

    @classmethod
    def of(cls, record: StageRecord) -> Self:
        """One stage, for the file."""
        distances = tuple(
            DistanceRecord(
                oracle=distance.oracle,
                reference_differing=distance.reference_differing,
                reference_largest=finite(distance.reference_largest),
                subject_differing=distance.subject_differing,
                subject_largest=finite(distance.subject_largest),
            )
            for distance in record.distances
        )
        return cls(
            stage=record.stage.name,
            unit=record.stage.unit,
            compared=record.compared,
            differing=record.differing,
            first=PlaceRecord.of(record.first),
            largest=finite(record.largest),
            largest_at=PlaceRecord.of(record.largest_at),
            floor_ratio=finite(record.floor_ratio),
            meets_identity=record.meets(Verdict.IDENTICAL),
            meets_floor=record.meets(Verdict.AT_FLOOR),
            distances=distances,
            trouble=record.trouble,
        )


class LogitErrorRecord(Record):
    """A subject's logits against the reference's."""

    differing: Count
    max_abs: Amount | None
    parity_ratio: Amount | None

    @classmethod
    def of(cls, error: LogitError) -> Self:
        """The error, for the file."""
        return cls(
            differing=error.differing,
            max_abs=finite(error.max_abs),
            parity_ratio=finite(error.parity_ratio),
        )


class GraftRecord(Record):
    """The subject as it is, and with HF's tables in every layer."""

    tokens: Count
    logits_total: Count
    without: LogitErrorRecord
    grafted: LogitErrorRecord
    is_held: bool
    rotation_differing: Count

    @classmethod
    def of(cls, graft: Graft) -> Self:
        """The graft, for the file."""
        return cls(
            tokens=graft.tokens,
            logits_total=graft.logits_total,
            without=LogitErrorRecord.of(graft.without),
            grafted=LogitErrorRecord.of(graft.grafted),
            is_held=graft.is_held,
            rotation_differing=graft.rotation_differing,
        )


class StageProvenance(Record):
    """What the stages were measured with; older ones do not know the commit."""

    key: Sha256
    harness_sha256: Sha256
    git_commit: str = "unknown"
    git_dirty: bool = True
    tree_sha256: Sha256
    series_sha256: Sha256 | None
    sdist_sha256: Sha256
    checkpoint_sha256: Sha256
    prompt_sha256: Sha256
    seed: int
    packages: dict[str, str]
    settings: dict[str, str]
    measured_at: str


class StageResult(Record):
    """One subject at one dtype.

    `attention` is the reference's. `stages` is empty and `graft` None if the subject was refused or
    its worker died; then `departure` says so.
    """

    subject: str
    base: str
    checkpoint: str
    dtype: str
    attention: AttentionName = "eager"
    device: str
    tokens: Annotated[int, Field(ge=1)]
    departure: str
    has_died: bool
    stages: tuple[StageRow, ...] = ()
    graft: GraftRecord | None = None
    provenance: StageProvenance

    @property
    def case(self) -> tuple[str, ...]:
        """What was probed, whatever it was measured with."""
        return (
            self.subject,
            self.base,
            self.checkpoint,
            self.dtype,
            self.attention,
            self.device,
        )

    @property
    def first_stage(self) -> str | None:
        """Name of the first stage that is not identical; None if all are.

        Of a subject that was refused or died it is the first stage there is: nothing was computed.
        """
        if not self.stages:
            return next(iter(Stage)).name
        return next((row.stage for row in self.stages if not row.meets_identity), None)

    def passes(self, required: Verdict) -> bool:
        """Whether every stage is identical, the layers and logits at least as `required`."""
        if required is Verdict.IDENTICAL:
            return bool(self.stages) and all(row.meets_identity for row in self.stages)
        return bool(self.stages) and all(row.meets_floor for row in self.stages)


class StageStore:
    """The staged proofs in one folder, by key.

    Attributes:
        folder: the folder.
        recovered: what was wrong with the file and mended, for people.
    """

    def __init__(self, folder: Path) -> None:
        """Reads what is there.

        Raises:
            InputError: the folder cannot be written, or holds lines that are no such results.
        """
        self.folder = folder
        self._file = RecordFile(folder / STAGES, StageResult, "staged proof")
        self.recovered = self._file.recovered
        self._by_key = {result.provenance.key: result for result in self._file.records}

    def add(self, result: StageResult) -> None:
        """Appends a result; it is on the disk when this returns.

        Raises:
            OSError: the disk is full, say; the file is as it was before.
        """
        self._file.append(result)
        self._by_key[result.provenance.key] = result

    def holds(self, result: StageResult) -> bool:
        """Whether this very line is there, be it the newest or not."""
        return result in self._file.records

    def finished(self, key: str) -> StageResult | None:
        """The result of a probe that need not run again: a death may have been an accident."""
        result = self._by_key.get(key)
        return result if result is not None and not result.has_died else None

    def all(self) -> list[StageResult]:
        """The newest of every case, whatever it was measured with."""
        return newest(self._by_key.values())

    def with_others(self, results: list[StageResult]) -> list[StageResult]:
        """`results`, then what is here of other cases, however these were measured before."""
        asked = {result.case for result in results}
        return [*results, *(result for result in self.all() if result.case not in asked)]
