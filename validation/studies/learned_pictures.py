"""The plots of the study of learned frequencies."""

import numpy as np

from validation.studies.drawing import (
    INK,
    draw_estimates,
    label_excess,
    label_linear_tokens,
    label_tokens,
    mark_trained,
    middles,
    new_figure,
    scale_plainly,
    style,
)
from validation.studies.learned_results import NAMES, Fitted
from validation.studies.losses import loss_ranges
from validation.studies.page import Picture


def picture_losses(found: Fitted) -> Picture:
    """Every fit beside plain RoPE, by position."""
    title = "Loss beside plain RoPE's on the same text"
    figure, axes = new_figure(1, 1, 5.0, title)
    ranges = loss_ranges(found.context, found.trained)
    for index, name in enumerate(list(NAMES)[1:], 1):
        excess = [found.excess(name, "plain", where) for where in ranges]
        draw_estimates(axes[0, 0], middles(ranges), excess, NAMES[name], index)
    label_excess(axes[0, 0])
    label_linear_tokens(axes[0, 0], found.context, "position, tokens")
    mark_trained(axes[0, 0], found.trained, found.context)
    axes[0, 0].legend(frameon=True, facecolor="white", edgecolor="none")
    return Picture(
        name="losses",
        figure=figure,
        alt="The difference of the loss from plain RoPE's, by position, for Llama 3.1's smoothing, "
        "learned frequencies and the mixture of schemes.",
        caption="Means of ranges of positions of all seeds, on text that no fit saw. Bands are "
        "95 % intervals of the differences; within 0.1 nats the axis is linear, beyond it "
        "logarithmic; the dotted line is the trained length.",
    )


def picture_frequencies(found: Fitted) -> Picture:
    """What became of each pair, beside what Llama 3.1 does to it."""
    figure, axes = new_figure(1, 1, 5.0, "What became of each frequency")
    plot, plain = axes[0, 0], found.scheme("plain")
    wavelengths = 2 * np.pi / plain
    plot.plot(wavelengths, found.scheme("llama3") / plain, label=NAMES["llama3"], **style(1))
    for number, seed in enumerate(found.seeds):
        # One colour for all; no line and marker of the other curves'.
        look = style(4 + number) | {"color": style(2)["color"]}
        plot.plot(wavelengths, found.ratios(seed), label=f"learned, seed {seed}", **look)
    mixed = found.mixed_ratios()
    low, middle, high = np.percentile(mixed, [10, 50, 90], axis=0)
    plot.plot(wavelengths, middle, label="mixture, median group", **style(3))
    plot.fill_between(wavelengths, low, high, color=style(3)["color"], alpha=0.18, linewidth=0)
    scale_plainly(plot, [2.0**power for power in range(-8, 9)])
    plot.set_ylabel("frequency / plain RoPE's", color=INK)
    label_tokens(plot, wavelengths[0], wavelengths[-1], "wavelength under plain RoPE, tokens")
    plot.axvline(found.trained, color=INK, linewidth=1, linestyle=":")
    plot.legend(frameon=False)
    return Picture(
        name="frequencies",
        figure=figure,
        alt="For every pair, by its wavelength under plain RoPE: how many times as fast it turns "
        "under Llama 3.1, after each fit, and in the median group of heads of the mixture.",
        caption="Below 1 a pair is slowed. The band spans the middle 80 % of the mixture's groups "
        "of heads that share a key; the dotted line is the trained length.",
    )
