"""Losses by position as the studies keep and compare them: means of blocks, on the same text."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import exp, isfinite

import numpy as np
from numpy.typing import NDArray

from validation.reporting.wording import tokens
from validation.studies.blocks import FIRST, mean_within
from validation.studies.estimates import BLOCK, Estimate, octaves

_PIECES = 4
"""Into so many the positions beyond the trained ones are divided."""

Blocks = NDArray[np.float64]
"""Mean loss of each 64 positions, shape [block]; the last may have fewer."""


def block_means(losses: NDArray[np.float64]) -> list[float]:
    """The mean of every 64 positions, in order."""
    return [round(float(losses[i : i + BLOCK].mean()), 6) for i in range(0, len(losses), BLOCK)]


def loss_ranges(context: int, trained: int) -> list[tuple[int, int]]:
    """Doubling ranges up to the trained length, and equal ones beyond it; the end excluded."""
    inside = octaves(min(context, trained), FIRST)
    if context - trained < BLOCK:
        return [*inside[:-1], (inside[-1][0], context)]
    edges = np.linspace(trained, context, _PIECES + 1) // BLOCK * BLOCK
    edges[0], edges[-1] = trained, context
    beyond = [(int(a), int(b)) for a, b in pairwise(edges) if b > a]
    return inside + beyond


def paired(ones: Sequence[Blocks], others: Sequence[Blocks], start: int, stop: int) -> Estimate:
    """By how much the first losses exceed the others, text by text, block by block, in nats."""
    differences = [one - other for one, other in zip(ones, others, strict=True)]
    return mean_within(differences, start, stop)


def perplexity(loss: Estimate) -> str:
    """E to the loss, as people read it."""
    return f"{exp(loss.value):,.4g}" if loss.value < 700 else "beyond measure"


def compared(difference: Estimate, quantity: str = "nats") -> str:
    """A difference in words: `higher by 0.1 [0.05, 0.2] nats`."""
    if not (isfinite(difference.low) and isfinite(difference.high)):
        return f"different by {difference.value:.3g} {quantity}, how surely is unknown,"
    if difference.low == difference.high == 0:
        return "the same"
    if difference.low <= 0 <= difference.high:
        found = f"{difference.value:+.3g} [{difference.low:+.3g}, {difference.high:+.3g}]"
        return f"no different within the uncertainty ({f'{found} {quantity}'.rstrip()})"
    word = "higher" if difference.value > 0 else "lower"
    ends = sorted((abs(difference.low), abs(difference.high)))
    found = f"{abs(difference.value):.3g} [{ends[0]:.3g}, {ends[1]:.3g}]"
    return f"{word} by {found} {quantity}".rstrip()


def listed_by_value(said: Iterable[tuple[str, str]]) -> str:
    """What is said of names, those of which the same is said together: `a and b the same; ...`."""
    names: dict[str, list[str]] = {}
    for name, words in said:
        names.setdefault(words, []).append(name)
    return "; ".join(f"{listed(each)} {words}" for words, each in names.items())


def listed(names: Sequence[str]) -> str:
    """Names as a sentence has them: `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def span(start: int, stop: int) -> str:
    """A range of positions or distances: `8k-12k`."""
    return f"{tokens(start) if start else '0'}-{tokens(stop)}"


def signed(estimate: Estimate) -> str:
    """A difference in a table."""
    return f"{estimate.value:+.3g} [{estimate.low:+.3g}, {estimate.high:+.3g}]"
