"""What the report on false alarms says, in no format yet."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np

from validation.execution.clean import Clean
from validation.execution.jobs import DtypeName
from validation.judgement.floor_rules import POOLED
from validation.judgement.thresholds import MAX_RATIO, MAX_SLOPE, MIN_DRIFT
from validation.judgement.verdict import Verdict
from validation.reporting.alarm_rate import upper_rate
from validation.reporting.alarm_records import AlarmRecord, ComparisonRecord, RuleRecord
from validation.reporting.tables import Column, Row, Table
from validation.reporting.wording import ABSENT, count, ratio, tokens


@dataclass(frozen=True)
class AlarmReport:
    """All that the report shows.

    Attributes:
        headlines: what was found, in sentences.
        kinds: verdicts and ratios by kind of clean deviation.
        dtypes: the same by dtype.
        rules: false alarms and kills under each way of making the floor.
        faults: which small faults are caught under each.
        spread: how far apart the two floors are, by dtype.
        beside: deviations that are no reorderings, None if there are none.
        alarms: the clean comparisons that fail, each with its reason.
        legend: the kinds and what each does in another order.
    """

    headlines: tuple[str, ...]
    kinds: Table
    dtypes: Table
    rules: Table
    faults: Table
    spread: Table
    beside: Table | None
    alarms: Table
    legend: tuple[tuple[str, str], ...]


Compared = tuple[AlarmRecord, ComparisonRecord]


def compose_alarms(records: list[AlarmRecord]) -> AlarmReport:
    """The report on `records`."""
    clean, beside = clean_comparisons(records), _beside(records)
    by_kind = [(kind.name, [c for _, c in clean if c.kind == kind.name]) for kind in Clean]
    left = [(f"{c.kind} {r.dtype}", c) for r, c in beside]
    by_left = [(name, [c for n, c in left if n == name]) for name in dict(left)]
    return AlarmReport(
        headlines=tuple(_headlines(records)),
        kinds=_verdicts("Clean comparisons by kind", "kind", by_kind),
        dtypes=tabulate_dtypes(records),
        rules=_rules(records),
        faults=_faults(records),
        spread=_spread(records),
        beside=_verdicts("Weights rounded again", "kind", by_left) if beside else None,
        alarms=_alarms(clean),
        legend=tuple((kind.name, kind.value) for kind in Clean),
    )


def tabulate_dtypes(records: list[AlarmRecord]) -> Table:
    """Verdicts and ratios of clean comparisons by dtype."""
    dtypes = dict.fromkeys(name for name in get_args(DtypeName) for r in records if r.dtype == name)
    clean = clean_comparisons(records)
    groups = [(dtype, [c for r, c in clean if r.dtype == dtype]) for dtype in dtypes]
    return _verdicts("Clean comparisons by dtype", "dtype", groups)


def clean_comparisons(records: Iterable[AlarmRecord]) -> list[Compared]:
    """Those that must not fail, each with the record that it is in."""
    return [(r, c) for r in records for c in r.comparisons if c.is_clean]


def false_alarms(records: Iterable[AlarmRecord]) -> list[Compared]:
    """Clean comparisons that fail."""
    return [(r, c) for r, c in clean_comparisons(records) if c.judged.is_alarm]


def _beside(records: Iterable[AlarmRecord]) -> list[Compared]:
    return [(r, c) for r in records for c in r.comparisons if not c.is_clean and not c.is_fault]


def _planted(records: Iterable[AlarmRecord]) -> list[Compared]:
    """Faults that change a logit at all."""
    return [(r, c) for r in records for c in r.comparisons if c.is_fault and c.logits_differing]


def _headlines(records: list[AlarmRecord]) -> Iterator[str]:
    clean = [c for _, c in clean_comparisons(records)]
    resting = [c for c in clean if not c.is_identical]
    blind = sum(c.judged.outcome is Verdict.BLIND for c in clean)
    alarms = false_alarms(records)
    yield (
        f"False alarms: {len(alarms)} in {len(clean)} clean comparisons. "
        f"{len(clean) - len(resting)} are identical; {len(resting)} differ, and their verdict "
        f"rests on the floor, {blind} of them BLIND."
    )
    alarmed = len({record.provenance.key for record, _ in alarms})
    yield (
        f"Comparisons against one reference are not independent; of {len(records)} references "
        f"{alarmed} have an alarm, so that at 95 % confidence at most "
        f"{upper_rate(alarmed, len(records)):.1%} of such references would."
    )
    if resting:
        worst = max(map(_worst, resting))
        yield (
            f"The largest error in a bin of positions is {worst:.2f} times the floor's "
            f"({MAX_RATIO:g} allowed)."
        )
    drifting = _counted_slopes(resting)
    if drifting:
        yield (
            f"Of the {len(drifting)} whose slope counts (above {MIN_DRIFT:g} times the floor "
            f"somewhere), the largest lower end is {max(drifting):.3f} ({MAX_SLOPE:g} allowed)."
        )


def _worst(comparison: ComparisonRecord, rule: str = POOLED) -> float:
    worst = under(comparison, rule).worst_ratio
    return np.inf if worst is None else worst


def under(comparison: ComparisonRecord, rule: str) -> RuleRecord:
    """The comparison as a rule judges it; identical is identical under every rule."""
    return comparison.judged if rule == POOLED else comparison.rules.get(rule, comparison.judged)


def _verdicts(caption: str, what: str, groups: list[tuple[str, list[ComparisonRecord]]]) -> Table:
    headings = ("compared", "identical", "at the floor", "BLIND", "FAIL")
    figures = ("x floor, median", "95 % of them", "largest", "largest in a bin", "slope, largest")
    columns = (Column(what, "text"), *map(Column, (*headings, *figures)))
    rows = (Row((name, *_verdict_cells(group))) for name, group in groups if group)
    return Table(caption, columns, tuple(rows))


def _verdict_cells(group: list[ComparisonRecord]) -> Iterator[str]:
    outcomes = [c.judged.outcome for c in group]
    yield count(len(group))
    for verdict in (Verdict.IDENTICAL, Verdict.AT_FLOOR, Verdict.BLIND):
        yield count(outcomes.count(verdict))
    yield count(sum(c.judged.is_alarm for c in group))
    resting = [c for c in group if not c.is_identical]
    if not resting:
        yield from (ABSENT,) * 5
        return
    ratios = [np.inf if (r := c.judged.parity_ratio) is None else r for c in resting]
    yield from (ratio(float(np.quantile(ratios, share))) for share in (0.5, 0.95, 1.0))
    yield ratio(max(map(_worst, resting)))
    slopes = _counted_slopes(resting)
    yield ratio(max(slopes)) if slopes else ABSENT


def _counted_slopes(group: list[ComparisonRecord]) -> list[float]:
    """Lower ends of the slopes' intervals, where the ratio is large enough for a slope to count."""
    return [c.slope.low for c in group if c.slope is not None and _worst(c) > MIN_DRIFT]


