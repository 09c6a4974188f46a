"""Draws the error of every release against the floor, by context."""

from math import ceil, floor, log10
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from validation.audit.records import AuditRecord, Ending
from validation.reporting.wording import tokens

_WIDTH_INCHES = 8.0
_HEIGHT_INCHES = 5.2
_DPI = 200
"""1600 pixels, as the other plots: half of them still show the smallest text."""

_TEXT_POINTS = 9.5
_INK = "#333333"
_FLOOR_INK = "#666666"

# Okabe and Ito's palette; markers differ too: colour is never the only sign.
_STYLES = (
    ("#56B4E9", "o"),
    ("#009E73", "^"),
    ("#E69F00", "s"),
    ("#D55E00", "D"),
    ("#CC79A7", "v"),
    ("#0072B2", "P"),
)

_STRIP = 0.17
"""Share of the axis' height below the smallest error, for what a log axis has no place for."""

_ZERO = 0.055
_ABSENT = 0.12
"""Heights, as shares of the axis: of releases without a difference, and without a result."""

_ENDINGS = {
    Ending.NOT_INSTALLED.name: "not installed",
    Ending.REFUSED.name: "refused",
    Ending.DIED.name: "died",
}


def draw_audit(records: list[AuditRecord]) -> Figure:
    """A column for every release, a marker for every context."""
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": _TEXT_POINTS}):
        figure = Figure(figsize=(_WIDTH_INCHES, _HEIGHT_INCHES), dpi=_DPI)
        axes = figure.add_axes(
            (
                0.75 / _WIDTH_INCHES,
                0.95 / _HEIGHT_INCHES,
                1 - 0.9 / _WIDTH_INCHES,
                1 - 1.75 / _HEIGHT_INCHES,
            )
        )
        _label_axes(axes, records)
        _draw_floor(axes, records)
        for index, context in enumerate(_contexts(records)):
            _draw_context(axes, records, context, _STYLES[index % len(_STYLES)])
        _mark_absent(axes, records)
        axes.legend(
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            ncols=6,
            frameon=False,
            labelcolor=_INK,
            handletextpad=0.3,
            columnspacing=1.1,
            borderaxespad=0.2,
        )
        _draw_title(figure, records)
    return figure


def _contexts(records: list[AuditRecord]) -> list[int]:
    return sorted({context.context for record in records for context in record.contexts})


def _errors(records: list[AuditRecord], context: int) -> dict[int, float]:
    """Mean absolute errors by column; those that are not finite are left out."""
    return {
        column: found.mean_abs
        for column, record in enumerate(records)
        for found in record.contexts
        if found.context == context and found.mean_abs is not None
    }


def _limits(records: list[AuditRecord]) -> tuple[float, float]:
    every = [context for record in records for context in record.contexts]
    errors = [c.mean_abs for c in every if c.mean_abs] + [c.floor_mean_abs for c in every]
    low, high = min(errors, default=1e-6) / 1.5, max(errors, default=1e-4) * 2
    decades = log10(high / low)
    return high / 10 ** (decades / (1 - _STRIP)), high


def _label_axes(axes: Axes, records: list[AuditRecord]) -> None:
    low, high = _limits(records)
    axes.set(yscale="log", xlim=(-0.7, len(records) - 0.3), ylim=(low, high))
    axes.set_xticks(range(len(records)), [record.name for record in records], rotation=90)
    # None in the strip below the smallest error.
    powers = range(ceil(log10(low * (high / low) ** _STRIP)), floor(log10(high)) + 1)
    axes.set_yticks([10.0**power for power in powers], [f"$10^{{{p}}}$" for p in powers])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="x", length=0, pad=2, colors=_INK)
    axes.tick_params(axis="y", colors=_INK)
    axes.grid(axis="y", color="#dddddd", lw=0.6)
    axes.grid(axis="x", color="#eeeeee", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylabel("mean error of the logits", color=_INK)


def _draw_floor(axes: Axes, records: list[AuditRecord]) -> None:
    floors = [context.floor_mean_abs for record in records for context in record.contexts]
    if floors:
        line: dict[str, Any] = {"color": _FLOOR_INK, "ls": (0, (4, 2)), "lw": 1.4, "zorder": 2}
        axes.axhline(max(floors), label="floor", **line)


def _draw_context(
    axes: Axes, records: list[AuditRecord], context: int, style: tuple[str, str]
) -> None:
    colour, marker = style
    errors = _errors(records, context)
    shown = {column: value for column, value in errors.items() if value > 0}
    # No line: neighbours are versions, not points on a scale.
    marks: dict[str, Any] = {"color": colour, "marker": marker, "ms": 5, "ls": "", "zorder": 3}
    axes.plot([*shown], [*shown.values()], label=f"{tokens(context)} tokens", **marks)
    zero = [column for column, value in errors.items() if value == 0]
    transform = axes.get_xaxis_transform()
    axes.plot(zero, [_ZERO] * len(zero), transform=transform, clip_on=False, **marks)


def _mark_absent(axes: Axes, records: list[AuditRecord]) -> None:
    transform = axes.get_xaxis_transform()
    if any(not c.logits_differing for r in records for c in r.contexts):
        axes.text(
            0.005, _ZERO, "no logit differs", transform=axes.transAxes, color=_INK, va="center"
        )
    absent = [column for column, record in enumerate(records) if record.ending in _ENDINGS]
    axes.plot(absent, [_ABSENT] * len(absent), "x", transform=transform, color=_INK, ms=6, mew=1.6)
    for column in absent:
        text = _ENDINGS[records[column].ending]
        place: dict[str, Any] = {
            "transform": transform,
            "ha": "center",
            "va": "bottom",
            "rotation": 90,
        }
        axes.text(column, _ABSENT + 0.03, text, color=_INK, **place)


def _draw_title(figure: Figure, records: list[AuditRecord]) -> None:
    record = records[-1]
    checkpoint = record.checkpoint.rsplit("/", 1)[-1]
    version = record.provenance.packages["transformers"]
    texts = (
        (0.2, "Error of every release of TransformerLens", _TEXT_POINTS + 2),
        (0.44, f"{checkpoint}, {record.dtype}, beside transformers {version}", _TEXT_POINTS),
    )
    for top, text, size in texts:
        y = 1 - top / _HEIGHT_INCHES
        figure.text(0.015, y, text, color=_INK, fontsize=size, va="center", parse_math=False)
