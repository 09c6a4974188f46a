"""Draws time and memory of every contestant against the context, by work."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from validation.reporting.bench_content import LABELS, Line, exponent, lines
from validation.reporting.bench_records import BenchRecord
from validation.reporting.wording import tokens

_WIDTH_INCHES = 8.0
_ROW_INCHES = 2.75
_DPI = 200
"""1600 pixels, as the other plots: half of them still show the smallest text."""

_TEXT_POINTS = 9.5
_INK = "#333333"
_MOST_TICKS = 7

_ROOM = 1.75
"""Of the logarithmic height of the curves: what is above them is for the legend."""

_CROSS_GAP = 0.055
"""Between rows of crosses, as a share of the axes' height."""


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
    height = 0.95 + _ROW_INCHES * len(workloads)
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
            top=1 - 0.75 / height,
            hspace=0.2,
            wspace=0.28,
        )
        for row, workload in enumerate(workloads):
            for column, (unit, amounts) in enumerate(columns):
                axes = figure.add_subplot(grid[row, column])
                _draw_panel(axes, lines(records, workload), amounts)
                _label_axes(axes, contexts, is_lowest=row == len(workloads) - 1)
                axes.set_title(f"{workload}: {unit}", loc="left", color=_INK, fontsize=_TEXT_POINTS)
        title = f"Time and memory against context ({records[0].dtype}, {records[0].device})"
        figure.text(
            0.02, 1 - 0.22 / height, title, color=_INK, fontsize=_TEXT_POINTS + 2, va="center"
        )
    return figure


def _draw_panel(axes: Axes, found: list[Line], amounts: _Amounts) -> None:
    axes.set(xscale="log", yscale="log")
    crosses = 0
    for line in found:
        style = _STYLES[line.contestant]
        values = amounts(line)
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
            label=f"{LABELS[line.contestant]}, n^{exponent(line.contexts, values)}",
        )
        if line.missing:
            crosses += 1
            _cross(axes, line.missing, style.colour, crosses)
    low, high = axes.get_ylim()
    axes.set_ylim(low, low * (high / low) ** _ROOM)
    axes.legend(loc="upper left", frameon=False, labelcolor=_INK, labelspacing=0.3)


def _cross(axes: Axes, contexts: Sequence[int], colour: str, row: int) -> None:
    """Marks at the top, in a row of its own, what does not fit."""
    height = 1 - _CROSS_GAP * row
    axes.plot(
        contexts,
        [height] * len(contexts),
        "x",
        transform=axes.get_xaxis_transform(),
        color=colour,
        ms=6,
        mew=1.8,
        ls="",
    )


def _label_axes(axes: Axes, contexts: list[int], is_lowest: bool) -> None:
    axes.set_xlim(contexts[0] / 1.3, contexts[-1] * 1.3)
    ticks = contexts[::-1][:: ceil(len(contexts) / _MOST_TICKS)]
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
