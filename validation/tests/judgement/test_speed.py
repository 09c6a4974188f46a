"""Ratios are of pairs, and growth is found where it was put."""

import numpy as np
import pytest

from validation.judgement.speed import fit_exponent, pair_ratio


def test_a_slower_contestant_is_seen_through_drift() -> None:
    """10 % slower on a machine that becomes three times as slow: the pairs do not notice."""
    drift = np.linspace(1.0, 3.0, 9)
    partner = 0.5 * drift
    ratio = pair_ratio((1.1 * partner).tolist(), partner.tolist())
    assert ratio.median == pytest.approx(1.1)
    assert ratio.low == pytest.approx(1.1)
    assert ratio.high == pytest.approx(1.1)
    assert ratio.pairs == 9


def test_the_spread_is_the_quartiles_of_the_ratios() -> None:
    """One turn that something disturbed moves neither them nor the median far."""
    ratio = pair_ratio([1.0, 1.1, 1.2, 1.3, 40.0], [1.0] * 5)
    assert (ratio.low, ratio.median, ratio.high) == pytest.approx((1.1, 1.2, 1.3))


@pytest.mark.parametrize(("ours", "theirs"), [([], []), ([1.0], [1.0, 2.0])])
def test_what_is_no_pairs_is_refused(ours: list[float], theirs: list[float]) -> None:
    """Nothing is cut to the shorter of two."""
    with pytest.raises(ValueError, match="are no pairs"):
        pair_ratio(ours, theirs)
    with pytest.raises(ValueError, match="no amount to divide by"):
        pair_ratio([1.0], [0.0])


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
def test_an_exponent_is_recovered(power: float) -> None:
    """From the longest contexts: a constant cost hides it in the short ones."""
    contexts = [64, 256, 1024, 16384, 32768, 65536]
    seconds = [1e-4 * (300 + context**power) for context in contexts]
    assert fit_exponent(contexts, seconds) == pytest.approx(power, abs=0.02)
    assert fit_exponent(contexts[:3], seconds[:3]) != pytest.approx(power, abs=0.02)


def test_an_exponent_needs_two_contexts() -> None:
    """And amounts that have a logarithm."""
    assert fit_exponent([1024], [1.0]) is None
    assert fit_exponent([1024, 2048], [0.0, 1.0]) is None
    assert fit_exponent([], []) is None
