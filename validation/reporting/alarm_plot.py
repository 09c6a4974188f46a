"""Draws how far clean comparisons are from failing, by kind and dtype."""

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from validation.execution.clean import Clean
from validation.judgement.thresholds import MAX_RATIO
from validation.reporting.alarm_content import clean_comparisons
from validation.reporting.alarm_records import AlarmRecord, ComparisonRecord

_WIDTH_INCHES = 8.0
_DPI = 200
"""1600 pixels, as the plot of errors by position: half of them still show the smallest text."""

_TEXT_POINTS = 10.5
_ROW_INCHES = 0.42
_INK = "#333333"
_LIMIT_INK = "#000000"

# Okabe and Ito's palette, and a marker of its own each: colour is never the only sign.
_STYLES = {
    "float32": ("#0072B2", "o", -0.24),
    "bfloat16": ("#D55E00", "s", 0.0),
    "float16": ("#009E73", "^", 0.24),
}
_RING: dict[str, Any] = {
    "marker": "o",
    "ls": "",
    "mfc": "none",
    "mec": "black",
    "ms": 10,
    "mew": 1.6,
}
"""Around what fails."""

_LEAST = 0.03
_MOST = 4.0
"""Ends of the axis; what lies beyond stands at the end."""

_TICKS = (0.03, 0.1, 0.3, 1.0, 2.0, 4.0)


def draw_alarms(records: list[AlarmRecord]) -> Figure:
    """A row for every kind: the largest error in a bin of positions, over the floor's."""
    clean = clean_comparisons(records)
    kinds = [kind for kind in Clean if any(c.kind == kind.name for _, c in clean)]
    height = 1.75 + _ROW_INCHES * len(kinds)
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": _TEXT_POINTS}):
        figure = Figure(figsize=(_WIDTH_INCHES, height), dpi=_DPI)
        axes = figure.add_axes(
            (0.2, 0.75 / height, 0.64, 1 - 1.75 / height),
        )
        for row, kind in enumerate(kinds):
            _draw_kind(axes, row, [(r, c) for r, c in clean if c.kind == kind.name])
        _finish_axes(axes, [kind.name.lower().replace("_", " ") for kind in kinds])
        title = "Clean comparisons: largest error in a bin, over the floor's"
        figure.text(
            0.02, 1 - 0.25 / height, title, color=_INK, fontsize=_TEXT_POINTS + 2, va="center"
        )
        for dtype, (colour, marker, _) in _STYLES.items():
            axes.plot([], [], marker, color=colour, ls="", label=dtype, ms=6)
        axes.plot([], [], **_RING, label="FAIL")
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(-0.1, 1.0),
            ncols=4,
            frameon=False,
            labelcolor=_INK,
            handletextpad=0.2,
        )
    return figure


def _draw_kind(axes: Axes, row: int, found: list[tuple[AlarmRecord, ComparisonRecord]]) -> None:
    identical = 0
    for record, comparison in found:
        if comparison.is_identical:
            identical += 1
            continue
        worst = comparison.judged.worst_ratio
        x = _MOST if worst is None else min(max(worst, _LEAST), _MOST)
        colour, marker, offset = _STYLES[record.dtype]
        axes.plot(x, row + offset, marker, color=colour, ms=5, alpha=0.55, mew=0, clip_on=False)
        if comparison.judged.is_alarm:  # perhaps not because of its error: a ring besides
            axes.plot(x, row + offset, **_RING, clip_on=False)
    axes.text(
        1.02,
        row,
        f"{identical} of {len(found)}",
        transform=axes.get_yaxis_transform(),
        va="center",
        color=_INK,
    )


def _finish_axes(axes: Axes, names: list[str]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(_LEAST, _MOST)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), names, color=_INK)
    axes.xaxis.set_major_locator(FixedLocator(_TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.tick_params(length=0, colors=_INK, pad=7)
    axes.spines[:].set_visible(False)
    for row in np.arange(len(names) - 1) + 0.5:
        axes.axhline(row, color="#dddddd", lw=0.8, zorder=0)
    axes.axvline(1.0, color="#999999", lw=1.0, ls=":", zorder=0)
    axes.axvline(MAX_RATIO, color=_LIMIT_INK, lw=1.6, zorder=0)
    axes.set_xlabel(f"times the floor; more than {MAX_RATIO:g} fails", color=_INK)
    axes.text(1.02, 1.02, "identical", transform=axes.transAxes, color=_INK, va="bottom")
