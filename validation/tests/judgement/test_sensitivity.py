"""The smallest error that is noticed, from what was tried."""

import pytest

from validation.judgement.sensitivity import COARSE, Threshold, find_threshold, next_sizes


@pytest.mark.parametrize(
    ("tried", "caught", "missed"),
    [
        ({1e-1: True, 1e-2: True, 1e-3: False}, 1e-2, 1e-3),
        ({1e-3: False, 1e-1: True, 1e-2: True}, 1e-2, 1e-3),
        ({1e-1: True, 1e-2: False, 1e-3: True}, 1e-1, 1e-2),
        ({1e-1: False, 1e-2: True}, None, 1e-1),
        ({1e-1: True, 1e-2: True}, 1e-2, None),
        ({}, None, None),
    ],
)
def test_thresholds(tried: dict[float, bool], caught: float | None, missed: float | None) -> None:
    """An error counts as noticed only if all larger ones were: luck below is no sensitivity."""
    assert find_threshold(tried) == Threshold(caught, missed)


def test_a_search_ends_between_two_close_sizes() -> None:
    """Whatever the true threshold, three rounds find it to within a factor of two."""
    for truth in (3.3e-2, 2e-5, 9e-9, 4e-10):
        tried = {size: size >= truth for size in COARSE}
        for _ in range(2):
            tried |= {size: size >= truth for size in next_sizes([find_threshold(tried)])}
        found = find_threshold(tried)
        assert found.caught is not None
        assert found.missed is not None
        assert found.missed < truth <= found.caught
        assert found.caught <= 2 * found.missed
        assert next_sizes([found]) == ()


def test_nothing_more_to_try_where_nothing_is_caught() -> None:
    """A harness that misses the largest error is not asked for smaller ones."""
    assert next_sizes([Threshold(None, 0.1)]) == ()
