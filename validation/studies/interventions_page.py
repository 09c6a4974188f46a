"""What people read of `interventions`: its plots and tables, around the findings."""

from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from validation.reporting.tables import Column, Row, Table
from validation.reporting.wording import tokens
from validation.studies.blocks import ranges_of
from validation.studies.drawing import INK, centres, draw_estimates, label_tokens, new_figure, style
from validation.studies.estimates import Estimate
from validation.studies.interventions_findings import (
    WHERE,
    Changes,
    Patches,
    after_the_span,
    findings,
    first_after,
)
from validation.studies.losses import signed
from validation.studies.page import Page, Picture
from validation.studies.records import StudyRecord
from validation.studies.texts import METHOD, found_again

_LINEAR_NATS = 0.01
"""Within it the axis of changes is linear: below and above, both signs have decades."""


def compose(records: list[StudyRecord]) -> Page:
    """The page of these records, of which some units may be missing."""
    changes, patches = Changes.of(records), Patches.of(records)
    pictures = []
    if changes.contexts:
        pictures += [_draw_bands(changes), _draw_long(changes)]
    if patches:
        pictures.append(_draw_patches(patches))
    return Page(
        title="Interventions on the position encoding of Llama 3.1",
        question=(
            "What becomes of the loss if a band of rotary frequencies is knocked out or rescaled, "
            "or the first quarter of the text stands elsewhere; and before which layers does one "
            "far position decide an answer?"
        ),
        method=_METHOD,
        findings=findings(changes, patches),
        pictures=tuple(pictures),
        tables=(_tabulate_changes(changes), *map(_tabulate_patches, patches)),
        limits=_limits(records),
    )


_METHOD = (
    "Hooks on hook_rot_q and hook_rot_k of every layer rotate queries and keys further, by the "
    "difference of two angles; attention stays fused. Bands are those of Llama 3.1's scaling, by "
    "the wavelength of the unscaled frequency: high below original / high_freq_factor tokens, low "
    "above original / low_freq_factor, medium between.",
    "Still: the band does not rotate. Removed: its dimensions do not count in the product of query "
    "and key. x 0.5, x 2: it rotates so many times as fast. Scaling undone: every pair rotates "
    "with its unscaled frequency.",
    "First quarter moved: its keys and queries stand so many positions earlier, so that inside it "
    "all distances are as before, and everything after it sees it further away. First token moved: "
    "only that token's key, to which much attention goes whatever it says.",
    "Every edit runs on the same windows of text as the unedited model. Changes are differences of "
    "means over 64 tokens, and such blocks are drawn within a text.",
    METHOD,
    "Patching: two prompts differ in one digit of a passkey in the text and end with the question "
    "for it. The residual stream at the digit's position is taken from the other prompt and put in "
    "before one layer, and the log-odds of the two digits are read at the end. Before layer 0 this "
    "is the other prompt itself.",
)


def _limits(records: Sequence[StudyRecord]) -> tuple[str, ...]:
    limits = [
        "SmolLM2-135M is a stand-in: it was trained to 8192 tokens without the scaling that its "
        "configuration has here. How large an effect is says nothing about Llama 3.1; how to "
        "measure it does not depend on the model.",
        "An edit puts a trained model where it has never been. A loss that rises says that the "
        "model relies on what was edited, not what a model trained that way would do.",
        "Edits are made in every layer and head at once: which of them an effect comes from is not "
        "asked here.",
        "Beyond 8k tokens one edit of each kind is made, by default on one window of text: its "
        "interval is of that window, and another text may give another figure.",
        "One kind of text and one kind of passkey; a few prompts for each context.",
    ]
    if any(record.dtype != "float32" for record in records):
        limits.append(
            "In half precision every edit rounds queries and keys once more, and losses themselves "
            "are rounded."
        )
    return tuple(limits)


def _draw_bands(changes: Changes) -> Picture:
    context = changes.contexts[0]
    edits = changes.edits(context)
    knocked_out = [edit for edit in edits if edit.split()[-1] in WHERE]
    rescaled = [edit for edit in edits if " x " in edit or edit == "scaling undone"]
    title = f"Change of the loss by position, {tokens(context)} tokens"
    figure, axes = new_figure(2, 1, 8.0, title)
    ranges = ranges_of(context)
    for panel, chosen in zip(axes[:, 0], (knocked_out, rescaled), strict=True):
        for index, edit in enumerate(chosen):
            found = [changes.within(edit, context, *each) for each in ranges]
            draw_estimates(panel, centres(ranges), found, edit, index)
        _finish(panel, ranges[0][1] / 2, context, "position (tokens)")
    return Picture(
        "bands",
        figure,
        "Curves of the change of the loss over the position, one for each edit of a band",
        "Above: a band of frequencies knocked out. Below: rescaled. Octaves of positions, 95 % "
        f"intervals; within {_LINEAR_NATS} nats the axis is linear.",
    )