def rule_names(records: Iterable[AlarmRecord]) -> list[str]:
    """The floor that judges, then the others."""
    names = (rule for r in records for c in r.comparisons for rule in c.rules)
    return list(dict.fromkeys((POOLED, *names)))


def _rules(records: list[AlarmRecord]) -> Table:
    clean = [(r, c) for r, c in clean_comparisons(records) if not c.is_identical]
    planted = _planted(records)
    headings = ("false alarms", "references with one", "largest in a bin", "faults caught")
    rows = []
    for rule in rule_names(records):
        alarms = [r.provenance.key for r, c in clean if under(c, rule).is_alarm]
        caught = sum(under(c, rule).is_alarm for _, c in planted)
        worst = max((_worst(c, rule) for _, c in clean), default=0.0)
        cells = (
            f"{len(alarms)} of {len(clean)}",
            f"{len(set(alarms))} of {len(records)}",
            ratio(worst),
            f"{caught} of {len(planted)}",
        )
        rows.append(Row((rule, *cells)))
    columns = (Column("floor", "text"), *map(Column, headings))
    return Table("What each way of making the floor would say", columns, tuple(rows))


def _faults(records: list[AlarmRecord]) -> Table:
    """Small faults by dtype; a cell counts those caught."""
    rules = rule_names(records)
    groups: dict[tuple[str, str], list[ComparisonRecord]] = {}
    for record, comparison in _planted(records):
        groups.setdefault((comparison.kind, record.dtype), []).append(comparison)
    rows = (
        Row(
            (
                *key,
                count(len(group)),
                *(count(sum(under(c, rule).is_alarm for c in group)) for rule in rules),
            )
        )
        for key, group in sorted(groups.items())
    )
    texts = (Column("fault", "text"), Column("dtype", "text"))
    columns = (*texts, Column("change a logit"), *map(Column, rules))
    return Table("Small faults that each floor catches", columns, tuple(rows))


def _spread(records: list[AlarmRecord]) -> Table:
    """The second floor over the first, least, median and most."""
    groups: dict[str, list[float]] = {}
    for record in records:
        first, second = list(record.floors.values())[:2]
        groups.setdefault(record.dtype, []).append(second / first if first else np.inf)
    names = list(records[0].floors)[:2] if records else ["", ""]
    rows = (
        Row((dtype, count(len(v)), *(ratio(float(np.quantile(v, q))) for q in (0.0, 0.5, 1.0))))
        for dtype, v in groups.items()
    )
    headings = ("references", "least", "median", "most")
    columns = (Column("dtype", "text"), *map(Column, headings))
    return Table(f"RMS of the floor '{names[1]}' over '{names[0]}'", columns, tuple(rows))


def _alarms(clean: list[Compared]) -> Table:
    rows = (
        Row((c.kind, r.llama, str(r.seed), r.dtype, tokens(r.context), c.judged.verdict, c.reason))
        for r, c in clean
        if c.judged.is_alarm
    )
    names = ("kind", "Llama", "seed", "dtype", "tokens", "verdict", "reason")
    return Table(
        "Clean comparisons that fail", tuple(Column(n, "text") for n in names), tuple(rows)
    )
