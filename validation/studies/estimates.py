"""Means of what was measured at every position, with their uncertainty."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import hypot

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

BLOCK = 64
"""Positions that are drawn together: neighbours are not independent."""

_RESAMPLES = 2000
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % confidence interval.

    Attributes:
        value: the mean.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """As people read it: `3.142 [3.140, 3.145]`."""
        if not np.isfinite((self.low, self.high)).all():
            return f"{self.value:.4g} [of one sample]"
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"

    def agrees_with(self, other: "Estimate") -> bool:
        """Whether the two differ by no more than the uncertainty of their difference."""
        uncertainty = hypot(
            max(self.high - self.value, self.value - self.low),
            max(other.high - other.value, other.value - other.low),
        )
        return abs(self.value - other.value) <= uncertainty


def mean_of_positions(values: NDArray[np.float64], block: int = BLOCK) -> Estimate:
    """The mean over positions, by a block bootstrap (Kuensch 1989): means of blocks are drawn.

    Args:
        values: one for each position, shape [pos], in order.
        block: positions that are drawn together.
    """
    blocks = [values[i : i + block].mean() for i in range(0, len(values), block)]
    if len(values) % block and len(blocks) > 1:
        blocks.pop()  # a short one would weigh as much as a whole one
    return mean(np.array(blocks), value=float(values.mean()))


def mean(samples: NDArray[np.float64], value: float | None = None) -> Estimate:
    """The mean of independent samples, by the bootstrap; of one alone nothing is known.

    Args:
        samples: shape [sample].
        value: the mean to report, if it is not the samples' own.
    """
    value = float(samples.mean()) if value is None else value
    if len(samples) < 2:
        return Estimate(value, -np.inf, np.inf)
    if np.ptp(samples) == 0:
        return Estimate(value, value, value)
    interval = bootstrap(
        (samples,),
        np.mean,
        n_resamples=_RESAMPLES,
        confidence_level=_CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Estimate(value, min(value, float(interval.low)), max(value, float(interval.high)))


def ratio_of_means(numerators: NDArray[np.float64], denominators: NDArray[np.float64]) -> Estimate:
    """The mean of one over that of another, measured on the same independent samples.

    Args:
        numerators: shape [sample].
        denominators: shape [sample]; their mean is far from 0 for its uncertainty.
    """
    value = float(numerators.mean() / denominators.mean())
    if len(numerators) < 2:
        return Estimate(value, -np.inf, np.inf)
    if np.ptp(numerators / denominators) == 0:
        return Estimate(value, value, value)
    interval = bootstrap(
        (numerators, denominators),
        lambda above, below, axis: above.mean(axis) / below.mean(axis),
        paired=True,
        n_resamples=_RESAMPLES,
        confidence_level=_CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Estimate(value, min(value, float(interval.low)), max(value, float(interval.high)))


def blocks_of(values: NDArray[np.float64], block: int) -> NDArray[np.float64]:
    """Means of blocks of rows, shape [block, ...]; a short one at the end is left out."""
    whole = max(1, len(values) // block)
    return np.stack([each.mean(0) for each in np.array_split(values[: whole * block], whole)])


def octaves(positions: int, first: int = 64) -> list[tuple[int, int]]:
    """Ranges [0, first), [first, 2 first), ... that double, to `positions`; the end excluded."""
    edges = [0]
    edge = first
    while edge < positions:
        edges.append(edge)
        edge *= 2
    return list(pairwise([*edges, positions]))


def binned(
    values: NDArray[np.float64], ranges: Sequence[tuple[int, int]], block: int = BLOCK
) -> list[Estimate]:
    """The mean of each range of positions."""
    return [mean_of_positions(values[start:stop], block) for start, stop in ranges]
