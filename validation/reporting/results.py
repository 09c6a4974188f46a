"""Results on disk: one JSON line a case, appended, never overwritten."""

import os
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from transformer_lens_fork.errors import InputError
from validation.judgement.verdict import Verdict

RESULTS = "results.jsonl"

_Count = Annotated[int, Field(ge=0)]
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_VerdictName = Annotated[str, Field(json_schema_extra={"enum": list(Verdict.__members__)})]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BinRecord(_Data):
    """Errors in logits over positions `start` to `stop`, `stop` excluded."""

    start: _Count
    stop: Annotated[int, Field(ge=1)]
    differing: _Count
    rms: _Amount | None
    floor_rms: _Amount
    mean_abs: _Amount | None
    floor_mean_abs: _Amount
    max_abs: _Amount | None


class SlopeRecord(_Data):
    """Growth of the parity ratio, as a power of position, with its 95 % confidence interval."""

    value: _Finite
    low: _Finite
    high: _Finite


class Provenance(_Data):
    """What the result was measured with; whatever could change it is here or in the case."""

    case_key: _Sha256
    harness_sha256: _Sha256
    git_commit: str
    git_dirty: bool
    tree_sha256: _Sha256
    series_sha256: _Sha256 | None
    sdist_sha256: _Sha256
    checkpoint_sha256: _Sha256
    prompt_sha256: _Sha256
    prompt_source: str
    reference_attention: str
    floor: str
    seed: int
    chunk: int
    packages: dict[str, str]
    settings: dict[str, str]
    measured_at: str


class Result(_Data):
    """One case: one subject at one dtype and context.

    Fields that come from logits are None where there are none (REFUSED, DIED), and errors are None
    where they are not finite.
    """

    subject: str
    base: str
    checkpoint: str
    dtype: str
    device: str
    context: Annotated[int, Field(ge=1)]
    verdict: _VerdictName
    reason: str
    notes: tuple[str, ...]
    logits_total: _Count | None = None
    logits_differing: _Count | None = None
    parity_ratio: _Amount | None = None
    parity_ratio_by_bin: tuple[_Amount | None, ...] | None = None
    bins: tuple[BinRecord, ...] | None = None
    slope: SlopeRecord | None = None
    max_abs: _Amount | None = None
    mean_abs: _Amount | None = None
    floor_mean_abs: _Amount | None = None
    kl_mean: _Finite | None = None
    top1_agreement: Annotated[float, Field(ge=0, le=1)] | None = None
    top1_counted: _Count | None = None
    seconds: _Amount | None = None
    peak_memory_bytes: _Count | None = None
    reference_seconds: _Amount | None = None
    reference_peak_memory_bytes: _Count | None = None
    provenance: Provenance

    @model_validator(mode="after")
    def _verdict_agrees_with_the_count(self) -> Self:
        if self.verdict not in Verdict.__members__:
            accepted = ", ".join(Verdict.__members__)
            raise ValueError(f"verdict is {self.verdict!r}; accepted are {accepted}")
        if (self.verdict == Verdict.IDENTICAL.name) != (self.logits_differing == 0):
            raise ValueError(
                f"verdict {self.verdict} contradicts logits_differing {self.logits_differing}"
            )
        return self

    @property
    def case(self) -> tuple[str, str, str, str, str, int]:
        """What was compared, whatever it was measured with."""
        return (
            self.subject,
            self.base,
            self.checkpoint,
            self.dtype,
            self.device,
            self.context,
        )

    @property
    def outcome(self) -> Verdict:
        """The verdict as the enum."""
        return Verdict[self.verdict]

    @property
    def is_finished(self) -> bool:
        """Whether running it again would give the same: a death may have been an accident."""
        return self.outcome is not Verdict.DIED


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
        self.recovered: str | None = None
        self._by_key: dict[str, Result] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / RESULTS).open("ab").close()
        except OSError as error:
            raise InputError(
                f"--out: {str(folder)!r} cannot be written ({error.strerror}); a writable folder "
                "is accepted."
            ) from None
        self._read()

    def _read(self) -> None:
        path = self.folder / RESULTS
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:  # the last line was being written when the machine stopped
            os.truncate(path, len(whole))
            self.recovered = f"{path}: half a line at its end was removed"
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                result = Result.model_validate_json(line)
            except ValidationError as error:
                problem = error.errors(include_url=False)[0]
                where = ".".join(map(str, problem["loc"])) or "the line"
                raise InputError(
                    f"--out: {path}:{number} is no result ({where}: {problem['msg']}); a folder "
                    "of this version's results, or an empty one, is accepted."
                ) from None
            self._by_key[result.provenance.case_key] = result

    def add(self, result: Result) -> None:
        """Appends a result; it is on the disk when this returns."""
        with (self.folder / RESULTS).open("ab") as file:
            file.write(result.model_dump_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._by_key[result.provenance.case_key] = result

    def finished(self, case_key: str) -> Result | None:
        """The result of a case that need not run again."""
        result = self._by_key.get(case_key)
        return result if result is not None and result.is_finished else None

    def all(self) -> list[Result]:
        """The newest result of every case."""
        return list(self._by_key.values())

    def beside(self, results: list[Result]) -> list[Result]:
        """What is here of other cases than `results`, however these were measured before."""
        asked = {result.case for result in results}
        return [result for result in self.all() if result.case not in asked]
