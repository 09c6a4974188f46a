"""Position bins, the growth of the error over them, and how sure both are."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from validation.judgement.metrics import Errors

_FIRST_EDGE = 64
"""Below it a bin would hold too few positions for its error to be more than chance."""

_BINS_PER_OCTAVE = 2

_BLOCK = 16
"""Positions resampled together: neighbours share most of their context, so that their errors are
not independent. The first bin still has four blocks."""

_RESAMPLES = 1000
_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Bin:
    """Errors of subject and floor over positions `start` to `stop`, `stop` excluded.

    Attributes:
        start: first position.
        stop: position after the last.
        differing: logits of the subject that differ from the reference's.
        rms: root of the mean squared error of the subject's logits.
        floor_rms: the same of the floor.
        mean_abs: mean absolute error of the subject's logits.
        floor_mean_abs: the same of the floor.
        max_abs: largest absolute error of the subject's logits.
        floor_max_abs: the same of the floor.
        ratio_interval: 95 % confidence interval of `ratio`, None where there is no floor.
    """

    start: int
    stop: int
    differing: int
    rms: float
    floor_rms: float
    mean_abs: float
    floor_mean_abs: float
    max_abs: float
    floor_max_abs: float
    ratio_interval: tuple[float, float] | None = None

    @property
    def ratio(self) -> float | None:
        """Subject over floor; None where only the floor is zero."""
        return rms_ratio(self.rms, self.floor_rms)

    @property
    def centre(self) -> float:
        """Mean position."""
        return (self.start + self.stop - 1) / 2


@dataclass(frozen=True)
class Slope:
    """Growth of the parity ratio with position: `ratio ~ position ** value`.

    Attributes:
        value: slope of log ratio over log position.
        low: lower end of its 95 % confidence interval.
        high: upper end.
    """

    value: float
    low: float
    high: float


def rms_ratio(rms: float, floor_rms: float) -> float | None:
    """Nothing over nothing is 0; something over nothing has no value."""
    if floor_rms:
        return rms / floor_rms
    return 0.0 if rms == 0 else None


def bin_edges(positions: int) -> list[int]:
    """0, 64, then half octaves to `positions`; a last one cut short joins its predecessor.

    Raises:
        ValueError: there are no positions.
    """
    if positions < 1:
        raise ValueError(f"positions is {positions}; at least 1 is accepted")
    edges = [0]
    step = 0
    while (edge := round(_FIRST_EDGE * 2 ** (step / _BINS_PER_OCTAVE))) < positions:
        edges.append(edge)
        step += 1
    if len(edges) > 2 and positions - edges[-1] < (edges[-1] - edges[-2]):
        edges.pop()
    return [*edges, positions]


def bin_errors(subject: Errors, floor: Errors) -> tuple[list[Bin], Slope | None]:
    """Both errors in the same bins, and the slope of their ratio.

    The intervals are of a block bootstrap over positions (Kuensch 1989): blocks of neighbouring
    positions are drawn with replacement within each bin, subject and floor together.
    """
    edges = bin_edges(subject.positions)
    bins = [_bin(subject, floor, start, stop) for start, stop in pairwise(edges)]
    if not (np.isfinite(subject.square_sum).all() and subject.square_sum.any()):
        return bins, None
    resampled = np.stack([_resample(subject, floor, bin_) for bin_ in bins], axis=1)
    bins = [
        replace(bin_, ratio_interval=_interval(ratios))
        for bin_, ratios in zip(bins, resampled.T, strict=True)
    ]
    return bins, _fit_slope(bins, resampled)


def _bin(subject: Errors, floor: Errors, start: int, stop: int) -> Bin:
    rows = slice(start, stop)
    return Bin(
        start=start,
        stop=stop,
        differing=int(subject.differing[rows].sum()),
        rms=_rms(subject, rows),
        floor_rms=_rms(floor, rows),
        mean_abs=float(subject.abs_sum[rows].mean()) / subject.vocab,
        floor_mean_abs=float(floor.abs_sum[rows].mean()) / floor.vocab,
        max_abs=float(subject.abs_max[rows].max()),
        floor_max_abs=float(floor.abs_max[rows].max()),
    )


def _rms(errors: Errors, rows: slice) -> float:
    return float(np.sqrt(errors.square_sum[rows].mean() / errors.vocab))


def _resample(subject: Errors, floor: Errors, bin_: Bin) -> NDArray[np.float64]:
    """Ratios of one bin under resampling, [resamples]; NaN where a resampled floor is zero."""
    starts = np.arange(bin_.start, bin_.stop, _BLOCK) - bin_.start
    sums = np.stack(
        [np.add.reduceat(e.square_sum[bin_.start : bin_.stop], starts) for e in (subject, floor)],
        axis=1,
    )
    # Seeded by the bin: the same result whatever is judged before it.
    random = np.random.default_rng((bin_.start, bin_.stop))
    share = np.full(len(starts), 1 / len(starts))
    drawn = random.multinomial(len(starts), share, size=_RESAMPLES) @ sums
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios: NDArray[np.float64] = np.sqrt(drawn[:, 0] / drawn[:, 1])
    return np.where(np.isfinite(ratios), ratios, np.nan)


def _interval(ratios: NDArray[np.float64]) -> tuple[float, float] | None:
    if np.isnan(ratios).any():
        return None
    low, high = np.percentile(ratios, _PERCENTILES)
    return float(low), float(high)


def _fit_slope(bins: list[Bin], resampled: NDArray[np.float64]) -> Slope | None:
    """Least squares over the bins; None without three bins whose ratio has a logarithm.

    The interval is the bootstrap's; its lower end is that of the later half of the bins where that
    is lower. A ratio that rises over the first hundred positions and is level from there on does
    not drift; an error that is linear in position and adds to the floor's,
    sqrt(floor^2 + (c * position)^2), is steepest at the end.
    """
    usable = np.array([bool(bin_.ratio) for bin_ in bins]) & (resampled > 0).all(axis=0)
    if usable.sum() < 3:
        return None
    x = np.log([bin_.centre for bin_ in bins])[usable]
    measured = np.log([bin_.ratio or np.nan for bin_ in bins])[usable]
    logs = np.log(resampled[:, usable])
    late = slice(len(x) // 2, None)
    low, high = np.percentile(logs @ _slope_weights(x), _PERCENTILES)
    late_low = np.percentile(logs[:, late] @ _slope_weights(x[late]), _PERCENTILES[0])
    return Slope(float(measured @ _slope_weights(x)), float(min(low, late_low)), float(high))


def _slope_weights(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the values at `x` are multiplied by for the slope of their least squares line."""
    x = x - x.mean()
    weights: NDArray[np.float64] = x / (x @ x)
    return weights
