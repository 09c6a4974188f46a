"""What the report on planted faults says, in no format yet."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from validation.judgement.kills import Outcome
from validation.judgement.stages import Stage
from validation.reporting.fault_records import EffectRecord, FaultRecord
from validation.reporting.tables import Column, Row, Table
from validation.reporting.wording import ABSENT, count, tokens

_MARKS = {
    Outcome.SURVIVED: "survives",
    Outcome.HIDDEN: "hidden",
    Outcome.EQUIVALENT: "same",
    Outcome.NOT_EQUIVALENT: "NOT THE SAME",
    Outcome.UNDECIDED: "undecided",
}


@dataclass(frozen=True)
class FaultReport:
    """All that the report shows.

    Attributes:
        headlines: what was found, in sentences.
        rates: how many faults were caught, by dtype and context.
        matrix: fault by dtype and context.
        left: faults that no case caught, each with the reason.
        effects: minimum detectable effects, None if they were not asked for.
        legend: the outcomes and what they mean.
    """

    headlines: tuple[str, ...]
    rates: Table
    matrix: Table
    left: Table
    effects: Table | None
    legend: tuple[tuple[str, str], ...]


def compose_faults(records: list[FaultRecord], effects: list[EffectRecord]) -> FaultReport:
    """The report on `records`, in the catalogue's order."""
    return FaultReport(
        headlines=tuple(_headlines(records)),
        rates=_rates(records),
        matrix=tabulate_matrix(records),
        left=_left(records),
        effects=_effects(effects) if effects else None,
        legend=tuple((outcome.name, outcome.value) for outcome in Outcome),
    )


def cases(records: Iterable[FaultRecord]) -> list[tuple[str, int]]:
    """Every dtype and context, in the order of the records."""
    return list(dict.fromkeys((record.dtype, record.context) for record in records))


def by_fault(records: Iterable[FaultRecord]) -> dict[str, list[FaultRecord]]:
    """The records of each fault, in their order."""
    found: dict[str, list[FaultRecord]] = {}
    for record in records:
        found.setdefault(record.fault, []).append(record)
    return found


def missed_faults(records: Iterable[FaultRecord]) -> list[str]:
    """Faults because of which the run fails.

    They could show in some case or stage and neither logits nor a stage caught them, or are no such
    equivalent as they are said to be, or nothing can be said about them.
    """
    return [
        name
        for name, group in by_fault(records).items()
        if any(r.result in (Outcome.NOT_EQUIVALENT, Outcome.UNDECIDED) for r in group)
        or (group[0].equivalent is not None and any(r.first_stage for r in group))
        or (_can_show(group) and not any(r.is_caught for r in group))
    ]


def _can_show(group: list[FaultRecord]) -> bool:
    return any(record.is_visible or record.is_visible_in_stages for record in group)


def cell(record: FaultRecord) -> str:
    """One cell of the matrix: how far above the floor, or why there is no such figure."""
    if not record.result.is_caught:
        return _MARKS[record.result]
    if record.parity_ratio is None:
        return str(record.verdict)
    shown = f"{record.parity_ratio:.3g}"
    return shown if record.result is Outcome.BEYOND_FLOOR else f"({shown})"


def tabulate_matrix(records: list[FaultRecord]) -> Table:
    """Fault by case; a cell is the error as a multiple of the floor's."""
    names = ("family", "fault", "mistake", "first stage")
    columns = (
        *(Column(name, "text") for name in names),
        *(Column(f"{dtype} {tokens(context)}") for dtype, context in cases(records)),
    )
    rows = (
        Row(
            (
                *(group[0].family, name, group[0].mistake, _stages(group)),
                *map(cell, group),
            )
        )
        for name, group in by_fault(records).items()
    )
    return Table("Faults, and their errors as multiples of the floor's", columns, tuple(rows))


def _stages(group: list[FaultRecord]) -> str:
    """The first stage that noticed, in every dtype where one did."""
    return ", ".join(dict.fromkeys(r.first_stage for r in group if r.first_stage)) or ABSENT


