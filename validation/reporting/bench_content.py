"""What the report on the bench says, in no format yet."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from validation.execution.bench_grid import CONTESTANTS, PAIRS, WORKLOADS
from validation.execution.bench_messages import WorkloadName
from validation.judgement.speed import LARGEST, Ratio, fit_exponent, pair_ratio
from validation.reporting.bench_records import BenchRecord, Ending, TurnsRecord
from validation.reporting.tables import Column, Row, Table
from validation.reporting.wording import ABSENT, memory, tokens

LABELS = {contestant.name: contestant.label for contestant in CONTESTANTS}
"""What people call the contestants."""


@dataclass(frozen=True)
class BenchReport:
    """All that the report shows.

    Attributes:
        headlines: what was found, in sentences.
        seconds: time by work and context, with the ratios of the pairs.
        memory: peak memory of the process, likewise.
        added: how much of that the work adds to the loaded model.
        growth: exponents of time and memory.
        missing: what was not measured and why, None if all was.
        workloads: what each work is.
    """

    headlines: tuple[str, ...]
    seconds: Table
    memory: Table
    added: Table
    growth: Table
    missing: Table | None
    workloads: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Line:
    """One contestant's turns at one work, by context.

    Attributes:
        contestant: name of a `Contestant`.
        contexts: tokens at which it was measured, ascending.
        turns: what it did there.
        too_large: contexts at which it does not fit the memory.
        failed: contexts at which it was not measured for another reason.
    """

    contestant: str
    contexts: tuple[int, ...]
    turns: tuple[TurnsRecord, ...]
    too_large: tuple[int, ...]
    failed: tuple[int, ...]

    @property
    def seconds(self) -> list[float]:
        """Medians."""
        return [each.median_seconds for each in self.turns]

    @property
    def added_bytes(self) -> list[float]:
        """Medians of what the work adds to the loaded model."""
        return [each.median_added_bytes for each in self.turns]


def compose_bench(records: list[BenchRecord]) -> BenchReport:
    """The report on `records`, one for every work, context and group of contestants."""
    workloads = dict.fromkeys(record.workload for record in records)
    return BenchReport(
        headlines=tuple(_headlines(records)),
        seconds=_tabulate(
            records,
            "Median seconds; ratios of pairs with their quartiles",
            _seconds,
            lambda turns: turns.seconds,
        ),
        memory=_tabulate(
            records,
            "Peak memory of the process (on CUDA of the allocator)",
            lambda turns: memory(round(turns.median_peak_bytes)),
            lambda turns: turns.peak_memory_bytes,
        ),
        added=_tabulate(
            records,
            "What the work adds to the loaded model",
            lambda turns: memory(round(turns.median_added_bytes)),
            lambda turns: turns.added_memory_bytes,
        ),
        growth=_growth(records),
        missing=_missing(records),
        workloads=tuple((name, WORKLOADS[name]) for name in workloads),
    )


def lines(records: Iterable[BenchRecord], workload: WorkloadName) -> list[Line]:
    """Of every contestant that took part, in the order of their turns."""
    here = sorted((r for r in records if r.workload == workload), key=lambda r: r.context)
    pairs = {name: [(r.context, t) for r in here if (t := r.of(name))] for name in LABELS}
    return [_line(name, own) for name, own in pairs.items() if own]


def _line(name: str, turns: list[tuple[int, TurnsRecord]]) -> Line:
    measured = {context: each for context, each in turns if each.is_measured}
    too_large = [context for context, each in turns if each.ending == Ending.TOO_LARGE.name]
    failed = {context for context, _ in turns} - {*measured, *too_large}
    return Line(
        contestant=name,
        contexts=tuple(measured),
        turns=tuple(measured.values()),
        too_large=tuple(too_large),
        failed=tuple(sorted(failed)),
    )


def _headlines(records: list[BenchRecord]) -> Iterator[str]:
    """Of every work and pair, where the context is longest that both can take."""
    for workload in dict.fromkeys(record.workload for record in records):
        for ours, theirs in PAIRS:
            both = [(r, a, b) for r, a, b in _both(records, ours, theirs) if r.workload == workload]
            if not both:
                continue
            record, a, b = max(both, key=lambda found: found[0].context)
            time = pair_ratio(a.seconds, b.seconds)
            peak = pair_ratio(a.peak_memory_bytes, b.peak_memory_bytes)
            yield (
                f"{workload}, {tokens(record.context)} tokens: {LABELS[ours]} takes "
                f"{_ratio(time)} times the time and {peak.median:.2f} times the peak memory of "
                f"{LABELS[theirs]}."
            )
    yield from _agreement(records)


def _agreement(records: list[BenchRecord]) -> Iterator[str]:
    """Equal tokens speak for equal work."""
    for ours, theirs in PAIRS:
        both = list(_both(records, ours, theirs))
        if both:
            equal = sum(a.tokens == b.tokens for _, a, b in both)
            yield (
                f"{LABELS[ours]} and {LABELS[theirs]} chose the same tokens at {equal} of "
                f"{len(both)} points."
            )


def _both(
    records: Iterable[BenchRecord], ours: str, theirs: str
) -> Iterator[tuple[BenchRecord, TurnsRecord, TurnsRecord]]:
    """Where both partners were measured."""
    for record in records:
        a, b = record.of(ours), record.of(theirs)
        if a and b and a.is_measured and b.is_measured:
            yield record, a, b


def _tabulate(
    records: list[BenchRecord],
    caption: str,
    cell: Callable[[TurnsRecord], str],
    amounts: Callable[[TurnsRecord], Sequence[float]],
) -> Table:
    """A row for every work and context; beside each pair its ratio."""
    named = {each.contestant for record in records for each in record.turns}
    pairs = [pair for pair in PAIRS if named & set(pair)]
    headings = [h for a, b in pairs for h in (LABELS[a], LABELS[b], f"{LABELS[a]} / {LABELS[b]}")]
    columns = (Column("work", "text"), Column("tokens", "text"), *map(Column, headings))
    rows = []
    for workload, context in _points(records):
        here = [r for r in records if (r.workload, r.context) == (workload, context)]
        cells = [c for pair in pairs for c in _pair_cells(here, pair, cell, amounts)]
        rows.append(Row((workload, tokens(context), *cells)))
    return Table(caption, columns, tuple(rows))


def _points(records: list[BenchRecord]) -> list[tuple[WorkloadName, int]]:
    """Works and contexts, work by work."""
    points = dict.fromkeys((record.workload, record.context) for record in records)
    order = list(WORKLOADS)
    return sorted(points, key=lambda point: (order.index(point[0]), point[1]))


def _pair_cells(
    here: list[BenchRecord],
    pair: tuple[str, str],
    cell: Callable[[TurnsRecord], str],
    amounts: Callable[[TurnsRecord], Sequence[float]],
) -> Iterator[str]:
    for name in pair:
        turns = next((found for record in here if (found := record.of(name))), None)
        yield ABSENT if turns is None else cell(turns) if turns.is_measured else _short(turns)
    both = next(_both(here, *pair), None)
    # A small work may find room in what the process has: nothing is added.
    is_ratio = both is not None and min(amounts(both[2])) > 0
    yield _ratio(pair_ratio(amounts(both[1]), amounts(both[2]))) if both and is_ratio else ABSENT


def _short(turns: TurnsRecord) -> str:
    """Why there is no figure, for a cell."""
    return turns.ending.lower().replace("_", " ")


def _growth(records: list[BenchRecord]) -> Table:
    rows = []
    for workload in dict.fromkeys(record.workload for record in records):
        for line in lines(records, workload):
            fitted = ", ".join(map(tokens, line.contexts[-LARGEST:])) or ABSENT
            exponents = (
                exponent(line.contexts, line.seconds),
                exponent(line.contexts, line.added_bytes),
            )
            rows.append(Row((workload, LABELS[line.contestant], fitted, *exponents)))
    columns = (
        Column("work", "text"),
        Column("contestant", "text"),
        Column("tokens", "text"),
        Column("time"),
        Column("memory beyond the model"),
    )
    return Table("Exponents of growth with the context", columns, tuple(rows))


def exponent(contexts: Sequence[int], amounts: Sequence[float]) -> str:
    """The fitted exponent for people."""
    fitted = fit_exponent(contexts, amounts)
    return ABSENT if fitted is None else f"{fitted:.2f}"


def _missing(records: list[BenchRecord]) -> Table | None:
    rows = tuple(
        Row(
            (
                record.workload,
                tokens(record.context),
                LABELS[turns.contestant],
                Ending[turns.ending].value,
                turns.reason,
            )
        )
        for record in records
        for turns in record.turns
        if not turns.is_measured
    )
    headings = ("work", "tokens", "contestant", "what", "why")
    columns = tuple(Column(heading, "text") for heading in headings)
    return Table("Not measured", columns, rows) if rows else None


def _ratio(ratio: Ratio) -> str:
    return f"{ratio.median:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def _seconds(turns: TurnsRecord) -> str:
    return f"{turns.median_seconds:.3g}"
