"""What the report and the terminal say about the staged proof, in no format yet."""

from collections.abc import Iterable
from dataclasses import dataclass

from validation.judgement.stages import Stage
from validation.reporting.staged import GraftRecord, StageResult, StageRow
from validation.reporting.tables import Column, Row, Table
from validation.reporting.wording import ABSENT, count, error, ratio, tokens

INTRODUCTION = (
    "The subject is followed from RoPE's inverse frequencies to the logits, each stage on input "
    "that is the reference's own. Up to the rotated queries and keys every number is compared bit "
    "for bit, at every position the model has (at most 131,072). One layer's input is the hidden "
    "state that enters the same layer of the reference, in one forward and in two through the "
    "cache of keys and values. transformers decides; the distance to float64 informs: rounding "
    "alone leaves transformers itself that far away, so the point is not truth but the function "
    "the weights are served with."
)

GRAFT_INTRODUCTION = (
    "The graft puts transformers' tables into every layer of the subject and runs the same prompt "
    "again. Where the subject then also rotates queries and keys as transformers does, bit for "
    "bit, the error that is left is not RoPE's."
)


@dataclass(frozen=True)
class StageSection:
    """The report's section on where a subject first differs.

    Attributes:
        introduction: what was done.
        departures: one sentence a subject and dtype.
        stages: the stages of all of them, None if none could be probed.
        graft_introduction: what the graft is.
        grafts: with and without transformers' tables, None if none could be probed.
    """

    introduction: str
    departures: tuple[str, ...]
    stages: Table | None
    graft_introduction: str
    grafts: Table | None


def compose_stages(results: list[StageResult]) -> StageSection | None:
    """The section, None if there are no staged proofs."""
    if not results:
        return None
    return StageSection(
        introduction=INTRODUCTION,
        departures=tuple(map(departure, results)),
        stages=tabulate_stages(results),
        graft_introduction=GRAFT_INTRODUCTION,
        grafts=tabulate_grafts(results),
    )


def departure(result: StageResult) -> str:
    """Where a subject first leaves the reference, as a sentence."""
    return f"{result.subject}, {result.dtype}: {result.departure}."


def tabulate_stages(results: list[StageResult]) -> Table | None:
    """One row a stage and subject; None if no subject could be probed."""
    rows = tuple(
        Row(_cells(row, result), is_failure=not row.meets_identity)
        for dtype in dict.fromkeys(result.dtype for result in results)
        for stage in Stage
        for result in results
        for row in result.stages
        if result.dtype == dtype and row.stage == stage.name
    )
    columns = (
        *(Column(name, "text") for name in ("stage", "subject", "dtype")),
        Column("differing"),
        Column("of"),
        Column("first at", "text"),
        Column("largest error"),
        Column("at", "text"),
        Column("x floor"),
        Column("transformers from float64"),
        Column("subject from float64"),
    )
    return Table("Subject against transformers, stage by stage", columns, rows) if rows else None


def _cells(row: StageRow, result: StageResult) -> tuple[str, ...]:
    largest = error(row.largest) if row.largest is not None else "missing"
    unit = {"rad": " rad", "relative": " rel."}.get(row.unit, "")
    exact = next((d for d in row.distances if d.oracle == "float64"), None)
    return (
        row.stage,
        result.subject,
        result.dtype,
        count(row.differing) if row.compared else "not observed",
        count(row.compared),
        str(row.first or ABSENT),
        largest + unit if row.differing else "0",
        str(row.largest_at or ABSENT),
        ratio(row.floor_ratio),
        ABSENT if exact is None else error(exact.reference_largest),
        ABSENT if exact is None else error(exact.subject_largest),
    )


def tabulate_grafts(results: Iterable[StageResult]) -> Table | None:
    """One row a subject; None if no subject could be probed."""
    rows = tuple(
        Row(_graft_cells(result, result.graft)) for result in results if result.graft is not None
    )
    columns = (
        *(Column(name, "text") for name in ("subject", "dtype", "tokens")),
        Column("differing logits"),
        Column("with transformers' tables"),
        Column("x floor"),
        Column("x floor, grafted"),
        Column("max error"),
        Column("max error, grafted"),
        Column("what is left", "text"),
    )
    return Table("The graft", columns, rows) if rows else None


def _graft_cells(result: StageResult, graft: GraftRecord) -> tuple[str, ...]:
    return (
        result.subject,
        result.dtype,
        tokens(graft.tokens),
        count(graft.without.differing),
        count(graft.grafted.differing),
        ratio(graft.without.parity_ratio),
        ratio(graft.grafted.parity_ratio),
        error(graft.without.max_abs),
        error(graft.grafted.max_abs),
        _what_is_left(graft),
    )


def _what_is_left(graft: GraftRecord) -> str:
    if not graft.is_held:
        return "unknown: the tree replaced the tables"
    if graft.rotation_differing:
        return f"also RoPE: {count(graft.rotation_differing)} rotated numbers differ"
    return "nothing" if graft.grafted.differing == 0 else "not RoPE"
