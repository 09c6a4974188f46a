"""The minimum detectable effect: the smallest error that is noticed, from errors that were tried.

What is noticed at one size is taken to be noticed at larger ones only if it was seen to be.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

COARSE = tuple(10.0**-power for power in range(1, 9))
"""Relative errors that are tried first. fp32 resolves 6e-8 of a factor, and an angle is perturbed
before it is rounded."""

_STEPS = 4
"""Between two of them, as a power: the result is known to within a factor of 10^(1/4) = 1.8."""

_FINE_ENOUGH = 2.0

_DECADES = 4
"""Tried at once where even the smallest size was caught."""


@dataclass(frozen=True)
class Threshold:
    """Between which sizes an error begins to be noticed.

    Attributes:
        caught: the smallest size that was noticed with all larger ones; None if the largest was
            not.
        missed: the largest size that was not noticed; None if all were.
    """

    caught: float | None
    missed: float | None


def find_threshold(tried: Mapping[float, bool]) -> Threshold:
    """The threshold in what was tried: by size, whether it was noticed."""
    caught = None
    for size in sorted(tried, reverse=True):
        if not tried[size]:
            return Threshold(caught, size)
        caught = size
    return Threshold(caught, None)


def next_sizes(thresholds: Iterable[Threshold]) -> tuple[float, ...]:
    """Sizes to try next: smaller ones where all were caught, else between caught and missed."""
    sizes = {float(f"{size:.3g}") for found in thresholds for size in _next(found)}
    return tuple(sorted(sizes, reverse=True))


def _next(found: Threshold) -> Iterator[float]:
    if found.caught is None:
        return
    if found.missed is None:
        yield from (found.caught / 10**power for power in range(1, _DECADES + 1))
    elif found.caught / found.missed > _FINE_ENOUGH:
        for step in range(1, _STEPS):
            yield found.missed * (found.caught / found.missed) ** (step / _STEPS)
