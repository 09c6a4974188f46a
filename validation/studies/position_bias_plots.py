"""The plots of the study `position-bias`."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from validation.reporting.wording import tokens
from validation.studies.contrasts import head_name
from validation.studies.drawing import (
    INK,
    centres,
    draw_estimates,
    label_tokens,
    new_figure,
    style,
)
from validation.studies.position_bias_figures import Grid, Profiles

_CURVES = 3
"""Groups of queries in a panel: the shortest, the middle, and the longest contexts."""


def draw_attention(profiles: Profiles) -> Figure:
    """Shares by distance, and by position, for queries at several positions."""
    figure, axes = new_figure(1, 2, 3.6, "Where attention goes: mean of all heads, 95 % intervals")
    by_distance, by_position = axes[0]
    longest = profiles.octaves[-1][1]
    # Octave 0 is distance 0, which a logarithmic axis does not have.
    distances = [float(np.sqrt(start * (stop - 1))) for start, stop in profiles.octaves[1:]]
    positions = centres(profiles.octaves)
    for index, group in enumerate(_chosen(len(profiles.groups))):
        start, stop = profiles.octave(group)
        label = f"queries {tokens(start)} to {tokens(stop)}"
        reach = [low for low, _ in profiles.octaves[1:] if low < stop]
        curve = profiles.curve("by_distance_of_rows", group)[1:]
        draw_estimates(by_distance, distances[: len(reach)], curve[: len(reach)], label, index)
        reach = [low for low, _ in profiles.octaves if low < stop]
        curve = profiles.curve("by_position_of_rows", group)
        draw_estimates(by_position, positions[: len(reach)], curve[: len(reach)], label, index)
    label_tokens(by_distance, 1, longest, "distance (tokens), first token aside")
    label_tokens(by_position, 1, longest, "position of the key, from 1")
    by_distance.set_ylim(bottom=0)
    by_position.set_yscale("log")
    by_distance.set_ylabel("share of attention, by octave", color=INK)
    by_distance.legend(frameon=False, fontsize=8.5)
    return figure


def draw_grid(grid: Grid) -> Figure:
    """The gain of every length and depth, written into its cell."""
    figure, axes = new_figure(
        1, 1, 3.4, "How much likelier the passkey is for being in the text (nats a token)"
    )
    panel: Axes = axes[0, 0]
    gains = np.array([[grid.cell(n, depth) for n in grid.lengths] for depth in grid.depths])
    # From 0, where the text does not help: a colour then says how much of the best is left.
    least, most = min(0.0, float(np.nanmin(gains))), max(0.1, float(np.nanmax(gains)))
    image = panel.imshow(gains, aspect="auto", cmap="cividis", vmin=least, vmax=most)
    for (row, column), value in np.ndenumerate(gains):
        if np.isfinite(value):
            colour = "white" if value <= (least + most) / 2 else "black"
            panel.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour)
    panel.set_xticks(range(len(grid.lengths)), [tokens(length) for length in grid.lengths])
    panel.set_yticks(range(len(grid.depths)), [f"{depth:.0%}" for depth in grid.depths])
    panel.set_xlabel("length of the text (tokens)", color=INK)
    panel.set_ylabel("depth of the passkey", color=INK)
    panel.grid(visible=False)
    figure.colorbar(image, ax=panel)
    return figure


def draw_heads(profiles: Profiles, grid: Grid) -> Figure:
    """Share of the first token in every head; copy scores of those that copy most."""
    figure, axes = new_figure(1, 2, 3.8, "Heads: the first token, and the passkey")
    _draw_first(axes[0, 0], profiles)
    _draw_copying(axes[0, 1], grid)
    return figure


def _draw_first(panel: Axes, profiles: Profiles) -> None:
    shares = profiles.first_of_heads(-1)
    layers = np.repeat(np.arange(shares.shape[0]), shares.shape[1])
    look = style(0)
    panel.plot(layers, shares.ravel(), ".", color=look["color"], alpha=0.6, label="a head")
    panel.plot(shares.mean(1), color=style(1)["color"], linewidth=1.5, label="mean of a layer")
    panel.set_ylim(0, 1)
    panel.set_xlabel("layer", color=INK)
    panel.set_ylabel("share of the first token", color=INK)
    panel.legend(frameon=False, fontsize=8.5)


def _draw_copying(panel: Axes, grid: Grid) -> None:
    heads = grid.most_copying
    panel.set_xlabel("copy score", color=INK)
    if not heads:
        panel.text(0.5, 0.5, "no head copies", ha="center", color=INK, transform=panel.transAxes)
        return
    for index, seed in enumerate(grid.seeds):
        of_seed = grid.chosen(seed=seed)
        found = [of_seed.copy_score([head]) for head in heads]
        values = np.array([each.value for each in found])
        ends = np.array([[each.low, each.high] for each in found]).T
        ends = np.where(np.isfinite(ends), ends, values)
        look = style(index) | {"linestyle": "none"}
        panel.errorbar(
            values,
            np.arange(len(heads)) + 0.18 * (index - (len(grid.seeds) - 1) / 2),
            xerr=np.abs(ends - values),
            label=f"seed {seed}",
            **look,
        )
    panel.set_yticks(range(len(heads)), [head_name(*head) for head in heads])
    panel.invert_yaxis()
    panel.set_xlim(left=0)
    # The weakest heads are there, with nothing to their right.
    panel.legend(frameon=False, fontsize=8.5, loc="lower right")


def _chosen(groups: int) -> list[int]:
    if groups <= _CURVES:
        return list(range(groups))
    return [0, groups // 2, groups - 1]
