"""What every record on disk is made of, and the file of them that grows by appending."""

import os
from collections.abc import Hashable, Iterable
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Annotated, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from transformer_lens_fork.errors import InputError
from validation.models.refusals import reason, regular_file, shown

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Record(BaseModel):
    """Part of a line of JSON: frozen, and refusing what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _Dated(Protocol):
    @property
    def measured_at(self) -> str: ...


class _Measurement(Protocol):
    @property
    def case(self) -> Hashable: ...

    @property
    def provenance(self) -> _Dated: ...


_R = TypeVar("_R", bound=Record)
_M = TypeVar("_M", bound=_Measurement)


class RecordFile(Generic[_R]):
    """Records in a file of OUT, one JSON line each, appended, never overwritten.

    Attributes:
        path: the file.
        records: what it holds, in order.
        recovered: what was wrong with it and mended, for people.
    """

    def __init__(self, path: Path, kind: type[_R], name: str) -> None:
        """Reads what is there.

        Args:
            path: the file; it and its folder are made if they are missing.
            kind: what a line holds.
            name: what a record is called in errors.

        Raises:
            InputError: the folder cannot be written, or holds lines that are no such records.
        """
        self.path = path
        self.records: list[_R] = []
        self.recovered: str | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                regular_file(path)
            path.open("ab").close()
            self._read(path.read_bytes(), kind, name)
        except (OSError, ValueError) as error:  # ValueError: NUL in its name
            raise InputError(
                f"--out: {shown(str(path.parent))} cannot be written ({reason(error)}); a writable "
                "folder is accepted."
            ) from None

    def _read(self, content: bytes, kind: type[_R], name: str) -> None:
        whole = content[: content.rfind(b"\n") + 1]
        self.records += parse_records(self.path, whole, kind, name)
        # Only now: a file that is refused stays as it is.
        if whole != content:  # the last line was being written when the machine stopped
            os.truncate(self.path, len(whole))
            self.recovered = f"{self.path}: half a line at its end was removed"

    def append(self, record: _R) -> None:
        """Appends a record; it is on the disk when this returns.

        Raises:
            OSError: the disk is full, say; the file is as it was before.
        """
        before = self.path.stat().st_size if self.path.exists() else 0
        try:
            with self.path.open("ab") as file:
                file.write(record.model_dump_json().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            with suppress(OSError):
                os.truncate(self.path, before)
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self.records.append(record)


def parse_records(
    path: Path, content: bytes, kind: type[_R], name: str, field: str = "--out"
) -> list[_R]:
    """The records in whole lines of a file.

    Args:
        path: the file, for errors.
        content: what was read of it; a last line without its end is being written, and left out.
        kind: what a line holds.
        name: what a record is called in errors.
        field: what named the file.

    Raises:
        InputError: a line holds something else.
    """
    records = []
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        try:
            records.append(kind.model_validate_json(line))
        except ValidationError as error:
            raise InputError(_refusal(field, path, number, name, error)) from None
    return records


def newest(measurements: Iterable[_M]) -> list[_M]:
    """The latest of every case; of two of the same second the later in order."""
    found: dict[Hashable, _M] = {}
    for each in measurements:
        other = found.get(each.case)
        if other is None or other.provenance.measured_at <= each.provenance.measured_at:
            found[each.case] = each
    return list(found.values())


def _refusal(field: str, path: Path, number: int, name: str, error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    where = ".".join(map(str, problem["loc"])) or "the line"
    says = shown(problem["msg"].removeprefix("Value error, "))[1:-1]
    return (
        f"{field}: {path}:{number} is no {name} ({where}: {says}); a folder of this version's "
        "results, or an empty one, is accepted."
    )


def finite(value: float | None) -> float | None:
    """The value, None if it is not finite."""
    return value if value is not None and isfinite(value) else None
