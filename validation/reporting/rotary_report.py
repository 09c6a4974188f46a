"""Ways to rotate queries and keys on disk, a JSON line for each way and context, and as a table."""

from dataclasses import asdict
from statistics import median
from typing import Any

from pydantic import JsonValue

from validation.execution.rotary import Rotation
from validation.reporting.records import Count, Record
from validation.reporting.tables import Column, Row, Table
from validation.reporting.wording import ABSENT, count, memory, tokens

ROTARY = "rotary.jsonl"


class RotaryRecord(Record):
    """One way at one context; see `Rotation`.

    `measured_with` has the versions and settings, and what was rotated.
    """

    way: str
    context: Count
    seconds: tuple[float, ...]
    added_bytes: Count
    differing: Count
    trouble: str
    measured_with: dict[str, JsonValue]


def record_rotation(rotation: Rotation, measured_with: dict[str, Any]) -> RotaryRecord:
    """The record of what was measured."""
    return RotaryRecord(**asdict(rotation), measured_with=measured_with)


def tabulate_rotations(records: list[RotaryRecord]) -> Table:
    """Medians, and their ratio to the fork's of the same context."""
    own = {r.context: median(r.seconds) for r in records if r.way == "fork" and r.seconds}
    headings = ("median", "x fork", "adds", "values that differ from transformers'")
    columns = (Column("tokens", "text"), Column("way", "text"), *map(Column, headings))
    return Table(
        "Rotation of one layer's queries and keys",
        (*columns, Column("not measured, because", "text")),
        tuple(Row(_cells(record, own.get(record.context))) for record in records),
    )


def _cells(record: RotaryRecord, own: float | None) -> tuple[str, ...]:
    if not record.seconds:
        return tokens(record.context), record.way, *[ABSENT] * 4, record.trouble
    middle = median(record.seconds)
    return (
        tokens(record.context),
        record.way,
        f"{1e3 * middle:.3f} ms",
        f"{middle / own:.2f}" if own else ABSENT,
        memory(record.added_bytes),
        count(record.differing),
        "",
    )
