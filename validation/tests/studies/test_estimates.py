"""Means and their intervals: neither too narrow nor without use."""

import numpy as np
import pytest

from validation.studies.estimates import BLOCK, Estimate, binned, mean, mean_of_positions, octaves


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_intervals_cover_the_mean(correlation: float) -> None:
    """About 95 % of intervals hold it, also where neighbours go together."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        noise = rng.standard_normal(4096)
        if correlation:
            for i in range(1, len(noise)):
                noise[i] += correlation * noise[i - 1]
        found = mean_of_positions(noise)
        held += found.low <= 0 <= found.high
    # 64 blocks: the percentile bootstrap holds somewhat less than it says.
    assert 0.88 <= held / 200 <= 0.99


def test_single_positions_would_be_too_sure() -> None:
    """Drawn one by one, positions that go together give intervals that miss the mean."""
    rng = np.random.default_rng(0)
    steps = np.repeat(rng.standard_normal(64), BLOCK)
    by_one, by_block = mean_of_positions(steps, block=1), mean_of_positions(steps)
    assert by_one.high - by_one.low < 0.25 * (by_block.high - by_block.low)


def test_the_mean_is_that_of_all_positions() -> None:
    """Also of those of a last block that is cut short, and of one sample alone."""
    values = np.arange(150.0)
    assert mean_of_positions(values).value == values.mean()
    alone = mean(np.array([3.0]))
    assert (alone.value, alone.low, alone.high) == (3.0, -np.inf, np.inf)
    assert mean(np.full(5, 2.0)) == Estimate(2.0, 2.0, 2.0)


def test_agreement_is_of_the_difference() -> None:
    """Two estimates agree if their difference is within the uncertainty of both."""
    one = Estimate(1.0, 0.9, 1.1)
    assert one.agrees_with(Estimate(1.14, 1.04, 1.24))
    assert not one.agrees_with(Estimate(1.15, 1.05, 1.25))
    assert one.agrees_with(one)


@pytest.mark.parametrize("positions", [1, 64, 65, 1000, 65536])
def test_octaves_are_all_positions_once(positions: int) -> None:
    """They begin at 0, double, and end where the positions end."""
    ranges = octaves(positions)
    covered = [position for start, stop in ranges for position in range(start, stop)]
    assert covered == list(range(positions))
    assert all(stop == 2 * start for start, stop in ranges[1:-1])


def test_every_range_has_its_own_mean() -> None:
    """Values that differ by range are not mixed."""
    ranges = octaves(256)
    values = np.concatenate(
        [np.full(stop - start, float(i)) for i, (start, stop) in enumerate(ranges)]
    )
    assert [each.value for each in binned(values, ranges)] == list(map(float, range(len(ranges))))
