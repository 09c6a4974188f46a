"""The rules that turn measured errors into a verdict."""

from dataclasses import dataclass
from enum import Enum

import numpy as np

from validation.judgement.bins import Bin, Slope, bin_errors, rms_ratio
from validation.judgement.floor import ReferenceMetrics
from validation.judgement.metrics import Errors, PositionMetrics
from validation.judgement.thresholds import FLIP_FACTOR, MAX_RATIO, MAX_SLOPE, MIN_DRIFT


class Verdict(Enum):
    """The outcome of one case, strongest first; the value is the message."""

    IDENTICAL = "not one logit differs"
    AT_FLOOR = "differs no more than the reference does from itself, reordered"
    DRIFTS = "the error grows with position, relative to the floor"
    BEYOND_FLOOR = "the error is beyond the floor"
    TOP1_DISAGREES = "predicts other tokens where the reference is sure"
    BLIND = "at the floor, where a plain RoPE would be as well: this proves nothing"
    NOT_FINITE = "NaN or Inf among the logits"
    REFERENCE_CHANGED = "importing the tree changed what the reference computes"
    TOO_LARGE = "does not fit the memory and was not attempted"
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
        bins: errors by position; none without a floor.
        slope: growth of the ratio, None where it is not defined.
        parity_ratio: subject's over floor's RMS error over all positions, None if only the floor
            is zero, or was not measured.
        power_ratio: how many times the floor a plain RoPE is, in the bin where it is most; None
            if the floor is zero there, or was not measured.
        top1_agreement: share of positions with the same most likely token.
        top1_counted: disagreements where the reference's margin exceeds what the floor can flip.
    """

    verdict: Verdict
    reason: str
    bins: list[Bin]
    slope: Slope | None
    parity_ratio: float | None
    power_ratio: float | None
    top1_agreement: float
    top1_counted: int


def judge(subject: PositionMetrics, reference: ReferenceMetrics) -> Judgement:
    """Judges one case.

    Args:
        subject: the subject against the reference.
        reference: the reference against itself: same tokens, dtype and device. It needs no floor
            where `is_identical`.

    Raises:
        ValueError: the two do not cover the same positions and vocabulary, the floor is not
            finite, or there is none and logits differ.
    """
    agreement = float((subject.reference_top1 == subject.subject_top1).mean())
    if not reference.floors and is_identical(subject, reference):
        reason = f"{_identical(subject)}; no floor was measured"
        return Judgement(Verdict.IDENTICAL, reason, [], None, None, None, agreement, 0)
    floor = reference.pooled
    if (subject.positions, subject.vocab) != (floor.positions, floor.vocab):
        raise ValueError(
            f"subject covers {subject.positions} x {subject.vocab} logits, "
            f"floor {floor.positions} x {floor.vocab}"
        )
    if floor.nonfinite.any():
        raise ValueError("the floor has logits that are not finite")
    bins, slope = bin_errors(subject, floor)
    counted = _counted_disagreements(subject, bins)
    assert reference.plain is not None, "floors come with it"
    power = _power(reference.plain, floor)
    verdict, reason = _decide(subject, reference, bins, slope, power, counted)
    return Judgement(
        verdict=verdict,
        reason=reason,
        bins=bins,
        slope=slope,
        parity_ratio=rms_ratio(subject.rms, floor.rms),
        power_ratio=power,
        top1_agreement=agreement,
        top1_counted=counted,
    )


def is_identical(subject: PositionMetrics, reference: ReferenceMetrics) -> bool:
    """Whether not one logit differs, and the reference computed in both processes alike.

    Raises:
        ValueError: the two do not cover the same positions.
    """
    if subject.positions != len(reference.bits):
        raise ValueError(
            f"subject covers {subject.positions} positions, reference {len(reference.bits)}"
        )
    changed = bool((subject.reference_bits != reference.bits).any())
    return not (changed or subject.nonfinite.any() or subject.differing.any())


def _identical(subject: PositionMetrics) -> str:
    return f"0 of {subject.positions * subject.vocab:,} logits differ"


def _decide(
    subject: PositionMetrics,
    reference: ReferenceMetrics,
    bins: list[Bin],
    slope: Slope | None,
    power: float | None,
    counted: int,
) -> tuple[Verdict, str]:
    if moved := np.flatnonzero(subject.reference_bits != reference.bits).tolist():
        return Verdict.REFERENCE_CHANGED, (
            f"in the process that imported the tree the reference's own logits have other bits at "
            f"{len(moved)} of {subject.positions} positions, first at {moved[0]}"
        )
    if subject.nonfinite.any():
        first = int(np.flatnonzero(subject.nonfinite)[0])
        return Verdict.NOT_FINITE, (
            f"{int(subject.nonfinite.sum())} logits are NaN or Inf, first at position {first}"
        )
    if not subject.differing.any():
        return Verdict.IDENTICAL, _identical(subject)
    worst = max(bins, key=lambda bin_: np.inf if bin_.ratio is None else bin_.ratio)
    ratio = np.inf if worst.ratio is None else worst.ratio
    figures = _figures(subject, worst)
    if slope is not None and slope.low > MAX_SLOPE and ratio > MIN_DRIFT:
        return Verdict.DRIFTS, (
            f"{figures}, growing as position^{slope.value:.2f} "
            f"[{slope.low:.2f}, {slope.high:.2f}] (at most {MAX_SLOPE:g} allowed)"
        )
    if not ratio <= MAX_RATIO:
        return Verdict.BEYOND_FLOOR, figures
    if counted:
        return Verdict.TOP1_DISAGREES, (
            f"{counted} of {subject.positions} positions predict another token although the "
            "reference's margin is larger than the floor can flip"
        )
    if power is not None and power <= MAX_RATIO:
        return Verdict.BLIND, (
            f"{figures}; a plain RoPE has {power:.2f}x at most: this checkpoint cannot show a "
            "wrong one at this context and dtype"
        )
    return Verdict.AT_FLOOR, figures


def _figures(subject: PositionMetrics, worst: Bin) -> str:
    total = subject.positions * subject.vocab
    position, token = subject.first_differing.tolist()
    return (
        f"{int(subject.differing.sum()):,} of {total:,} logits differ, first at position "
        f"{position} (token {token}); positions {worst.start}-{worst.stop - 1} have "
        f"{_times(worst.ratio)} the floor's error ({MAX_RATIO:g} allowed)"
    )


def _times(ratio: float | None) -> str:
    return "an error where the floor has none, not at most" if ratio is None else f"{ratio:.2f}x"


def _power(plain: Errors, floor: Errors) -> float | None:
    """Plain RoPE's error over the floor's in the bin where it is most; None where it is unbounded.

    Plain RoPE may have been run on the first positions only: what comes later does not change them.
    """
    ratios = [bin_.ratio for bin_ in bin_errors(plain, floor.prefix(plain.positions))[0]]
    return None if None in ratios else max(ratio for ratio in ratios if ratio is not None)


def _counted_disagreements(subject: PositionMetrics, bins: list[Bin]) -> int:
    flips = subject.reference_top1 != subject.subject_top1
    counted = 0
    for bin_ in bins:
        rows = slice(bin_.start, bin_.stop)
        sure = subject.margin[rows] > FLIP_FACTOR * bin_.floor_max_abs
        counted += int((flips[rows] & sure).sum())
    return counted
