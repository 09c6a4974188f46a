"""What the records of `interventions` show: paired changes of the loss, and sentences on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import cast

import numpy as np
from numpy.typing import NDArray

from validation.reporting.wording import tokens
from validation.studies.blocks import is_zero, ranges_of
from validation.studies.estimates import BLOCK, Estimate, mean
from validation.studies.interventions import BANDS
from validation.studies.losses import signed
from validation.studies.records import StudyRecord
from validation.studies.study import seeds_of
from validation.studies.texts import means_of_texts, over_texts, say_agreement

NONE = "none"
"""The unit of the unedited model."""

PATCH = "one position patched"
"""The unit of activation patching."""

WHERE = ("still", "removed")
"""The two ways in which a band is knocked out."""

MOVED = "first quarter moved by a quarter"

MAIN = ("low band still", "scaling undone", MOVED)
"""One edit of each kind."""


@dataclass(frozen=True)
class Changes:
    """How much each edit changes the loss, in nats.

    Attributes:
        windows: by edit and context, for every seed the changes of the means of blocks.
        seeds: that were measured.
    """

    windows: dict[tuple[str, int], dict[int, NDArray[np.float64]]]
    seeds: list[int]

    @classmethod
    def of(cls, records: Sequence[StudyRecord]) -> "Changes":
        """Edited minus unedited, of the same window, block by block."""
        found = {
            (str(r.unit["edit"]), int(r.unit["context"]), int(r.unit["seed"])): np.array(
                r.values["loss_nats_by_block"], dtype=float
            )
            for r in records
            if r.unit["edit"] != PATCH
        }
        windows: dict[tuple[str, int], dict[int, NDArray[np.float64]]] = {}
        for (edit, context, seed), losses in found.items():
            unedited = found.get((NONE, context, seed))
            if edit != NONE and unedited is not None:
                windows.setdefault((edit, context), {})[seed] = losses - unedited
        return cls(windows, seeds_of(records))

    @property
    def contexts(self) -> list[int]:
        """Ascending."""
        return sorted({context for _, context in self.windows})

    def edits(self, context: int) -> list[str]:
        """Those of a context, in the order of the records."""
        return [edit for edit, its_context in self.windows if its_context == context]

    def main(self, context: int) -> list[str]:
        """Those of them that are one of each kind."""
        return [edit for edit in self.edits(context) if edit in MAIN]

    def within(self, edit: str, context: int, start: int, stop: int) -> Estimate:
        """The mean change within a range of positions, over all seeds."""
        return over_texts(means_of_texts(self.windows[edit, context].values(), start, stop))

    def whole(self, edit: str, context: int) -> Estimate:
        """Over the whole window."""
        return self.within(edit, context, 0, context)

    def of_seeds(self, edit: str, context: int) -> list[Estimate]:
        """The seeds' own changes over the whole window."""
        return means_of_texts(self.windows[edit, context].values(), 0, context)


@dataclass(frozen=True)
class Patches:
    """What patching one position did, over prompts and seeds of one context.

    Attributes:
        context: tokens of each prompt.
        distances: tokens from the position to the end, a prompt each.
        layers: before which the position was patched.
        answer: log-probability of the answer after the clean prompt, nats.
        moved: by layer, how far the log-odds of answer and other digit moved, nats.
    """

    context: int
    distances: list[int]
    layers: list[int]
    answer: Estimate
    moved: list[Estimate]

    @classmethod
    def of(cls, records: Sequence[StudyRecord]) -> "list[Patches]":
        """One for each context."""
        patches = [record for record in records if record.unit["edit"] == PATCH]
        contexts = sorted({int(record.unit["context"]) for record in patches})
        return [cls._of([r for r in patches if r.unit["context"] == c], c) for c in contexts]

    @classmethod
    def _of(cls, records: Sequence[StudyRecord], context: int) -> "Patches":
        clean = np.array([r.values["clean_log_probs_nats"] for r in records], dtype=float)
        # Shape [prompt, layer, 2].
        patched = np.array([r.values["patched_log_probs_nats"] for r in records], dtype=float)
        odds = (clean[:, 0] - clean[:, 1])[:, None] - (patched[..., 0] - patched[..., 1])
        return cls(
            context,
            [int(cast(int, r.values["tokens_before_the_end"])) for r in records],
            [int(layer) for layer in cast(list[int], records[0].values["layers"])],
            mean(clean[:, 0]),
            [mean(column) for column in odds.T],
        )

    @property
    def shares(self) -> list[float]:
        """By layer, of what the whole corrupted prompt moves: the patch before layer 0."""
        return [each.value / self.moved[0].value for each in self.moved]


def after_the_span(context: int) -> list[tuple[int, int]]:
    """Octaves of distance from the end of the first quarter, the end excluded."""
    return ranges_of(context - first_after(context))


