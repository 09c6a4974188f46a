"""What the records of `drift` show: the release beside a reordering, and sentences on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from validation.reporting.wording import count, tokens
from validation.studies.blocks import is_zero, ranges_of
from validation.studies.estimates import Estimate
from validation.studies.records import StudyRecord
from validation.studies.texts import means_of_texts, over_texts, say_agreement

SIDES = ("stock", "reordered")
"""Who is compared with the fork's eager attention: the release's, and the fork's own fused one."""

MOVES_NATS = (0.0001, 0.01, 0.1)
"""From where on a loss counts as moved: the first is seen in float32 alone."""

TOPS = "top_changed_share"
DELTA = "loss_delta_nats"
ABS_DELTA = "loss_abs_delta_nats"

_HEAD_CHANGES = 0.01
"""Of its queries, from where on a head counts as one that attends elsewhere."""


def moved_name(limit: float) -> str:
    """The figure of losses that move by more than so many nats."""
    return f"loss_moved_{limit}_share"


@dataclass(frozen=True)
class Case:
    """All seeds of one dtype and context.

    Attributes:
        dtype: of weights and activations.
        context: tokens.
        records: one for each seed.
    """

    dtype: str
    context: int
    records: tuple[StudyRecord, ...]

    @classmethod
    def of(cls, records: Sequence[StudyRecord]) -> "list[Case]":
        """In the order of the records."""
        cases: dict[tuple[str, int], list[StudyRecord]] = {}
        for record in records:
            cases.setdefault((record.dtype, int(record.unit["context"])), []).append(record)
        return [cls(dtype, context, tuple(its)) for (dtype, context), its in cases.items()]

    def __str__(self) -> str:
        """As people call it: `float32, 4k tokens`."""
        return f"{self.dtype}, {tokens(self.context)} tokens"

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Octaves of positions, the end excluded."""
        return ranges_of(self.context)

    def within(self, side: str, figure: str, start: int, stop: int) -> Estimate:
        """The mean of a figure over positions and seeds."""
        return over_texts(means_of_texts(self._windows(side, figure), start, stop))

    def whole(self, side: str, figure: str) -> Estimate:
        """Over all positions."""
        return self.within(side, figure, 0, self.context)

    def of_seeds(self, side: str, figure: str) -> list[Estimate]:
        """The seeds' own means, over all positions."""
        return means_of_texts(self._windows(side, figure), 0, self.context)

    def changes(self, side: str) -> int:
        """How often another position is attended to most."""
        counts = [r.values[f"{side}_top_changed_by_range"] for r in self.records]
        return int(np.array(counts, dtype=int).sum())

    def heads(self, side: str) -> NDArray[np.float64]:
        """The share of queries whose most attended position changes, shape [layer, head]."""
        name = f"{side}_top_changed_share_by_layer_and_head"
        seeds = np.array([r.values[name] for r in self.records], dtype=float)
        return np.asarray(seeds.mean(0))

    def distances(self, side: str) -> list[float]:
        """By range, the median of tokens between both positions where they differ.

        The mean of the seeds' medians, weighed by how many differ; 0 if none does.
        """
        counts = np.array([r.values[f"{side}_top_changed_by_range"] for r in self.records])
        name = f"{side}_top_moved_median_tokens_by_range"
        medians = np.array([cast(list[float], r.values[name]) for r in self.records])
        weighed = (counts * medians).sum(0) / np.maximum(counts.sum(0), 1)
        return [float(each) for each in weighed]

    def _windows(self, side: str, figure: str) -> list[NDArray[np.float64]]:
        name = f"{side}_{figure}_by_block"
        return [np.array(record.values[name], dtype=float) for record in self.records]


def percent(found: Estimate) -> str:
    """A share as people read it, of which none is less than nothing: `0.12 % [0.10, 0.13]`."""
    low, high = max(found.low, 0.0), min(found.high, 1.0)
    return f"{100 * found.value:.3g} % [{100 * low:.3g}, {100 * high:.3g}]"


def nats(found: Estimate) -> str:
    """Nats, small ones too: `1.2e-05 [1.1e-05, 1.3e-05]`."""
    return f"{found.value:.2g} [{found.low:.2g}, {found.high:.2g}]"


