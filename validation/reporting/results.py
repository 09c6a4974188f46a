"""Results on disk: one JSON line a case, appended, never overwritten."""

from math import isclose
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from validation.judgement.bins import rms_ratio
from validation.judgement.thresholds import MAX_RATIO, MAX_SLOPE, MIN_DRIFT
from validation.judgement.verdict import Verdict
from validation.reporting.records import (
    Amount,
    Count,
    Finite,
    Record,
    RecordFile,
    Sha256,
    newest,
)

RESULTS = "results.jsonl"

_VerdictName = Annotated[str, Field(json_schema_extra={"enum": list(Verdict.__members__)})]


class BinRecord(Record):
    """Errors in logits over positions `start` to `stop`, `stop` excluded."""

    start: Count
    stop: Annotated[int, Field(ge=1)]
    differing: Count
    rms: Amount | None
    floor_rms: Amount
    mean_abs: Amount | None
    floor_mean_abs: Amount
    max_abs: Amount | None
    ratio_interval: tuple[Amount, Amount] | None


class FirstDiffering(Record):
    """The first logit that differs, with both values; the subject's is None if not finite."""

    position: Count
    token: Count
    reference: Finite
    subject: Finite | None


class SlopeRecord(Record):
    """Growth of the parity ratio, as a power of position, with its 95 % confidence interval."""

    value: Finite
    low: Finite
    high: Finite


class Provenance(Record):
    """What the result was measured with; whatever could change it is here or in the case.

    `eager_prefill` is the number of tokens a forward of the eager attention that the floor is
    measured with; older results do not have it: there it is the case's `prefill`.
    """

    case_key: Sha256
    harness_sha256: Sha256
    git_commit: str
    git_dirty: bool
    tree_sha256: Sha256
    series_sha256: Sha256 | None
    sdist_sha256: Sha256
    checkpoint_sha256: Sha256
    layers: Annotated[int, Field(ge=1)]
    prompt_sha256: Sha256
    prompt_source: str
    reference_attention: str
    floor: str
    eager_prefill: Annotated[int, Field(ge=1)] | None = None
    seed: int
    chunk: int
    packages: dict[str, str]
    settings: dict[str, str]
    measured_at: str


