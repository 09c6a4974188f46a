"""How the studies' plots look: legible at half width, told apart without colour, axes in tokens."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from validation.reporting.wording import tokens
from validation.studies.estimates import Estimate

WIDTH_INCHES = 8.0
DPI = 200
"""1600 pixels: half of them still show the smallest text."""

TEXT_POINTS = 10.0
INK = "#333333"

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
"""Okabe and Ito's, its yellow replaced by an olive that is legible on white."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (6, 2, 1, 2)))


def new_figure(rows: int, columns: int, height_inches: float, title: str) -> tuple[Figure, Any]:
    """A figure of the common width, and its axes, shape [rows, columns]."""
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": TEXT_POINTS}):
        figure = Figure(figsize=(WIDTH_INCHES, height_inches), dpi=DPI, layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
        figure.suptitle(
            title, x=0.01, ha="left", color=INK, fontsize=TEXT_POINTS + 1, parse_math=False
        )
    for each in axes.flat:
        each.grid(visible=True, color="#dddddd", linewidth=0.6)
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def style(index: int) -> dict[str, Any]:
    """Colour, marker and dashes of the index-th curve: each tells it apart."""
    return {
        "color": PALETTE[index % len(PALETTE)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": DASHES[index % len(DASHES)],
        "markersize": 4.5,
        "linewidth": 1.5,
    }


def draw_curve(
    axes: Axes, x: Sequence[float], found: Sequence[Estimate], label: str, index: int
) -> None:
    """Estimates without their intervals."""
    axes.plot(x, [each.value for each in found], label=label, **style(index))


def draw_estimates(
    axes: Axes, x: Sequence[float], found: Sequence[Estimate], label: str, index: int
) -> None:
    """A curve, and its 95 % intervals as a band."""
    draw_curve(axes, x, found, label, index)
    low, high = ([getattr(each, end) for each in found] for end in ("low", "high"))
    finite = np.isfinite(low) & np.isfinite(high)
    color = style(index)["color"]
    axes.fill_between(x, low, high, where=finite, color=color, alpha=0.18, linewidth=0)


def label_tokens(axes: Axes, low: float, high: float, name: str) -> None:
    """A logarithmic x axis with ticks at powers of two, written as `1k`, `2k`."""
    axes.set_xscale("log", base=2)
    powers = range(int(np.ceil(np.log2(max(low, 1)))), int(np.floor(np.log2(high))) + 1)
    step = max(1, -(-len(powers) // 7))  # rounded up: seven fit beside a second panel
    axes.xaxis.set_major_locator(FixedLocator([2**power for power in powers[::step]]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tokens(round(value))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(name, color=INK)


def label_linear_tokens(axes: Axes, high: float, name: str) -> None:
    """A linear x axis from 0 with ticks that are powers of two apart, written as `2k`, `4k`."""
    step = 2 ** max(0, int(np.ceil(np.log2(high / 8))))
    axes.set_xlim(0, high)
    axes.xaxis.set_major_locator(FixedLocator(list(range(0, int(high) + 1, step))))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: tokens(round(value)) if value else "0")
    )
    axes.set_xlabel(name, color=INK)


def mark_trained(axes: Axes, trained: int, context: int) -> None:
    """A dotted line at the trained length, if the text is longer."""
    if context > trained:
        axes.axvline(trained, color=INK, linewidth=1, linestyle=":")


def label_excess(axes: Axes) -> None:
    """The y axis of losses less plain RoPE's, which are drawn: linear within 0.1 nats."""
    axes.set_ylabel("loss - plain RoPE's, nats", color=INK)
    scale_signed(axes, 0.1)
    axes.axhline(0, color=INK, linewidth=0.8)


def scale_signed(axes: Axes, linear: float) -> None:
    """A y axis for small and large numbers of both signs: linear within +-`linear`, else by tens.

    Where nothing is larger it stays linear.

    Args:
        axes: whose data are drawn.
        linear: a power of ten.
    """
    low, high = axes.get_ylim()
    if max(-low, high) <= linear:
        return
    tens = [linear * 10.0**power for power in range(12)]
    ticks = [-each for each in tens if each <= -low] + [0.0] + [t for t in tens if t <= high]
    axes.set_yscale("symlog", linthresh=linear, linscale=0.6)
    axes.yaxis.set_major_locator(FixedLocator(sorted(ticks)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(low, high)


def scale_plainly(axes: Axes, ticks: Sequence[float]) -> None:
    """A logarithmic y axis with those of the ticks that are in sight, written as they are."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def middles(ranges: Sequence[tuple[int, int]]) -> list[float]:
    """Where ranges of positions lie on a linear axis."""
    return [(start + stop) / 2 for start, stop in ranges]


def centres(ranges: Sequence[tuple[int, int]]) -> list[float]:
    """Where ranges of positions lie on a logarithmic axis; one from 0 on at its linear middle."""
    return [float(np.sqrt(start * stop)) if start else stop / 2 for start, stop in ranges]