def findings(cases: Sequence[Case]) -> tuple[str, ...]:
    """Sentences that are right whichever way the figures fall, on each dtype's longest context."""
    longest = [
        max((case for case in cases if case.dtype == dtype), key=lambda case: case.context)
        for dtype in dict.fromkeys(case.dtype for case in cases)
    ]
    said = []
    for case in longest:
        said += [_say_tops(case), _say_losses(case)]
    said.append(_say_bias(longest))
    said.append(_say_seeds(longest))
    return tuple(said)


def compared(one: Estimate, other: Estimate) -> str:
    """How the first lies to the second: `2.3 times as much`, or no different."""
    if one.agrees_with(other):
        return "no different within the uncertainty"
    if other.value == 0:
        return "above it, which is none"
    return f"{one.value / other.value:.3g} times as much"


def _say_tops(case: Case) -> str:
    stock, floor = (case.whole(side, TOPS) for side in SIDES)
    first, last = (case.within("stock", TOPS, *case.ranges[i]) for i in (0, -1))
    shares = case.heads("stock")
    layer, head = np.unravel_index(shares.argmax(), shares.shape)
    many = int((shares >= _HEAD_CHANGES).sum())
    sentence = (
        f"{case}: stock attends to another position most than the fork does at {percent(stock)} of "
        f"layers, heads and queries ({count(case.changes('stock'))} times); a reordering alone "
        f"does at {percent(floor)} ({count(case.changes('reordered'))}); stock's share is "
        f"{compared(stock, floor)}."
    )
    if len(case.ranges) > 1:
        sentence += (
            f" It is {percent(first)} in the first {case.ranges[0][1]} tokens and {percent(last)} "
            f"from {tokens(case.ranges[-1][0])} on, {_grown(first, last)}."
        )
    if stock.value > 0:
        sentence += (
            f" {many} of {shares.size} heads do so at 1 % of their queries or more, most of all "
            f"head {head} of layer {layer} at {100 * shares[layer, head]:.3g} %."
        )
    return sentence


def _grown(first: Estimate, last: Estimate) -> str:
    if first.agrees_with(last):
        return "no different within the uncertainty"
    return "more" if last.value > first.value else "less"


def _say_losses(case: Case) -> str:
    stock, floor = (case.whole(side, ABS_DELTA) for side in SIDES)
    first, last = (case.within("stock", ABS_DELTA, *case.ranges[i]) for i in (0, -1))
    moves = "; ".join(
        f"{percent(case.whole('stock', moved_name(limit)))} of tokens move by more than {limit}, "
        f"{percent(case.whole('reordered', moved_name(limit)))} when reordered"
        for limit in MOVES_NATS
    )
    return (
        f"{case}: a token's loss in stock is {nats(stock)} nats from the fork's, in a reordering "
        f"{nats(floor)}: stock's is {compared(stock, floor)}; {nats(first)} in the first "
        f"{case.ranges[0][1]} tokens and {nats(last)} from {tokens(case.ranges[-1][0])} on, "
        f"{_grown(first, last)}. {moves}."
    )


def _say_bias(cases: Sequence[Case]) -> str:
    parts = []
    for case in cases:
        delta, floor = (case.whole(side, DELTA) for side in SIDES)
        if is_zero(delta):
            which = "neither better nor worse within the uncertainty"
        else:
            which = "worse" if delta.value > 0 else "better"
            if delta.agrees_with(floor):
                which += ", no more so than a reordering within the uncertainty"
        parts.append(f"{case.dtype} {nats(delta)} ({nats(floor)} when reordered), {which}")
    return f"Signed, in nats, stock's mean loss differs from the fork's by: {'; '.join(parts)}."


def _say_seeds(cases: Sequence[Case]) -> str:
    figures = {TOPS: "most attended positions", ABS_DELTA: "distance of losses", DELTA: "mean loss"}
    checks = {
        f"{case.dtype}, {name} of {side}": case.of_seeds(side, figure)
        for case in cases
        for side in SIDES
        for figure, name in figures.items()
    }
    return say_agreement("figures over the whole window", checks)
