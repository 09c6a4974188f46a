"""Position bins and the growth of the error over them."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from validation.judgement.metrics import PositionMetrics

_FIRST_EDGE = 64
"""Below it a bin would hold too few positions for its error to be more than chance."""

_BINS_PER_OCTAVE = 2


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

    @property
    def ratio(self) -> float | None:
        """Subject's over floor's RMS error; None if only the floor is zero."""
        if self.floor_rms > 0 or self.rms == 0:
            return self.rms / self.floor_rms if self.rms else 0.0
        return None

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


def bin_errors(subject: PositionMetrics, floor: PositionMetrics) -> list[Bin]:
    """Both errors in the same bins."""
    edges = bin_edges(subject.positions)
    return [
        Bin(
            start=start,
            stop=stop,
            differing=int(subject.differing[start:stop].sum()),
            rms=_rms(subject, start, stop),
            floor_rms=_rms(floor, start, stop),
            mean_abs=_mean(subject.abs_sum, start, stop) / subject.vocab,
            floor_mean_abs=_mean(floor.abs_sum, start, stop) / floor.vocab,
            max_abs=float(subject.abs_max[start:stop].max()),
            floor_max_abs=float(floor.abs_max[start:stop].max()),
        )
        for start, stop in pairwise(edges)
    ]


def fit_slope(bins: list[Bin]) -> Slope | None:
    """Least squares over the bins; None without three positive ratios, or if one is not finite."""
    points = [(bin_.centre, bin_.ratio) for bin_ in bins if bin_.ratio]
    if len(points) < 3 or not np.isfinite([ratio for _, ratio in points]).all():
        return None
    x, y = np.log(np.array(points, dtype=np.float64)).T
    fit = stats.linregress(x, y)
    margin = float(stats.t.ppf(0.975, len(points) - 2)) * float(fit.stderr)
    value = float(fit.slope)
    return Slope(value, value - margin, value + margin)


def _mean(values: NDArray[np.float64], start: int, stop: int) -> float:
    return float(values[start:stop].mean())


def _rms(metrics: PositionMetrics, start: int, stop: int) -> float:
    return float(np.sqrt(_mean(metrics.square_sum, start, stop) / metrics.vocab))
