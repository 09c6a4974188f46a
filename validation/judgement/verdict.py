"""The rules that turn measured errors into a verdict."""

from dataclasses import dataclass
from enum import Enum

import numpy as np

from validation.judgement.bins import Bin, Slope, bin_errors, fit_slope
from validation.judgement.metrics import PositionMetrics

MAX_RATIO = 2.0
"""Flash-attention's rule (`tests/test_flash_attn.py`), in every bin: twice the floor's RMS error.
Two independent reorderings of the same sum differ from each other by sqrt(2) times what each
differs from the exact value, and bins of 64 positions scatter by a few per cent."""

MAX_SLOPE = 0.1
"""An honest reordering has slope 0; a table error linear in position has slope 1. 0.1 is a growth
of 1.5 from 1k to 64k, which `MAX_RATIO` alone would let pass at short context."""

FLIP_FACTOR = 2.0
"""A top-1 flip needs two logits to move towards each other, each by at most the floor's maximum."""


class Verdict(Enum):
    """The outcome of one case, strongest first; the value is the message."""

    IDENTICAL = "not one logit differs"
    AT_FLOOR = "differs no more than the reference does from itself, reordered"
    DRIFTS = "the error grows with position, relative to the floor"
    BEYOND_FLOOR = "the error is beyond the floor"
    TOP1_DISAGREES = "predicts other tokens where the reference is sure"
    NOT_FINITE = "NaN or Inf among the logits"
    REFUSED = "the tree could not load or run the checkpoint"
    DIED = "the worker process died"

    def meets(self, required: "Verdict") -> bool:
        """Whether this is as strong as `required`."""
        order = list(Verdict)
        return order.index(self) <= order.index(required)


@dataclass(frozen=True)
class Judgement:
    """A verdict with what it rests on.

    Attributes:
        verdict: the outcome.
        reason: one sentence with the figures that decided.
        bins: errors by position.
        slope: growth of the ratio, None where it is not defined.
        parity_ratio: subject's over floor's RMS error over all positions, None if only the floor
            is zero.
        top1_agreement: share of positions with the same most likely token.
        top1_counted: disagreements where the reference's margin exceeds what the floor can flip.
    """

    verdict: Verdict
    reason: str
    bins: list[Bin]
    slope: Slope | None
    parity_ratio: float | None
    top1_agreement: float
    top1_counted: int


def judge(subject: PositionMetrics, floor: PositionMetrics) -> Judgement:
    """Judges one case.

    Args:
        subject: the subject against the reference.
        floor: the reference, reordered, against itself: same tokens, dtype and device.

    Raises:
        ValueError: the two do not cover the same positions and vocabulary, or the floor is not
            finite.
    """
    if (subject.positions, subject.vocab) != (floor.positions, floor.vocab):
        raise ValueError(
            f"subject covers {subject.positions} x {subject.vocab} logits, "
            f"floor {floor.positions} x {floor.vocab}"
        )
    if floor.nonfinite.any():
        raise ValueError("the floor has logits that are not finite")
    bins = bin_errors(subject, floor)
    slope = fit_slope(bins)
    agree = subject.reference_top1 == subject.subject_top1
    counted = _counted_disagreements(subject, bins)
    verdict, reason = _decide(subject, bins, slope, counted)
    whole = Bin(0, subject.positions, 0, _overall(subject), _overall(floor), 0, 0, 0, 0)
    return Judgement(
        verdict=verdict,
        reason=reason,
        bins=bins,
        slope=slope,
        parity_ratio=whole.ratio,
        top1_agreement=float(agree.mean()),
        top1_counted=counted,
    )


def _decide(
    subject: PositionMetrics, bins: list[Bin], slope: Slope | None, counted: int
) -> tuple[Verdict, str]:
    if subject.nonfinite.any():
        first = int(np.flatnonzero(subject.nonfinite)[0])
        return Verdict.NOT_FINITE, (
            f"{int(subject.nonfinite.sum())} logits are NaN or Inf, first at position {first}"
        )
    total = subject.positions * subject.vocab
    differing = int(subject.differing.sum())
    if differing == 0:
        return Verdict.IDENTICAL, f"0 of {total:,} logits differ"
    worst = max(bins, key=lambda bin_: np.inf if bin_.ratio is None else bin_.ratio)
    figures = (
        f"{differing:,} of {total:,} logits differ; positions {worst.start}-{worst.stop - 1} have "
        f"{_times(worst.ratio)} the floor's error ({MAX_RATIO:g} allowed)"
    )
    if slope is not None and slope.low > MAX_SLOPE:
        return Verdict.DRIFTS, (
            f"{figures}, growing as position^{slope.value:.2f} "
            f"[{slope.low:.2f}, {slope.high:.2f}] (at most {MAX_SLOPE:g} allowed)"
        )
    if worst.ratio is None or not worst.ratio <= MAX_RATIO:
        return Verdict.BEYOND_FLOOR, figures
    if counted:
        return Verdict.TOP1_DISAGREES, (
            f"{counted} of {subject.positions} positions predict another token although the "
            "reference's margin is larger than the floor can flip"
        )
    return Verdict.AT_FLOOR, figures


def _times(ratio: float | None) -> str:
    return "an error where the floor has none, not at most" if ratio is None else f"{ratio:.2f}x"


def _counted_disagreements(subject: PositionMetrics, bins: list[Bin]) -> int:
    flips = subject.reference_top1 != subject.subject_top1
    counted = 0
    for bin_ in bins:
        rows = slice(bin_.start, bin_.stop)
        sure = subject.margin[rows] > FLIP_FACTOR * bin_.floor_max_abs
        counted += int((flips[rows] & sure).sum())
    return counted


def _overall(metrics: PositionMetrics) -> float:
    return float(np.sqrt(metrics.square_sum.mean() / metrics.vocab))
