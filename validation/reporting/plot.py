"""Draws the error of every subject, and of the floor, by position."""

from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from math import ceil, floor, inf, log10, nan

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from validation.models.trees import FORK, STOCK
from validation.reporting.panels import Curve, Panel, arrange_panels
from validation.reporting.results import Result
from validation.reporting.wording import tokens

_WIDTH_INCHES = 8.0
_DPI = 200
"""1600 pixels, so that at half width the smallest text still has 9 points."""

_TEXT_POINTS = 9.5
_INK = "#333333"
_FLOOR_INK = "#666666"

# Okabe and Ito's palette without black, yellow and sky blue, which are pale or taken.
_KNOWN = {FORK: ("#0072B2", "o"), STOCK: ("#D55E00", "s")}
_OTHERS = (("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"))

_ZERO = 0.06
_STRIP = 0.2
"""As shares of the axis' height: where zero is drawn, for which a log axis has no place, and the
end of the strip that is kept free for it."""

_LABEL_GAP = 0.09
"""Between the middles of two labels, as a share of the axis' height."""

_LETTER_INCHES = 0.09
_LONGEST_LIST = 48
_MOST_TICKS = 10


def draw_error_by_position(results: Iterable[Result]) -> Figure:
    """One panel for every checkpoint, base, device and dtype, on common log axes."""
    panels = arrange_panels(list(results))
    rows = max(1, len(panels))
    height = 1.0 + (3.0 if rows == 1 else 2.5) * rows
    curves = [curve for panel in panels for curve in panel.curves]
    limits = _limits(curves)
    styles = _styles(curves)
    letters = max((len(curve.label) for curve in curves), default=0)
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": _TEXT_POINTS}):
        figure = Figure(figsize=(_WIDTH_INCHES, height), dpi=_DPI)
        # No layout engine: none leaves room for labels beside the axes.
        grid = figure.add_gridspec(
            rows,
            1,
            left=0.75 / _WIDTH_INCHES,
            right=1 - (0.2 + letters * _LETTER_INCHES) / _WIDTH_INCHES,
            bottom=0.5 / height,
            top=1 - 0.6 / height,
            hspace=0.25,
        )
        figure.text(
            0.02,
            1 - 0.22 / height,
            "Error of the logits against transformers, by position",
            color=_INK,
            fontsize=_TEXT_POINTS + 2,
            va="center",
        )
        for index, panel in enumerate(panels):
            axes = figure.add_subplot(grid[index, 0])
            _draw_panel(axes, panel, limits, styles)
            _label_axes(axes, limits, is_lowest=panel is panels[-1])
        if not panels:
            figure.text(0.5, 0.5, "No case has finished.", ha="center", color=_INK)
    return figure


def render_png(figure: Figure) -> bytes:
    """The picture as a PNG file, without the name of the software that made it."""
    file = BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


@dataclass(frozen=True)
class _Limits:
    """Of the axes, the same in all panels."""

    left: float
    right: float
    low: float
    high: float

    def height(self, error: float) -> float:
        """Where on the axis an error is, from 0 to 1."""
        return log10(error / self.low) / log10(self.high / self.low)

    @property
    def foot(self) -> float:
        """The error at the upper end of the strip for zero."""
        share: float = (self.high / self.low) ** _STRIP
        return self.low * share


def _limits(curves: list[Curve]) -> _Limits:
    errors = np.concatenate([curve.errors[curve.visible] for curve in curves] or [np.array([])])
    positions = np.concatenate([curve.positions for curve in curves] or [np.array([])])
    if not positions.size:
        positions = np.array([1.0, 64.0])
    low, high = (float(errors.min()), float(errors.max())) if errors.size else (1e-8, 1e-6)
    low, high = low / 1.3, high * 1.6
    decades = max(2.0, log10(high / low))
    return _Limits(
        left=float(positions.min()) / 1.25,
        right=float(positions.max()) * 1.25,
        low=high / 10 ** (decades / (1 - _STRIP)),
        high=high,
    )


def _styles(curves: list[Curve]) -> dict[str, tuple[str, str]]:
    """Colour and marker of every subject, the same in all panels."""
    names = dict.fromkeys(curve.subject for curve in curves if curve.subject)
    others = [name for name in names if name not in _KNOWN]
    return _KNOWN | {name: _OTHERS[i % len(_OTHERS)] for i, name in enumerate(others)}