def _draw_long(changes: Changes) -> Picture:
    context = changes.contexts[-1]
    figure, axes = new_figure(2, 1, 8.0, f"Main edits, up to {tokens(context)} tokens")
    ranges = ranges_of(context)
    above, below = axes[:, 0]
    for index, edit in enumerate(changes.main(context)):
        found = [changes.within(edit, context, *each) for each in ranges]
        draw_estimates(above, centres(ranges), found, edit, index)
    _finish(above, ranges[0][1] / 2, context, f"position in {tokens(context)} tokens")
    cases = [case for case in changes.windows if " moved by " in case[0]]
    for index, (edit, its_context) in enumerate(cases):
        distances, start = after_the_span(its_context), first_after(its_context)
        found = [
            changes.within(edit, its_context, start + low, start + high) for low, high in distances
        ]
        draw_estimates(below, centres(distances), found, f"{edit}, of {tokens(its_context)}", index)
    if cases:
        furthest = context - first_after(context)
        _finish(below, ranges[0][1] / 2, furthest, "tokens after the first quarter")
    return Picture(
        "far",
        figure,
        "Curves of the change of the loss over the position, and over the distance from what moved",
        "Above: one edit of each kind at the longest context. Below: what follows a first quarter "
        "that stands further away, or sees the first token further away. 95 % intervals.",
    )


def _finish(axes: Axes, low: float, high: float, name: str) -> None:
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_yscale("symlog", linthresh=_LINEAR_NATS)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}" if value else "0"))
    axes.set_ylabel("change of loss (nats)", color=INK)
    label_tokens(axes, low, high, name)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, frameon=False)


def _draw_patches(patches: Sequence[Patches]) -> Picture:
    figure, axes = new_figure(
        1, 1, 4.0, "One far position, patched before one layer after the other"
    )
    panel = axes[0, 0]
    for index, each in enumerate(patches):
        label = f"{tokens(each.context)} tokens"
        draw_estimates(panel, [float(layer) for layer in each.layers], each.moved, label, index)
        panel.axhline(
            each.moved[0].value, color=style(index)["color"], linewidth=0.8, linestyle=":"
        )
    panel.axhline(0, color=INK, linewidth=0.8)
    panel.set_xlabel("layer before which the position is patched", color=INK)
    panel.set_ylabel("log-odds moved (nats)", color=INK)
    panel.legend(frameon=False)
    return Picture(
        "patching",
        figure,
        "How far the log-odds of two digits move, over the layer before which one is patched",
        "As far as the dotted line: that position alone decides. At 0: what it says has been read, "
        "or is not read. 95 % intervals over prompts.",
    )


def _tabulate_changes(changes: Changes) -> Table:
    headings = (
        "whole window",
        "first octave",
        "last octave",
        "after what moved, first",
        "seeds agree",
    )
    rows = []
    for edit, context in changes.windows:
        ranges = ranges_of(context)
        within = partial(changes.within, edit, context)
        start = first_after(context)
        near = within(start, start + after_the_span(context)[0][1])
        cells: Sequence[Estimate] = (within(0, context), within(*ranges[0]), within(*ranges[-1]))
        rows.append(
            Row(
                (
                    edit,
                    tokens(context),
                    *map(signed, cells),
                    signed(near) if " moved by " in edit else "-",
                    _agreement(changes, edit, context),
                )
            )
        )
    columns = (Column("edit", "text"), Column("tokens", "text"), *map(Column, headings))
    return Table("Change of the loss, nats per token", columns, tuple(rows))


def _agreement(changes: Changes, edit: str, context: int) -> str:
    if len(changes.windows[edit, context]) < 2:
        return "-"
    return "yes" if found_again(changes.of_seeds(edit, context)) else "no"


def _tabulate_patches(patches: Patches) -> Table:
    rows = tuple(
        Row((str(layer), signed(moved), f"{share:.1%}"))
        for layer, moved, share in zip(patches.layers, patches.moved, patches.shares, strict=True)
    )
    columns = (
        Column("before layer", "text"),
        Column("log-odds moved, nats"),
        Column("of the whole corrupted prompt"),
    )
    prompts = len(patches.distances)
    return Table(
        f"One position patched, {tokens(patches.context)} tokens, {prompts} prompts", columns, rows
    )
