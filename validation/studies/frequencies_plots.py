"""The plots of the study `frequencies`."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from validation.reporting.wording import tokens
from validation.studies.drawing import INK, draw_estimates, label_tokens, new_figure, style
from validation.studies.frequencies_figures import Context

_SMALL_POINTS = 8.5


def draw_pairs(contexts: Sequence[Context]) -> Figure:
    """What each pair adds to each landmark's score, by its wavelength."""
    longest = contexts[-1]
    rows = -(-len(longest.landmarks) // 2)
    figure, axes = new_figure(
        rows, 2, 1.0 + 2.5 * rows, "What each frequency adds to a landmark's score (nats)"
    )
    for index, panel in enumerate(axes.flat):
        if index == len(longest.landmarks):
            panel.set_axis_off()
            continue
        landmark = longest.landmarks[index]
        _draw_pairs(panel, contexts, landmark)
        panel.set_title(landmark, loc="left", color=INK, fontsize=10)
        is_lowest = index + 2 >= len(longest.landmarks)
        label = "wavelength (tokens)" if is_lowest else ""
        label_tokens(panel, 1, max(longest.wavelengths), label)
        panel.set_xlim(2, 2 * max(longest.wavelengths))  # of a panel without a curve, too
        _mark_bands(panel, longest)
    _add_legend(
        next((each for each in axes.flat if each.get_legend_handles_labels()[1]), axes[0, 0])
    )
    return figure


def _draw_pairs(panel: Axes, contexts: Sequence[Context], landmark: str) -> None:
    nothing = True
    for index, context in enumerate(contexts):
        found = context.selectivity(landmark) if landmark in context.landmarks else None
        if found:
            label = f"{tokens(context.tokens)} tokens"
            draw_estimates(panel, context.wavelengths, found.of_pairs, label, index)
            nothing = False
    panel.axhline(0, color=INK, linewidth=0.8)
    if nothing:
        panel.text(0.5, 0.7, "no heads", ha="center", color=INK, transform=panel.transAxes)


def _mark_bands(panel: Axes, context: Context) -> None:
    """A line between neighbouring pairs of different bands, and the bands' names."""
    edges = [1.0]
    of_pairs = zip(context.wavelengths, context.bands, strict=True)
    for (shorter, band), (longer, other) in pairwise(of_pairs):
        if band != other:
            edges.append(float(np.sqrt(shorter * longer)))
            panel.axvline(edges[-1], color=INK, linewidth=0.8, linestyle=":")
    edges.append(max(context.wavelengths))
    for band, (low, high) in zip(context.present, pairwise(edges), strict=True):
        panel.text(
            float(np.sqrt(low * high)),
            0.98,
            {"medium": "med."}.get(band, band),
            transform=panel.get_xaxis_transform(),
            ha="center",
            va="top",
            color=INK,
            fontsize=_SMALL_POINTS,
        )


def draw_bands(context: Context) -> Figure:
    """Each band's part of every landmark; what a pair adds by distance."""
    figure, axes = new_figure(1, 2, 3.6, f"Bands of frequencies, {tokens(context.tokens)} tokens")
    _draw_shares(axes[0, 0], context)
    by_distance = axes[0, 1]
    # Octave 0 is distance 0, which a logarithmic axis does not have.
    distances = [float(np.sqrt(start * (stop - 1))) for start, stop in context.octaves[1:]]
    for index, band in enumerate(context.present):
        draw_estimates(by_distance, distances, context.deviation(band)[1:], band, index)
    label_tokens(by_distance, 1, context.octaves[-1][1], "distance (tokens)")
    by_distance.set_ylim(bottom=0)
    by_distance.set_ylabel("a pair's mean absolute deviation, nats", color=INK)
    by_distance.legend(frameon=False, fontsize=_SMALL_POINTS)
    return figure


def _draw_shares(panel: Axes, context: Context) -> None:
    bands = context.present
    found = {name: context.selectivity(name) for name in context.landmarks}
    width = 0.8 / len(bands)
    panel.set_axisbelow(True)
    for index, band in enumerate(bands):
        for place, selectivity in enumerate(found.values()):
            if selectivity is None:
                continue
            share = selectivity.share(band)
            ends = np.array([[share.low], [share.high]])
            ends = np.where(np.isfinite(ends), ends, share.value)
            panel.bar(
                place + width * (index - (len(bands) - 1) / 2),
                share.value,
                width,
                color=style(index)["color"],
                hatch=("", "//", "..")[index],
                edgecolor="white",
                yerr=np.abs(ends - share.value),
                ecolor=INK,
                label=band if place == _first_with_heads(found) else None,
            )
    panel.axhline(0, color=INK, linewidth=0.8)
    panel.set_xticks(range(len(found)), [name.replace(" ", "\n") for name in found])
    panel.set_ylabel("part of the landmark's score", color=INK)
    _add_legend(panel)


def _add_legend(panel: Axes) -> None:
    if panel.get_legend_handles_labels()[1]:
        panel.legend(frameon=False, fontsize=_SMALL_POINTS)


def _first_with_heads(found: Mapping[str, object]) -> int:
    return next(place for place, each in enumerate(found.values()) if each is not None)
