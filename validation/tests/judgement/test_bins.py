"""Bins cover every position once, and the slope finds a planted growth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from validation.judgement.bins import bin_edges, bin_errors
from validation.tests.judgement.streams import floor_metrics, subject_metrics


@given(st.integers(1, 200_000))
def test_bins_cover_every_position_once(positions: int) -> None:
    """Edges ascend from 0 to the end, and the last bin is not much shorter than its predecessor."""
    edges = bin_edges(positions)
    assert edges[0] == 0
    assert edges[-1] == positions
    widths = np.diff(edges)
    assert (widths > 0).all()
    assert len(widths) <= 2 or widths[-1] >= 0.4 * widths[-2]


def test_half_octaves() -> None:
    """The edges of 1k."""
    assert bin_edges(1024) == [0, 64, 91, 128, 181, 256, 362, 512, 724, 1024]


def test_no_positions_are_refused() -> None:
    """There is nothing to judge."""
    with pytest.raises(ValueError, match="positions is 0"):
        bin_edges(0)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_slope_finds_a_planted_growth(power: float) -> None:
    """An error that grows as a power of position gives that power, within its interval."""
    growth = np.asarray((np.arange(4096) + 1.0) ** power, dtype=np.float64)
    bins, slope = bin_errors(subject_metrics(4096, scale=growth), floor_metrics(4096).pooled)
    assert slope is not None
    assert slope.low <= slope.value <= slope.high
    assert slope.value == pytest.approx(power, abs=0.05)
    for bin_ in bins:
        assert bin_.ratio is not None
        assert bin_.ratio_interval is not None
        assert bin_.ratio_interval[0] <= bin_.ratio <= bin_.ratio_interval[1]


def test_a_step_is_no_growth() -> None:
    """A kernel that is nearer to the reference over its first tokens alone: no power law."""
    step = np.where(np.arange(512) < 64, 0.5, 1.1)
    floor = floor_metrics(512).pooled
    _, slope = bin_errors(subject_metrics(512, scale=step), floor)
    assert slope is not None
    assert slope.value > 0.1
    assert slope.low < 0.1


@pytest.mark.parametrize("positions", [256, 512, 1024])
def test_an_error_that_adds_to_the_floor_s_drifts(positions: int) -> None:
    """As a table's that is linear in position does: no power law, below twice the floor."""
    growth = np.sqrt(1 + (1.4 * np.arange(positions) / positions) ** 2)
    floor = floor_metrics(positions).pooled
    bins, slope = bin_errors(subject_metrics(positions, scale=growth), floor)
    assert max(bin_.ratio or 0.0 for bin_ in bins) < 2
    assert slope is not None
    assert slope.low > 0.1


def test_slope_needs_three_bins() -> None:
    """Two points always lie on a line."""
    assert bin_errors(subject_metrics(80), floor_metrics(80).pooled)[1] is None


def test_ratio_without_a_floor() -> None:
    """Nothing over nothing is 0, something over nothing has no value."""
    nothing = subject_metrics(64, scale=0.0)
    assert bin_errors(nothing, nothing)[0][0].ratio == 0.0
    assert bin_errors(subject_metrics(64), nothing)[0][0].ratio is None


def test_intervals_cover_as_often_as_they_say() -> None:
    """Of 200 pairs whose true ratio is 1, about 95 % of the intervals of a wide bin contain it."""
    covered = 0
    for seed in range(200):
        other = subject_metrics(1024, seed=1000 + seed)
        interval = bin_errors(subject_metrics(1024, seed=seed + 10), other)[0][-1].ratio_interval
        assert interval is not None
        covered += interval[0] <= 1 <= interval[1]
    assert 0.88 * 200 <= covered <= 200
