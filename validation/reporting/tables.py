"""The report's tables, in no format yet: what their cells say."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from validation.reporting.results import BinRecord, Provenance, Result
from validation.reporting.wording import (
    ABSENT,
    count,
    error,
    is_failure,
    memory,
    ratio,
    seconds,
    tokens,
)

_SCOPE = ("checkpoint", "base", "attention", "device")
"""What is the same for all results of most folders."""


@dataclass(frozen=True)
class Column:
    """What a column is called and how its cells are shown."""

    heading: str
    kind: Literal["text", "number", "verdict"] = "number"


@dataclass(frozen=True)
class Row:
    """The cells of one row; the first ones, up to a column that is no text, name it.

    Attributes:
        cells: one for each column.
        is_failure: how the row's verdict is to be coloured, None if it has none.
    """

    cells: tuple[str, ...]
    is_failure: bool | None = None


@dataclass(frozen=True)
class Table:
    """Rows under headings; the caption is for those who do not see the text around it."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def varying_scope(results: Iterable[Result]) -> tuple[str, ...]:
    """Which of checkpoint, base, attention and device are not the same for all results."""
    results = list(results)
    return tuple(name for name in _SCOPE if len({getattr(r, name) for r in results}) > 1)


def case_name(result: Result, scope: tuple[str, ...]) -> str:
    """A case as prose names it: `fork, float32, 4k`, and what else tells it from others."""
    also = (getattr(result, name) for name in scope)
    return ", ".join((result.subject, result.dtype, tokens(result.context), *also))


def tabulate_cases(results: list[Result], figures: Collection[str] | None = None) -> Table:
    """The main table: one row a case.

    Args:
        results: the cases.
        figures: headings of the figures to show; all if None.
    """
    scope = varying_scope(results)
    names = ("subject", *scope, "dtype", "tokens")
    shown = [name for name in _FIGURES if figures is None or name in figures]
    columns = (*(Column(name, "text") for name in names), Column("verdict", "verdict"))
    rows = (
        Row(
            (
                result.subject,
                *(getattr(result, name) for name in scope),
                result.dtype,
                tokens(result.context),
                result.verdict,
                *(_FIGURES[name](result) for name in shown),
            ),
            is_failure(result),
        )
        for result in results
    )
    return Table("Every case", (*columns, *map(Column, shown)), tuple(rows))


def tabulate_times(results: list[Result]) -> Table | None:
    """Where the time of each case went; None if no result says."""
    scope = varying_scope(results)
    timed = [(result, result.parts, result.reference_parts) for result in results]
    names = ("subject", *scope, "dtype", "tokens")
    rows = tuple(
        Row(
            (
                result.subject,
                *(getattr(result, name) for name in scope),
                result.dtype,
                tokens(result.context),
                *_time_cells(own, reference),
            )
        )
        for result, own, reference in timed
        if own and reference
    )
    columns = (*(Column(name, "text") for name in names), *map(Column, _TIMES))
    return Table("Seconds of each case by what was done", columns, rows) if rows else None


_TIMES = (
    "load, reference",
    "reference",
    "its floor",
    "load, subject",
    "subject",
    "unembed, both",
    "compare, files",
    "beside all forwards",
    "beside the two",
)


def _time_cells(own: dict[str, float], reference: dict[str, float]) -> tuple[str, ...]:
    both = [own, reference]
    # Without `unembed`, in older results, it is part of the comparison.
    floor, unembed = reference.get("floor"), own.get("unembed")
    harness = sum(parts.get(name, 0.0) for parts in both for name in ("compare", "files"))
    beside = harness + (floor or 0.0)
    whole = own["forward"] + reference["forward"] + (unembed or 0.0) + beside
    cells = (
        *(reference["load"], reference["forward"], floor),
        *(own["load"], own["forward"], unembed, harness),
    )
    return (*map(seconds, cells), f"{harness / whole:.0%}", f"{beside / whole:.0%}")


def _differing(result: Result) -> str:
    if result.logits_differing is None:
        return ABSENT
    return f"{count(result.logits_differing)} of {count(result.logits_total)}"


def _power(result: Result) -> str:
    if result.power_ratio is None:
        return ABSENT
    return f"{result.power_ratio:.2f}" if result.power_ratio < 100 else f"{result.power_ratio:,.0f}"


