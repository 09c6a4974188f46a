"""Draws time and memory of every contestant against the context, by work."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, log

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from validation.reporting.bench_content import LABELS, Line, exponent, lines
from validation.reporting.bench_records import BenchRecord
from validation.reporting.wording import ABSENT, tokens

_WIDTH_INCHES = 8.0
_ROW_INCHES = 2.75
_DPI = 200
"""1600 pixels, as the other plots: half of them still show the smallest text."""

_TEXT_POINTS = 9.5
_INK = "#333333"
_MOST_TICKS = 7

_LEGEND_ROW = 0.075
_LEGEND_WIDTH = 0.62
"""As shares of the axes: above the curves there is room for the legend's rows."""

_CROSS_GAP = 0.065
"""Between rows of crosses, as a share of the axes' height."""

_MISSING = {"x": "does not fit", "+": "failed"}


@dataclass(frozen=True)
class _Style:
    """Okabe and Ito's palette, and a marker and dashes of its own: colour is never the only sign.

    Partners may lie on each other: one is a ring around the other's dot.
    """

    colour: str
    marker: str
    size: float
    is_ring: bool
    dashes: str | tuple[int, tuple[int, ...]]


_STYLES = {
    "fork-sdpa": _Style("#0072B2", "o", 4.0, False, "-"),
    "hf-sdpa": _Style("#E69F00", "o", 8.5, True, (0, (1, 2))),
    "fork-eager": _Style("#009E73", "s", 4.0, False, "-"),
    "stock": _Style("#D55E00", "s", 8.5, True, (0, (4, 2))),
}

_Amounts = Callable[[Line], Sequence[float]]


def draw_bench(records: list[BenchRecord]) -> Figure:
    """A row for every work: seconds at the left, what it adds to the loaded model at the right."""
    workloads = list(dict.fromkeys(record.workload for record in records))
    height = 1.15 + _ROW_INCHES * len(workloads)
    contexts = sorted({record.context for record in records})
    columns: tuple[tuple[str, _Amounts], ...] = (
        ("seconds", lambda line: line.seconds),
        ("GiB beyond the loaded model", lambda line: [b / 2**30 for b in line.added_bytes]),
    )
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": _TEXT_POINTS}):
        figure = Figure(figsize=(_WIDTH_INCHES, height), dpi=_DPI)
        grid = figure.add_gridspec(
            len(workloads),
            len(columns),
            left=0.8 / _WIDTH_INCHES,
            right=1 - 0.15 / _WIDTH_INCHES,
            bottom=0.5 / height,
            top=1 - 0.95 / height,
            hspace=0.2,
            wspace=0.28,
        )
        for row, workload in enumerate(workloads):
            for column, (unit, amounts) in enumerate(columns):
                axes = figure.add_subplot(grid[row, column])
                # Axes first: what does not fit is placed by their limits.
                _label_axes(axes, contexts, is_lowest=row == len(workloads) - 1)
                _draw_panel(axes, lines(records, workload), amounts)
                axes.set_title(f"{workload}: {unit}", loc="left", color=_INK, fontsize=_TEXT_POINTS)
        _draw_title(figure, records[0], height)
    return figure


def _draw_title(figure: Figure, record: BenchRecord, height: float) -> None:
    settings = record.provenance.settings
    where = settings.get("device_name", record.device)
    count = settings.get("threads", "1")
    threads = f", {count} thread{'s' * (count != '1')}" if record.device == "cpu" else ""
    checkpoint = record.checkpoint.rsplit("/", 1)[-1]
    texts = (
        (0.2, "Time and memory against context", _TEXT_POINTS + 2),
        (0.45, f"{checkpoint}, {record.dtype}, {where}{threads}", _TEXT_POINTS),
    )
    for top, text, size in texts:
        y = 1 - top / height
        figure.text(0.02, y, text, color=_INK, fontsize=size, va="center", parse_math=False)


def _draw_panel(axes: Axes, found: list[Line], amounts: _Amounts) -> None:
    missing = [line for line in found if line.too_large or line.failed]
    marks = {m: text for m, text in _MISSING.items() if any(_missing(line)[m] for line in missing)}
    top = 1 - _CROSS_GAP * len(missing) if _is_over_legend(axes, missing) else 1.0
    rows = len(found) + len(marks)
    axes.set_ylim(_limits(found, amounts, share=top - _LEGEND_ROW * rows))
    for line in found:
        _draw_line(axes, line, amounts(line))
    for row, line in enumerate(missing):
        _mark_missing(axes, line, 1 - _CROSS_GAP * (row + 0.5))
    for marker, text in marks.items():
        axes.plot([], [], marker, color=_INK, ms=6, mew=1.8, label=text)
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(0, top),
        borderaxespad=0.2,
        frameon=False,
        labelcolor=_INK,
        labelspacing=0.25,
    )


def _is_over_legend(axes: Axes, missing: list[Line]) -> bool:
    """Whether something at the top would lie on a legend in the corner."""
    left, right = axes.get_xlim()
    contexts = [context for line in missing for context in (*line.too_large, *line.failed)]
    return any(log(context / left) < _LEGEND_WIDTH * log(right / left) for context in contexts)


def _limits(found: list[Line], amounts: _Amounts, share: float) -> tuple[float, float]:
    """Of the axis of amounts, of whose height the curves take a share, from below."""
    drawn = [amount for line in found for amount in amounts(line) if amount > 0]
    low, high = 0.6 * min(drawn, default=1.0), 1.7 * max(drawn, default=1.0)
    return low, low * (high / low) ** (1 / share)


def _draw_line(axes: Axes, line: Line, values: Sequence[float]) -> None:
    style = _STYLES[line.contestant]
    axes.plot(
        line.contexts,
        values,
        color=style.colour,
        marker=style.marker,
        ms=style.size,
        mfc="none" if style.is_ring else style.colour,
        mew=1.6 if style.is_ring else 0,
        ls=style.dashes,
        lw=1.6,
        zorder=3 if style.is_ring else 4,
        label=_label(line, values),
    )


def _label(line: Line, values: Sequence[float]) -> str:
    """Name and growth: both are read where the curve is looked up."""
    fitted = exponent(line.contexts, values)
    name = LABELS[line.contestant]
    return name if fitted == ABSENT else f"{name}, slope {fitted}"


def _missing(line: Line) -> dict[str, tuple[int, ...]]:
    return {"x": line.too_large, "+": line.failed}


def _mark_missing(axes: Axes, line: Line, height: float) -> None:
    """At the top, in a row of its own, what has no figure."""
    for marker, contexts in _missing(line).items():
        axes.plot(
            contexts,
            [height] * len(contexts),
            marker,
            transform=axes.get_xaxis_transform(),
            color=_STYLES[line.contestant].colour,
            ms=6,
            mew=1.8,
        )


def _label_axes(axes: Axes, contexts: list[int], is_lowest: bool) -> None:
    axes.set(xscale="log", yscale="log", xlim=(contexts[0] / 1.3, contexts[-1] * 1.3))
    # The longest always has one.
    ticks = contexts[::-1][:: ceil(len(contexts) / _MOST_TICKS)][::-1]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: tokens(round(tick))))
    axes.yaxis.set_major_locator(LogLocator(numticks=8))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=_INK, labelbottom=is_lowest)
    axes.spines[["top", "right"]].set_visible(False)
    if is_lowest:
        axes.set_xlabel("context (tokens)", color=_INK)