def first_after(context: int) -> int:
    """The first position after the first quarter at which a block begins."""
    return -(-(context // 4) // BLOCK) * BLOCK


def findings(changes: Changes, patches: Sequence[Patches]) -> tuple[str, ...]:
    """Sentences that are right whichever way the figures fall."""
    said = []
    if changes.contexts:
        said += [_say_bands(changes), _say_extremes(changes), _say_positions(changes)]
        said += [_say_move(changes)]
    said += [_say_patches(each) for each in patches[-1:]]
    said += [_say_seeds(changes)]
    return tuple(sentence for sentence in said if sentence)


def _say_bands(changes: Changes) -> str:
    context = changes.contexts[0]
    parts = []
    for how, band in product(WHERE, BANDS):
        if (f"{band} band {how}", context) in changes.windows:
            change = signed(changes.whole(f"{band} band {how}", context))
            verb = "kept from rotating" if how == "still" else "removed from the product"
            parts.append(f"the {band} band {verb} {change}")
    if not parts:
        return ""
    return (
        f"At {tokens(context)} tokens, a band that is knocked out changes the loss, in nats per "
        f"token, by: {'; '.join(parts)}."
    )


def _say_extremes(changes: Changes) -> str:
    context = changes.contexts[0]
    whole = {edit: changes.whole(edit, context) for edit in changes.edits(context)}
    ordered = sorted(whole, key=lambda edit: whole[edit].value)
    lower = [edit for edit in ordered if whole[edit].high < 0]
    none = [edit for edit in ordered if is_zero(whole[edit])]
    highest = ordered[-1]
    return (
        f"At {tokens(context)} tokens, of {len(ordered)} edits {len(lower)} lower the loss"
        f"{_listed(lower)} and {len(none)} change it by no more than the uncertainty"
        f"{_listed(none)}; most is changed upwards by '{highest}', {signed(whole[highest])}."
        if whole[highest].low > 0
        else f"At {tokens(context)} tokens, none of {len(ordered)} edits raises the loss beyond "
        f"the uncertainty; {len(lower)} lower it{_listed(lower)}."
    )


def _listed(edits: Sequence[str]) -> str:
    return f" ({', '.join(edits)})" if edits else ""


def _say_positions(changes: Changes) -> str:
    context = changes.contexts[-1]
    ranges = ranges_of(context)
    if len(ranges) < 2 or not changes.main(context):
        return ""
    parts = []
    for edit in changes.main(context):
        first, last = (changes.within(edit, context, *ranges[i]) for i in (0, -1))
        parts.append(
            f"'{edit}' {signed(first)} and {signed(last)}, {_compared(first, last)} in the last"
        )
    return (
        f"By position, at {tokens(context)} tokens, the change in nats in the first "
        f"{ranges[0][1]} tokens and from {tokens(ranges[-1][0])} on: {'; '.join(parts)}."
    )


def _compared(first: Estimate, last: Estimate) -> str:
    if first.agrees_with(last):
        return "no different within the uncertainty"
    return "higher" if last.value > first.value else "lower"


def _say_move(changes: Changes) -> str:
    parts = []
    for context in changes.contexts:
        ranges = after_the_span(context)
        if (MOVED, context) not in changes.windows or len(ranges) < 2:
            continue
        start = first_after(context)
        near, far = (
            changes.within(MOVED, context, start + ranges[i][0], start + ranges[i][1])
            for i in (0, -1)
        )
        parts.append(
            f"at {tokens(context)} tokens {signed(near)} nats in the next {ranges[0][1]} and "
            f"{signed(far)} beyond the next {tokens(ranges[-1][0])}, "
            f"{_compared(near, far)} there"
        )
    if not parts:
        return ""
    return (
        "The first quarter of the text, moved away by as many tokens as it has, changes the loss "
        f"of what follows: {'; '.join(parts)}."
    )


def _say_patches(patches: Patches) -> str:
    nearest, farthest = min(patches.distances), max(patches.distances)
    far = f"{nearest} to {farthest}" if nearest < farthest else f"{nearest}"
    whole = patches.moved[0]
    begin = (
        f"At {tokens(patches.context)} tokens, another digit {far} tokens before "
        f"the end moves the log-odds of the two digits by {signed(whole)} nats"
    )
    if whole.low <= 0:
        return f"{begin}, no more than the uncertainty: of layers this says nothing."
    shares = patches.shares
    halves = [layer for layer, share in zip(patches.layers, shares, strict=True) if share >= 0.5]
    later = [layer for layer in patches.layers if layer > max(halves)]
    each = ", ".join(
        f"{share:.0%} before layer {layer}"
        for layer, share in zip(patches.layers[1:], shares[1:], strict=True)
    )
    return (
        f"{begin}; the activation of that one position alone moves them by {each} of that: of the "
        f"{len(patches.layers)} layers that were tried, half or more still before layer "
        f"{max(halves)}{f', no longer before layer {later[0]}' if later else ''}. The digit's "
        f"log-probability in the unedited run is {patches.answer} nats."
    )


def _say_seeds(changes: Changes) -> str:
    checks = {
        f"'{edit}' at {tokens(context)}": changes.of_seeds(edit, context)
        for edit, context in changes.windows
    }
    said = say_agreement("changes over the whole window", checks)
    once = {context for (_, context), windows in changes.windows.items() if len(windows) == 1}
    if once and max(map(len, changes.windows.values())) > 1:
        said += f" At {', '.join(map(tokens, sorted(once)))} tokens one seed was measured."
    return said
