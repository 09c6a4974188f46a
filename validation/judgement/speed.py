"""What turns of contestants say: ratios of pairs with their spread, and growth with the context."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LARGEST = 3
"""Contexts that growth is fitted to, from the longest down: short ones are mostly overhead."""


@dataclass(frozen=True)
class Ratio:
    """One contestant's amount over its partner's.

    Attributes:
        median: of the ratios of pairs, each measured one after the other.
        low: their lower quartile.
        high: their upper quartile.
        pairs: how many there are.
    """

    median: float
    low: float
    high: float
    pairs: int


def pair_ratio(amounts: Sequence[float], partner: Sequence[float]) -> Ratio:
    """The n-th amount over the partner's n-th: what drifts over the run falls out.

    Raises:
        ValueError: they are no pairs, there are none, or one is of nothing.
    """
    if len(amounts) != len(partner) or not amounts:
        raise ValueError(f"{len(amounts)} amounts and {len(partner)} are no pairs")
    if min(partner) <= 0:
        raise ValueError(f"{min(partner)} is no amount to divide by")
    ratios = np.asarray(amounts, dtype=np.float64) / np.asarray(partner, dtype=np.float64)
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    return Ratio(float(middle), float(low), float(high), len(amounts))


def fit_exponent(contexts: Sequence[int], amounts: Sequence[float]) -> float | None:
    """The p of amount ~ context**p, by least squares on logarithms over the largest contexts.

    Args:
        contexts: tokens.
        amounts: seconds or bytes; those that are not positive are left out.

    Returns:
        The exponent, None of fewer than two contexts.
    """
    known = sorted((c, a) for c, a in zip(contexts, amounts, strict=True) if a > 0)[-LARGEST:]
    if len({context for context, _ in known}) < 2:
        return None
    logs = np.log(np.array(known, dtype=np.float64))
    slope, _ = np.polyfit(logs[:, 0], logs[:, 1], deg=1)
    return float(slope)
