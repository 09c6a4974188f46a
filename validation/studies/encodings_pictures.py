"""The plots of the study of position encodings."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from validation.reporting.wording import tokens
from validation.studies.drawing import (
    INK,
    centres,
    draw_curve,
    draw_estimates,
    label_excess,
    label_linear_tokens,
    label_tokens,
    mark_trained,
    middles,
    new_figure,
    scale_plainly,
)
from validation.studies.encodings_results import BASELINE, NAMES, Measured
from validation.studies.page import Picture

_BIASED = "alibi"
"""Its bias is hundreds at distances where other schemes' scores are ones."""


def picture_losses(last: Measured) -> Picture:
    """Losses by position, and their differences from plain RoPE's."""
    figure, axes = new_figure(2, 1, 8.6, "Loss by position, and beside plain RoPE on the same text")
    ranges = last.ranges
    for name in last.readings:
        index = list(NAMES).index(name)
        found = [last.loss(name, *each) for each in ranges]
        # Eight bands of texts that lie far apart would hide the curves.
        draw = draw_estimates if name == BASELINE else draw_curve
        draw(axes[0, 0], middles(ranges), found, NAMES[name], index)
        if name in last.others:
            excess = [last.excess(name, BASELINE, *each) for each in ranges]
            draw_estimates(axes[1, 0], middles(ranges), excess, NAMES[name], index)
    axes[0, 0].set_ylabel("loss, nats a token", color=INK)
    scale_plainly(axes[0, 0], (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 15, 20))
    label_excess(axes[1, 0])
    for each in axes.flat:
        label_linear_tokens(each, last.context, "position, tokens")
        mark_trained(each, last.trained, last.context)
    _add_legend(figure, axes[0, 0])
    return Picture(
        name="losses",
        figure=figure,
        alt=f"Two plots by position up to {tokens(last.context)} tokens: the loss under every "
        "scheme, and its difference from plain RoPE.",
        caption="Above, the mean loss of ranges of positions; below, its difference from plain "
        "RoPE's on the same text, linear within 0.1 nats and logarithmic beyond. Bands are 95 % "
        "intervals, above of plain RoPE alone: the table has the others'. The dotted line is the "
        "trained length.",
    )


def picture_attention(last: Measured) -> Picture:
    """Entropies by position, and largest scores by distance."""
    figure, axes = new_figure(1, 2, 5.2, "Attention: entropy by position, scores by distance")
    ranges = last.query_ranges
    for name in last.readings:
        index = list(NAMES).index(name)
        entropies = last.entropy_by_range(name)
        draw_estimates(axes[0, 0], centres(ranges), entropies, NAMES[name], index)
        if name != _BIASED:
            scores = [last.of_queries(name, number) for number in range(len(ranges))]
            draw_estimates(axes[0, 1], centres(ranges), scores, NAMES[name], index)
    axes[0, 0].set_ylabel("entropy, nats", color=INK)
    axes[0, 1].set_ylabel("largest score before softmax", color=INK)
    low = ranges[0][1] / 16
    label_tokens(axes[0, 0], low, last.context, "position of the query, tokens")
    label_tokens(axes[0, 1], low, last.context, "distance of the keys, tokens")
    for each in axes.flat:
        mark_trained(each, last.trained, last.context)
    _add_legend(figure, axes[0, 0])
    return Picture(
        name="attention",
        figure=figure,
        alt="Two plots: the entropy of attention by the query's position, and the largest score by "
        "the distance of the key, under every scheme.",
        caption="Means over heads, layers and queries; of each query the largest score among keys "
        "that far away. In the last range of distances all queries see the first token, an "
        "attention sink; in others few do. Bands are 95 % intervals; the dotted line is the "
        f"trained length.{_say_biased(last)}",
    )


def _say_biased(last: Measured) -> str:
    if _BIASED not in last.readings:
        return ""
    near, far = (last.of_queries(_BIASED, n).value for n in (0, len(last.query_ranges) - 1))
    return (
        f" {NAMES[_BIASED]}'s scores, with its bias, go from {near:.3g} to {far:.4g} and are not "
        "drawn."
    )


def _add_legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