class Result(Record):
    """One case: one subject at one dtype and context.

    Fields that come from logits are None where there are none (TOO_LARGE, REFUSED, DIED), and
    errors are None where they are not finite. `prefill` is the number of tokens a forward,
    `power_ratio` how many times the floor a RoPE without scaling is (None: unbounded), `floors` the
    mean absolute error of each reordering of the reference that the floor is made of. With
    `--lazy-floor` what is IDENTICAL has no floor: `bins` and these are None. `reference_sha256`
    (absent in older results) is over the bits of the reference's logits. `seconds` are
    of the forward; `parts` (absent in older results) of all that was done, by name: `load` (once
    for all contexts of a process), `forward` to the last norm, `unembed` (of both models, among
    the subject's; in older results part of `compare`), `floor`, `compare` and `files`.
    """

    subject: str
    base: str
    checkpoint: str
    dtype: str
    device: str
    context: Annotated[int, Field(ge=1)]
    prefill: Annotated[int, Field(ge=1)]
    verdict: _VerdictName
    reason: str
    notes: tuple[str, ...]
    logits_total: Count | None = None
    logits_differing: Count | None = None
    first_differing: FirstDiffering | None = None
    parity_ratio: Amount | None = None
    parity_ratio_by_bin: tuple[Amount | None, ...] | None = None
    power_ratio: Amount | None = None
    bins: tuple[BinRecord, ...] | None = None
    slope: SlopeRecord | None = None
    max_abs: Amount | None = None
    mean_abs: Amount | None = None
    floor_mean_abs: Amount | None = None
    floors: dict[str, Amount] | None = None
    reference_sha256: Sha256 | None = None
    kl_mean: Finite | None = None
    top1_agreement: Annotated[float, Field(ge=0, le=1)] | None = None
    top1_counted: Count | None = None
    seconds: Amount | None = None
    parts: dict[str, Amount] | None = None
    peak_memory_bytes: Count | None = None
    planned_peak_memory_bytes: Count | None = None
    reference_seconds: Amount | None = None
    reference_parts: dict[str, Amount] | None = None
    reference_peak_memory_bytes: Count | None = None
    planned_reference_peak_memory_bytes: Count | None = None
    provenance: Provenance

    @model_validator(mode="after")
    def _verdict_agrees_with_the_count(self) -> Self:
        if self.verdict not in Verdict.__members__:
            accepted = ", ".join(Verdict.__members__)
            raise ValueError(f"verdict is {self.verdict!r}; accepted are {accepted}")
        is_same = self.logits_differing == 0
        if (self.verdict == Verdict.IDENTICAL.name) != is_same and (
            self.verdict != Verdict.REFERENCE_CHANGED.name
        ):
            raise ValueError(
                f"verdict {self.verdict} contradicts logits_differing {self.logits_differing}"
            )
        return self

    @model_validator(mode="after")
    def _counts_fit(self) -> Self:
        total, differing = self.logits_total, self.logits_differing
        if (total is None) != (differing is None):
            raise ValueError(f"logits_total is {total} and logits_differing {differing}")
        if total is None or differing is None:
            return self
        if total == 0 or total % self.context:
            raise ValueError(
                f"logits_total is {total}; a positive multiple of context {self.context} is "
                "accepted"
            )
        if differing > total:
            raise ValueError(f"logits_differing {differing} is more than logits_total {total}")
        return self

    @model_validator(mode="after")
    def _errors_bear_the_verdict_out(self) -> Self:
        # What an earlier run measured is believed by a later one: a line that somebody edited, or
        # that an older rule judged, must not become a pass.
        if self.verdict == Verdict.IDENTICAL.name:
            self._refuse_errors_of_the_identical()
        elif self.verdict == Verdict.AT_FLOOR.name:
            self._refuse_errors_beyond_the_floor()
        return self

    def _refuse_errors_of_the_identical(self) -> None:
        figures = {"max_abs": self.max_abs, "mean_abs": self.mean_abs}
        for name, value in figures.items():
            if value != 0:
                raise ValueError(f"verdict IDENTICAL contradicts {name} {value}")
        for bin_ in self.bins or ():
            if (bin_.differing, bin_.max_abs, bin_.rms) != (0, 0, 0):
                raise ValueError(
                    f"verdict IDENTICAL contradicts the bin of positions {bin_.start}-"
                    f"{bin_.stop - 1}: differing {bin_.differing}, rms {bin_.rms}, max_abs "
                    f"{bin_.max_abs}"
                )

    def _refuse_errors_beyond_the_floor(self) -> None:
        ratios = self.parity_ratio_by_bin
        if not ratios or self.max_abs is None or self.mean_abs is None:
            raise ValueError("verdict AT_FLOOR contradicts errors that are missing or not finite")
        for ratio in ratios:
            if ratio is None or ratio > MAX_RATIO:
                raise ValueError(
                    f"verdict AT_FLOOR contradicts parity_ratio_by_bin, where {ratio} is; at most "
                    f"{MAX_RATIO:g} is accepted"
                )
        self._refuse_ratios_of_other_bins()
        drifts = self.slope is not None and self.slope.low > MAX_SLOPE
        if self.slope is not None and drifts and max(filter(None, ratios)) > MIN_DRIFT:
            raise ValueError(
                f"verdict AT_FLOOR contradicts slope.low {self.slope.low}; at most {MAX_SLOPE:g} "
                "is accepted"
            )
        if self.power_ratio is not None and self.power_ratio <= MAX_RATIO:
            raise ValueError(
                f"verdict AT_FLOOR contradicts power_ratio {self.power_ratio}; more than "
                f"{MAX_RATIO:g} is accepted"
            )
        if self.top1_counted:
            raise ValueError(f"verdict AT_FLOOR contradicts top1_counted {self.top1_counted}")

    def _refuse_ratios_of_other_bins(self) -> None:
        ratios, bins = self.parity_ratio_by_bin or (), self.bins or ()
        if len(ratios) != len(bins):
            raise ValueError(f"parity_ratio_by_bin has {len(ratios)} ratios of {len(bins)} bins")
        for ratio, bin_ in zip(ratios, bins, strict=True):
            measured = rms_ratio(bin_.rms or 0.0, bin_.floor_rms)
            if not isclose(ratio or 0.0, measured or 0.0, rel_tol=1e-6):
                raise ValueError(
                    f"parity_ratio_by_bin {ratio} contradicts the bin of positions {bin_.start}-"
                    f"{bin_.stop - 1}, where it is {measured}"
                )

    @property
    def attention(self) -> str:
        """The reference's implementation of attention."""
        return self.provenance.reference_attention

    @property
    def case(self) -> tuple[str | int, ...]:
        """What was compared, whatever it was measured with."""
        return (
            self.subject,
            self.base,
            self.checkpoint,
            self.dtype,
            self.attention,
            self.device,
            self.context,
        )

    @property
    def outcome(self) -> Verdict:
        """The verdict as the enum."""
        return Verdict[self.verdict]

    @property
    def is_finished(self) -> bool:
        """Whether running it again would give the same.

        A death may have been an accident; what did not fit may fit now, and costs nothing to ask.
        """
        return self.outcome not in (Verdict.DIED, Verdict.TOO_LARGE)


class ResultStore:
    """The results in one folder, by case.

    Attributes:
        folder: the folder.
        recovered: what was wrong with the file and mended, for people.
    """

    def __init__(self, folder: Path) -> None:
        """Reads what is there.

        Raises:
            InputError: the folder cannot be written, or holds lines that are no results.
        """
        self.folder = folder
        self._file = RecordFile(folder / RESULTS, Result, "result")
        self.recovered = self._file.recovered
        self._by_key = {result.provenance.case_key: result for result in self._file.records}

    def add(self, result: Result) -> None:
        """Appends a result; it is on the disk when this returns.

        Raises:
            OSError: the disk is full, say; the file is as it was before.
        """
        self._file.append(result)
        self._by_key[result.provenance.case_key] = result

    def holds(self, result: Result) -> bool:
        """Whether this very line is there, be it the newest or not."""
        return result in self._file.records

    def finished(self, case_key: str) -> Result | None:
        """The result of a case that need not run again."""
        result = self._by_key.get(case_key)
        return result if result is not None and result.is_finished else None

    def all(self) -> list[Result]:
        """The newest result of every case, whatever it was measured with."""
        return newest(self._by_key.values())

    def beside(self, results: list[Result]) -> list[Result]:
        """What is here of other cases than `results`, however these were measured before."""
        asked = {result.case for result in results}
        return [result for result in self.all() if result.case not in asked]
