"""Figures of several texts: their intervals hold the mean of all such texts."""

import numpy as np
import pytest

from validation.studies.estimates import Estimate, mean
from validation.studies.texts import over_texts, repeated, say_agreement


def drawn(rng: np.random.Generator, texts: int, spread: float) -> list[Estimate]:
    """Texts whose own means lie `spread` apart, each read at 100 positions; all have mean 0."""
    return [mean(rng.normal(rng.normal(0, spread), 1, 100)) for _ in range(texts)]


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_intervals_cover_the_mean_of_all_texts(spread: float) -> None:
    """Also where texts lie ten times further apart than positions say."""
    rng = np.random.default_rng(0)
    found = [over_texts(drawn(rng, 8, spread)) for _ in range(100)]
    held = sum(each.low <= 0 <= each.high for each in found)
    # With 8 texts s has 7 degrees of freedom: 91 % of such intervals hold the mean.
    assert held >= 85


def test_positions_alone_would_be_too_sure() -> None:
    """Pooled, the same texts' positions miss the mean of all texts nearly always."""
    rng = np.random.default_rng(0)
    texts = [rng.normal(rng.normal(0, 1), 1, 100) for _ in range(8)]
    pooled, found = mean(np.concatenate(texts)), over_texts(map(mean, texts))
    assert found.value == pytest.approx(pooled.value)
    assert found.high - found.low > 4 * (pooled.high - pooled.low)


def test_texts_that_agree_share_their_uncertainty() -> None:
    """The interval of two is narrower by the root of two, and one text keeps its own."""
    one = Estimate(1.0, 0.8, 1.4)
    both = over_texts([one, one])
    assert both.value == 1.0
    assert both.low == pytest.approx(1 - 0.2 / np.sqrt(2))
    assert both.high == pytest.approx(1 + 0.4 / np.sqrt(2))
    assert over_texts([one]) == one


def test_what_is_not_known_stays_unknown() -> None:
    """A text of one sample has no interval, and neither has a mean with it."""
    found = over_texts([Estimate(1.0, -np.inf, np.inf), Estimate(2.0, 1.9, 2.1)])
    assert (found.value, found.low, found.high) == (1.5, -np.inf, np.inf)


def test_four_texts_are_two_measurements() -> None:
    """Each half has an interval that takes its texts' distance in; fewer are compared as such."""
    texts = [Estimate(value, value - 0.1, value + 0.1) for value in (1.0, 2.0, 1.2, 2.4)]
    assert repeated(texts) == [over_texts(texts[:2]), over_texts(texts[2:])]
    assert repeated(texts[:3]) == texts[:3]
    said = say_agreement("figures", {"a": texts, "b": [texts[0], texts[0], texts[1], texts[1]]})
    assert said == (
        "Two halves of the 4 seeds' texts agree within their uncertainty on 1 of 2 figures; not on "
        "b (+1, +2)."
    )


def test_two_texts_agree_or_are_said_not_to() -> None:
    """A figure of one seed is no check."""
    near, far = Estimate(1.0, 0.9, 1.1), Estimate(2.0, 1.9, 2.1)
    said = say_agreement("figures", {"a": [near, far], "b": [near, near], "c": [far]})
    assert said.startswith("By the uncertainty of positions alone the 2 seeds' texts agree on 1 of")
    assert "1 of 2 figures; not on a (+1, +2). The intervals above take in" in said
    assert say_agreement("figures", {"c": [far]}).startswith("One seed was measured")
