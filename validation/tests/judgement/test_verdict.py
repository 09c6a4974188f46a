"""Every verdict is reached by the input that deserves it, and by no better one."""

from dataclasses import replace

import numpy as np
import pytest

from validation.judgement.floor import ReferenceMetrics
from validation.judgement.thresholds import FLIP_FACTOR, MAX_RATIO, MAX_SLOPE
from validation.judgement.verdict import Verdict, is_identical, judge
from validation.tests.judgement.streams import VOCAB, floor_metrics, subject_metrics

POSITIONS = 2048


def test_identical() -> None:
    """Nothing differs."""
    judgement = judge(subject_metrics(POSITIONS, scale=0.0), floor_metrics(POSITIONS))
    assert judgement.verdict is Verdict.IDENTICAL
    assert judgement.reason == f"0 of {POSITIONS * VOCAB:,} logits differ"
    assert judgement.parity_ratio == 0.0


BITS_ALONE = ReferenceMetrics({}, None, np.zeros(POSITIONS, dtype=np.int64))


def test_identical_needs_no_floor() -> None:
    """The bits of the reference's logits are enough, and what was not measured is not there."""
    judgement = judge(subject_metrics(POSITIONS, scale=0.0), BITS_ALONE)
    assert judgement.verdict is Verdict.IDENTICAL
    assert judgement.reason.endswith("logits differ; no floor was measured")
    assert (judgement.bins, judgement.parity_ratio, judgement.power_ratio) == ([], None, None)


def test_what_is_not_identical_needs_a_floor() -> None:
    """One logit that differs, or is not finite, or a reference that changed."""
    differs, infinite = (subject_metrics(POSITIONS, scale=0.0) for _ in range(2))
    differs.differing[-1] = 1
    infinite.nonfinite[0] = 1
    changed = replace(BITS_ALONE, bits=np.eye(1, POSITIONS, dtype=np.int64)[0])
    sound = subject_metrics(POSITIONS, scale=0.0)
    for subject, reference in ((differs, BITS_ALONE), (infinite, BITS_ALONE), (sound, changed)):
        assert not is_identical(subject, reference)
        with pytest.raises(ValueError, match="a floor needs at least one reordering"):
            judge(subject, reference)
    with pytest.raises(ValueError, match="subject covers 8 positions, reference 2048"):
        is_identical(subject_metrics(8), BITS_ALONE)


def test_one_differing_logit_is_not_identical() -> None:
    """The smallest possible difference costs the strongest verdict."""
    subject = subject_metrics(POSITIONS, scale=0.0)
    subject.differing[700] = 1
    subject.abs_sum[700] = subject.abs_max[700] = 1e-9
    subject.square_sum[700] = 1e-18
    assert judge(subject, floor_metrics(POSITIONS)).verdict is Verdict.AT_FLOOR


@pytest.mark.parametrize("seed", range(20))
def test_an_honest_reordering_is_at_the_floor(seed: int) -> None:
    """Clean subjects do not fail, whatever the seed."""
    judgement = judge(subject_metrics(POSITIONS, seed=100 + seed), floor_metrics(POSITIONS))
    assert judgement.verdict is Verdict.AT_FLOOR
    assert judgement.parity_ratio == pytest.approx(1, abs=0.02)


def test_an_error_beyond_the_floor() -> None:
    """Everywhere 2.1 times the floor."""
    judgement = judge(subject_metrics(POSITIONS, scale=2.1), floor_metrics(POSITIONS))
    assert judgement.verdict is Verdict.BEYOND_FLOOR
    assert f"({MAX_RATIO:g} allowed)" in judgement.reason


def test_one_bad_bin_is_enough() -> None:
    """A mistake in positions 512 to 723 alone is not averaged away."""
    scale = np.ones(POSITIONS)
    scale[512:724] = 5
    judgement = judge(subject_metrics(POSITIONS, scale=scale), floor_metrics(POSITIONS))
    assert judgement.verdict is Verdict.BEYOND_FLOOR
    assert "positions 512-723" in judgement.reason


def test_growth_below_the_ratio_is_a_drift() -> None:
    """A table error that is still small at short context fails by its growth."""
    scale = 0.4 + 1.4 * np.arange(POSITIONS) / POSITIONS
    judgement = judge(subject_metrics(POSITIONS, scale=scale), floor_metrics(POSITIONS))
    assert judgement.verdict is Verdict.DRIFTS
    assert judgement.slope is not None
    assert "growing as position^" in judgement.reason


