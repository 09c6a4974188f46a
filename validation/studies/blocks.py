"""Means over blocks of neighbouring positions: what studies keep of a figure for every position.

Differences of two runs are taken block by block, so that their intervals are of paired differences.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from validation.studies.estimates import BLOCK, Estimate, mean, octaves

FIRST = 256
"""Positions of the first range: four blocks, since of one alone no interval is known."""


def means_of_blocks(values: Float[np.ndarray, "pos"]) -> Float[np.ndarray, "block"]:
    """The mean of each `BLOCK` positions; a rest counts from half a block on."""
    blocks = [values[start : start + BLOCK] for start in range(0, len(values), BLOCK)]
    if len(blocks) > 1 and len(blocks[-1]) < BLOCK / 2:
        blocks.pop()
    return np.array([block.mean() for block in blocks])


def ranges_of(context: int) -> list[tuple[int, int]]:
    """Octaves of positions, the end excluded; the first is `FIRST` long, none less than a block."""
    ranges = octaves(context, FIRST)
    if len(ranges) > 1 and ranges[-1][1] - ranges[-1][0] < BLOCK:
        ranges[-2:] = [(ranges[-2][0], context)]
    return ranges


def mean_within(windows: Sequence[NDArray[np.float64]], start: int, stop: int) -> Estimate:
    """The mean of a range of positions over windows of text.

    Args:
        windows: means of blocks, shape [block], a window each.
        start: first position, a multiple of `BLOCK`.
        stop: end of the range.
    """
    last = -(-stop // BLOCK)
    return mean(np.concatenate([window[start // BLOCK : last] for window in windows]))


def agree(found: Iterable[Estimate]) -> bool:
    """Whether any two differ by no more than the uncertainty of their difference."""
    found = list(found)
    return all(one.agrees_with(other) for one in found for other in found)


def is_zero(found: Estimate) -> bool:
    """Whether the interval has zero in it."""
    return found.low <= 0 <= found.high
