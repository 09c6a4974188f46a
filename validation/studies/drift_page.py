"""What people read of `drift`: its plots and tables, around the findings."""

from collections.abc import Sequence
from itertools import product

from matplotlib.axes import Axes

from validation.reporting.tables import Column, Row, Table
from validation.reporting.wording import tokens
from validation.studies.drawing import INK, centres, draw_estimates, label_tokens, new_figure
from validation.studies.drift_findings import (
    ABS_DELTA,
    DELTA,
    MOVES_NATS,
    SIDES,
    TOPS,
    Case,
    findings,
    moved_name,
    nats,
    percent,
)
from validation.studies.page import Page, Picture
from validation.studies.records import StudyRecord
from validation.studies.texts import METHOD


def compose(records: list[StudyRecord]) -> Page:
    """The page of these records."""
    cases = Case.of(records)
    longest = max(case.context for case in cases)
    drawn = [case for case in cases if case.context == longest]
    return Page(
        title="What stock TransformerLens' error does downstream",
        question=(
            "At which layers, heads and queries is another position attended to most, and which "
            "tokens' losses move, where stock computes Llama 3.1's position encoding otherwise "
            "than Hugging Face?"
        ),
        method=_METHOD,
        findings=findings(cases),
        pictures=(_draw_positions(drawn), _draw_heads(drawn)),
        tables=tuple(_tabulate(case) for case in cases),
        limits=_limits(cases),
    )


_METHOD = (
    "The release from PyPI and the fork run the same windows of text, each in a process of its "
    "own, both with eager attention, with the same weights and configuration. Hugging Face's "
    "values are the fork's, bit for bit.",
    "The most attended position of a query is where its product with a rotated key is largest; it "
    "is taken of rotated queries and keys as the layer uses them, in float32 whatever the dtype, "
    "so that no two keys are equal because their scores were rounded. Losses are log softmaxes in "
    "float32 of the logits as the model rounds them.",
    "Reordered: the fork with fused attention beside the fork with eager attention. It is the same "
    "function, summed in another order: what it moves is chance, not error. Within a text, blocks "
    "of 64 positions are drawn.",
    METHOD,
)


def _limits(cases: Sequence[Case]) -> tuple[str, ...]:
    longest = max(case.context for case in cases)
    return (
        "SmolLM2-135M is a stand-in that was not trained with this scaling. How sharp a model's "
        "attention is, and so how often an error turns the order of two keys, is its own.",
        f"Up to {tokens(longest)} tokens. Stock's error of angles grows in proportion to the "
        "position, so that this says nothing about what it does beyond.",
        "That another position is attended to most says neither how much more nor that it matters: "
        "two keys may be attended to almost alike. Losses say what is left at the end.",
        "Stock is put right by more than its tables: RMSNorm and scores are rounded otherwise, "
        "too. These figures do not tell the causes apart.",
    )


def _draw_positions(cases: Sequence[Case]) -> Picture:
    figure, axes = new_figure(2, 1, 8.0, f"Apart from the fork, {tokens(cases[0].context)} tokens")
    panels = {
        TOPS: "share of most attended\npositions that change",
        ABS_DELTA: "mean |change of loss| (nats)",
    }
    for panel, (name, label) in zip(axes[:, 0], panels.items(), strict=True):
        _draw_figure(panel, cases, name)
        panel.set_ylabel(label, color=INK)
    return Picture(
        "positions",
        figure,
        "Two panels of curves over the position: changed attention and changed losses, of the "
        "release and of a reordering, by dtype",
        "Octaves of positions, 95 % intervals. Where stock lies on the reordered fork of its "
        "dtype, its error is no larger than chance. Octaves without any change are not drawn.",
    )


def _draw_figure(axes: Axes, cases: Sequence[Case], name: str) -> None:
    ranges = cases[0].ranges
    values = []
    for index, (case, side) in enumerate(product(cases, SIDES)):
        found = [(each, case.within(side, name, *each)) for each in ranges]
        # Zero has no place on a logarithmic axis.
        found = [(each, estimate) for each, estimate in found if estimate.value > 0]
        x, estimates = centres([each for each, _ in found]), [estimate for _, estimate in found]
        draw_estimates(axes, x, estimates, f"{case.dtype}, {side}", index)
        values += [estimate.value for estimate in estimates]
    if values:
        axes.set_yscale("log")
        axes.set_ylim(min(values) / 3, max(values) * 3)
    label_tokens(axes, ranges[0][1] / 2, cases[0].context, "position (tokens)")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, frameon=False)


def _draw_heads(cases: Sequence[Case]) -> Picture:
    height = 1.0 + 0.16 * max(case.heads("stock").shape[0] for case in cases)
    title = f"Queries whose most attended position changes, {tokens(cases[0].context)} tokens"
    figure, axes = new_figure(1, 2 * len(cases), max(3.5, height), title)
    shares = {(i, side): 100 * case.heads(side) for i, case in enumerate(cases) for side in SIDES}
    for panel, ((index, side), values) in zip(axes[0], shares.items(), strict=True):
        # One scale for each dtype: they lie decades apart.
        most = max(shares[index, each].max() for each in SIDES)
        image = panel.imshow(
            values, aspect="auto", cmap="viridis", vmin=0, vmax=most or 1, interpolation="nearest"
        )
        panel.grid(visible=False)
        panel.set_title(f"{cases[index].dtype},\n{side}", color=INK, fontsize="medium")
        panel.set_xlabel("head", color=INK)
        if side == SIDES[-1]:
            figure.colorbar(image, ax=panel, label="% of queries")
    axes[0, 0].set_ylabel("layer", color=INK)
    return Picture(
        "heads",
        figure,
        "Heat maps of layers by heads: the share of queries whose most attended position changes",
        "Stock beside the reordered fork, with one scale for each dtype.",
    )


def _tabulate(case: Case) -> Table:
    columns = (
        Column("positions", "text"),
        Column("against the fork", "text"),
        Column("most attended position changes"),
        Column("by, median tokens"),
        *(Column(f"loss moves by > {limit}") for limit in MOVES_NATS),
        Column("mean |change of loss|, nats"),
        Column("mean change of loss, nats"),
    )
    rows = []
    for index, (start, stop) in enumerate(case.ranges):
        for side in SIDES:
            found = {
                name: case.within(side, name, start, stop)
                for name in (TOPS, *map(moved_name, MOVES_NATS), ABS_DELTA, DELTA)
            }
            rows.append(
                Row(
                    (
                        f"{start}-{stop - 1}",
                        side,
                        percent(found[TOPS]),
                        f"{case.distances(side)[index]:.0f}",
                        *(percent(found[moved_name(limit)]) for limit in MOVES_NATS),
                        nats(found[ABS_DELTA]),
                        nats(found[DELTA]),
                    )
                )
            )
    return Table(f"By position: {case}", columns, tuple(rows))