def test_saturating_at_the_floor_is_no_drift() -> None:
    """Roundings that begin to differ at some position and then are the floor's."""
    scale = np.minimum(1.0, 0.05 + 2 * np.arange(POSITIONS) / POSITIONS)
    judgement = judge(subject_metrics(POSITIONS, scale=scale), floor_metrics(POSITIONS))
    assert judgement.slope is not None
    assert judgement.slope.low > MAX_SLOPE
    assert judgement.verdict is Verdict.AT_FLOOR


def test_a_tree_that_changes_the_reference_never_passes() -> None:
    """Not even where both then agree: the process compared two models that it had changed."""
    subject = subject_metrics(POSITIONS, scale=0.0)
    subject.reference_bits[[700, 900]] = 1
    judgement = judge(subject, floor_metrics(POSITIONS))
    assert judgement.verdict is Verdict.REFERENCE_CHANGED
    assert "2 of 2048 positions, first at 700" in judgement.reason


@pytest.mark.parametrize(("scale", "verdict"), [(1.5, "BLIND"), (2.5, "AT_FLOOR")])
def test_the_floor_proves_nothing_where_plain_rope_is_at_it(scale: float, verdict: str) -> None:
    """A checkpoint that cannot show a wrong RoPE admits no verdict but identity."""
    plain = subject_metrics(256, scale=scale, seed=4).prefix(256)
    reference = replace(floor_metrics(POSITIONS), plain=plain)
    judgement = judge(subject_metrics(POSITIONS), reference)
    assert judgement.verdict.name == verdict
    assert judgement.power_ratio == pytest.approx(scale, rel=0.1)
    assert judge(subject_metrics(POSITIONS, scale=0.0), reference).verdict is Verdict.IDENTICAL


def test_an_error_where_the_floor_has_none() -> None:
    """No ratio is not a small ratio."""
    judgement = judge(subject_metrics(POSITIONS), floor_metrics(POSITIONS, scale=0.0))
    assert judgement.verdict is Verdict.BEYOND_FLOOR
    assert judgement.parity_ratio is None


def test_nan_never_passes() -> None:
    """Not even where everything else is identical."""
    subject = subject_metrics(POSITIONS, scale=0.0)
    subject.nonfinite[17] = 1
    for errors in (subject.abs_sum, subject.square_sum, subject.abs_max, subject.kl):
        errors[17] = np.nan
    judgement = judge(subject, floor_metrics(POSITIONS))
    assert judgement.verdict is Verdict.NOT_FINITE
    assert "first at position 17" in judgement.reason
    assert judgement.slope is None


@pytest.mark.parametrize(("margin", "verdict"), [(0.5, "AT_FLOOR"), (2.0, "TOP1_DISAGREES")])
def test_top1_counts_where_the_reference_is_sure(margin: float, verdict: str) -> None:
    """Another token is a failure only if the floor cannot flip it."""
    subject, floor = subject_metrics(POSITIONS), floor_metrics(POSITIONS)
    limit = FLIP_FACTOR * floor.pooled.abs_max[1448:].max()
    flipped, margins = subject.subject_top1.copy(), subject.margin.copy()
    flipped[2000], margins[2000] = 5, margin * limit
    judgement = judge(replace(subject, subject_top1=flipped, margin=margins), floor)
    assert judgement.verdict.name == verdict
    assert judgement.top1_agreement == pytest.approx(1 - 1 / POSITIONS)


def test_other_positions_or_an_infinite_floor_are_refused() -> None:
    """A floor that does not belong to the subject judges nothing."""
    with pytest.raises(ValueError, match="floor 64 x 64"):
        judge(subject_metrics(128), floor_metrics(64))
    floor = floor_metrics(128)
    floor.floors["kernel"].nonfinite[3] = 1
    with pytest.raises(ValueError, match="floor has logits that are not finite"):
        judge(subject_metrics(128), floor)


def test_strength() -> None:
    """Requirements are met by verdicts at least as strong."""
    assert Verdict.IDENTICAL.meets(Verdict.AT_FLOOR)
    assert Verdict.AT_FLOOR.meets(Verdict.AT_FLOOR)
    assert not Verdict.AT_FLOOR.meets(Verdict.IDENTICAL)
    assert not any(
        verdict.meets(Verdict.AT_FLOOR)
        for verdict in set(Verdict) - {Verdict.IDENTICAL, Verdict.AT_FLOOR}
    )