def _draw_panel(
    axes: Axes, panel: Panel, limits: _Limits, styles: dict[str, tuple[str, str]]
) -> None:
    axes.set(xscale="log", yscale="log", xlim=(limits.left, limits.right))
    axes.set_ylim(limits.low, limits.high)
    axes.set_title(panel.title, loc="left", color=_INK, fontsize=_TEXT_POINTS, parse_math=False)
    labels = []
    zeros = []
    for curve in panel.curves:
        if curve.subject is None:
            _draw_floor(axes, curve, limits)
            colour = _FLOOR_INK
        else:
            colour, marker = styles[curve.subject]
            _draw_subject(axes, curve, colour, marker)
        if curve.visible.any():
            last = float(curve.errors[curve.visible][-1])
            labels.append((limits.height(last), curve.label, colour))
        elif curve.is_zero:
            zeros.append((curve, colour))
    _label_ends(axes, labels)
    _label_zeros(axes, zeros)
    notes = "\n".join(panel.missing)
    axes.text(0.02, 0.97, notes, transform=axes.transAxes, va="top", color=_INK, parse_math=False)


def _draw_floor(axes: Axes, curve: Curve, limits: _Limits) -> None:
    errors = np.where(curve.visible, curve.errors, nan)
    axes.fill_between(curve.positions, limits.foot, errors, color=_FLOOR_INK, alpha=0.13, lw=0)
    axes.plot(curve.positions, errors, color=_FLOOR_INK, ls=(0, (4, 2)), lw=1.6, zorder=3)


def _draw_subject(axes: Axes, curve: Curve, colour: str, marker: str) -> None:
    shown = np.where(curve.visible, curve.errors, nan)
    axes.plot(curve.positions, shown, color=colour, marker=marker, ms=4, lw=1.8)
    zero = curve.positions[curve.errors == 0]
    axes.plot(
        zero,
        np.full(len(zero), _ZERO),
        transform=axes.get_xaxis_transform(),
        color=colour,
        marker=marker,
        ms=4,
        lw=1.8 if curve.is_zero else 0,
        clip_on=False,
    )


def _label_ends(axes: Axes, labels: list[tuple[float, str, str]]) -> None:
    """Names the curves beside their ends, from the top down, none on another."""
    height = inf
    for wanted, label, colour in sorted(labels, reverse=True):
        height = min(wanted, height - _LABEL_GAP)
        axes.text(
            1.015,
            height,
            label,
            transform=axes.transAxes,
            color=colour,
            va="center",
            weight="bold",
            parse_math=False,
        )


def _label_zeros(axes: Axes, zeros: list[tuple[Curve, str]]) -> None:
    """Says above the line at the foot whose error is zero."""
    if not zeros:
        return
    labels = ", ".join(curve.label for curve, _ in zeros)
    if len(labels) > _LONGEST_LIST:
        labels = f"{len(zeros)} subjects"
    is_identical = all(curve.is_identical for curve, _ in zeros)
    axes.text(
        0.5,
        _ZERO + 0.03,
        f"{labels}: 0 everywhere{' (identical)' if is_identical else ''}",
        transform=axes.transAxes,
        color=zeros[0][1] if len(zeros) == 1 else _INK,
        ha="center",
        va="bottom",
        weight="bold",
        parse_math=False,
    )


def _label_axes(axes: Axes, limits: _Limits, is_lowest: bool) -> None:
    ticks = [2**power for power in range(20) if limits.left <= 2**power <= limits.right]
    ticks = ticks[::-1][:: ceil(len(ticks) / _MOST_TICKS)]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: tokens(round(tick))))
    powers = range(floor(log10(limits.foot)), ceil(log10(limits.high)) + 1)
    minor = [digit * 10.0**power for power in powers for digit in range(2, 10)]
    for locations, is_minor in (([10.0**power for power in powers], False), (minor, True)):
        # None in the strip: zero is drawn there.
        axes.set_yticks([y for y in locations if limits.foot <= y <= limits.high], minor=is_minor)
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.text(-0.012, _ZERO, "0", transform=axes.transAxes, ha="right", va="center", color=_INK)
    axes.grid(color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=_INK, labelbottom=is_lowest)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylabel("mean absolute error", color=_INK)
    if is_lowest:
        axes.set_xlabel("position (tokens)", color=_INK)