def _headlines(records: list[FaultRecord]) -> Iterable[str]:
    groups = by_fault(records)
    same = sum(group[0].equivalent is not None for group in groups.values())
    wrong = [group for group in groups.values() if group[0].equivalent is None]
    killed = [group for group in wrong if any(r.is_caught for r in group)]
    yield (
        f"{len(killed)} of {len(wrong)} planted faults are caught, by a stage or by logits. "
        f"{same} more were planted that are the same function."
    )
    visible = [group for group in wrong if any(r.is_visible for r in group)]
    caught = [group for group in visible if any(r.result.is_caught for r in group)]
    beyond = [g for g in caught if any(r.result is Outcome.BEYOND_FLOOR for r in g)]
    yield (
        f"By logits alone: {len(caught)} of the {len(visible)} that can show in these contexts, "
        f"{len(beyond)} beyond the floor and {len(caught) - len(beyond)} only because the sound "
        "fork does not differ at all."
    )
    seen = Counter(stage for group in wrong if (stage := _first_stage(group)))
    stages = ", ".join(f"{stage.name} {seen[stage.name]}" for stage in Stage if seen[stage.name])
    yield f"By stages alone: {seen.total()} of {len(wrong)}, first seen at {stages or ABSENT}."
    if missed := missed_faults(records):
        yield f"Not caught: {', '.join(missed)}."


def _first_stage(group: list[FaultRecord]) -> str | None:
    """The earliest in any dtype."""
    found = {record.first_stage for record in group}
    return next((stage.name for stage in Stage if stage.name in found), None)


def _rates(records: list[FaultRecord]) -> Table:
    headings = ("can show", "beyond the floor", "differ at all", "not caught", "hidden")
    return Table(
        "Faults that logits alone catch",
        (Column("dtype", "text"), Column("tokens", "text"), *map(Column, headings)),
        tuple(
            Row((dtype, tokens(context), *_rate_cells(records, dtype, context)))
            for dtype, context in cases(records)
        ),
    )


def _rate_cells(records: list[FaultRecord], dtype: str, context: int) -> Iterable[str]:
    here = [r for r in records if (r.dtype, r.context) == (dtype, context)]
    visible = [r for r in here if r.is_visible]

    def number(holds: Callable[[Outcome], bool]) -> int:
        return sum(holds(record.result) for record in visible)

    yield count(len(visible))
    yield _share(number(lambda outcome: outcome is Outcome.BEYOND_FLOOR), len(visible))
    yield _share(number(lambda outcome: outcome.is_caught), len(visible))
    yield count(number(lambda outcome: not outcome.is_caught))
    yield count(sum(record.result is Outcome.HIDDEN for record in here))


def _share(part: int, whole: int) -> str:
    return f"{part} ({part / whole:.0%})" if whole else ABSENT


def _left(records: list[FaultRecord]) -> Table:
    rows = []
    for name, group in by_fault(records).items():
        if not any(record.result.is_caught for record in group):
            worst = max(group, key=lambda record: _GRAVITY.index(record.result))
            reason = group[0].equivalent or worst.reason
            rows.append(Row((group[0].family, name, worst.outcome, reason)))
    columns = tuple(Column(name, "text") for name in ("family", "fault", "outcome", "reason"))
    return Table("Faults that no case caught", columns, tuple(rows))


_GRAVITY = (
    Outcome.BEYOND_FLOOR,
    Outcome.DIFFERS,
    Outcome.EQUIVALENT,
    Outcome.HIDDEN,
    Outcome.SURVIVED,
    Outcome.UNDECIDED,
    Outcome.NOT_EQUIVALENT,
)
"""Of what may be said of one fault in several cases, the last is what the reader must know."""


def _effects(effects: list[EffectRecord]) -> Table:
    names = ("quantity", "noticed", "dtype", "tokens")
    columns = (
        *(Column(name, "text") for name in names),
        *map(Column, ("smallest caught", "largest missed")),
    )
    rows = (
        Row(
            (
                record.quantity,
                record.criterion,
                record.dtype,
                tokens(record.context) if record.context else "all positions",
                _size(record.caught),
                _size(record.missed),
            )
        )
        for record in effects
    )
    return Table("Smallest relative errors that are noticed", columns, tuple(rows))


def _size(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.2g}"