def _slope(result: Result) -> str:
    slope = result.slope
    if slope is None:
        return ABSENT
    return f"{ratio(slope.value)} [{ratio(slope.low)}, {ratio(slope.high)}]"


def _share(value: float | None) -> str:
    if value is None:
        return ABSENT
    text = f"{value:.2%}"
    # One position of 64k must not be rounded away.
    return text if value == 1 or text != "100.00%" else f"{value:.4%}"


_FIGURES: dict[str, Callable[[Result], str]] = {
    "at a time": lambda r: "all" if r.prefill >= r.context else tokens(r.prefill),
    "differing logits": _differing,
    "x floor": lambda r: ratio(r.parity_ratio),
    "slope": _slope,
    "max error": lambda r: error(r.max_abs),
    "mean error": lambda r: error(r.mean_abs),
    "floor's mean error": lambda r: error(r.floor_mean_abs),
    "plain RoPE x floor": _power,
    "KL": lambda r: error(r.kl_mean),
    "top-1 agreement": lambda r: _share(r.top1_agreement),
    "time": lambda r: seconds(r.seconds),
    "peak memory": lambda r: memory(r.peak_memory_bytes),
    "reference's time": lambda r: seconds(r.reference_seconds),
}
"""The figures of a case by heading, in the order in which they are shown."""


def tabulate_bins(result: Result, name: str) -> Table | None:
    """The errors of one case by position, None if it has none."""
    if result.bins is None:
        return None
    headings = (
        "positions",
        "differing logits",
        "RMS error",
        "floor's RMS error",
        "x floor",
        "95 % interval",
    )
    ratios = result.parity_ratio_by_bin or (None,) * len(result.bins)
    rows = tuple(
        Row(_bin_cells(bin_, value)) for bin_, value in zip(result.bins, ratios, strict=True)
    )
    columns = (Column(headings[0], "text"), *map(Column, headings[1:]))
    return Table(f"Errors by position: {name}", columns, rows)


def _bin_cells(bin_: BinRecord, ratio_to_floor: float | None) -> tuple[str, ...]:
    return (
        f"{bin_.start}-{bin_.stop - 1}",
        count(bin_.differing),
        error(bin_.rms),
        error(bin_.floor_rms),
        ratio(ratio_to_floor),
        _interval(bin_),
    )


def _interval(bin_: BinRecord) -> str:
    if bin_.ratio_interval is None:
        return ABSENT
    low, high = bin_.ratio_interval
    return f"[{ratio(low)}, {ratio(high)}]"


def flatten(provenance: Provenance) -> dict[str, str]:
    """Every field as text, those of packages and settings beside the others."""
    fields = provenance.model_dump(exclude={"case_key", "packages", "settings"})
    every = {**provenance.packages, **fields, **provenance.settings}
    return {name: ABSENT if value is None else str(value) for name, value in every.items()}


def tabulate_provenance(results: list[Result]) -> tuple[Table, Table | None]:
    """What all results were measured with; what differs, case by case, if anything does."""
    fields = [flatten(result.provenance) for result in results]
    differing = differing_names(fields)
    common = Table(
        "The same for all cases",
        (Column("what", "text"), Column("value", "text")),
        tuple(Row(field) for field in fields[0].items() if field[0] not in differing),
    )
    if not differing:
        return common, None
    scope = varying_scope(results)
    rows = (
        Row((case_name(result, scope), *(shorten(values.get(name)) for name in differing)))
        for result, values in zip(results, fields, strict=True)
    )
    columns = tuple(Column(name, "text") for name in ("case", *differing))
    return common, Table("Different from case to case", columns, tuple(rows))


def differing_names(fields: list[dict[str, str]]) -> list[str]:
    """Names that do not have the same value everywhere, or are missing somewhere."""
    names = dict.fromkeys(name for values in fields for name in values)
    return [name for name in names if len({values.get(name) for values in fields}) > 1]


def shorten(value: str | None, digits: int = 12) -> str:
    """Of a hash, enough to tell it from others."""
    if value is None:
        return ABSENT
    is_hash = len(value) in (40, 64) and set(value) <= set("0123456789abcdef")
    return value[:digits] if is_hash else value
