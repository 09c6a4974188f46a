"""The first wrong position is found where the error begins, and nowhere in a floor."""

import numpy as np
import pytest
from numpy.typing import NDArray

from validation.judgement.first_wrong import first_wrong_position
from validation.judgement.metrics import Errors

VOCAB = 50
POSITIONS = 1000


def _errors(rms: NDArray[np.float64]) -> Errors:
    count = np.full(len(rms), VOCAB)
    return Errors(count, rms * VOCAB, rms**2 * VOCAB, rms, np.zeros_like(count), VOCAB)


def _floor(seed: int) -> NDArray[np.float64]:
    """As floors are: positions scatter by a factor of some tenths."""
    return 1e-5 * np.exp(0.3 * np.random.default_rng(seed).standard_normal(POSITIONS))


@pytest.mark.parametrize("first", [0, 1, 63, 64, 700, 999])
def test_the_position_where_an_error_begins(first: int) -> None:
    """At either end of a bin, and at the last position of all."""
    found = _floor(1)
    found[first:] *= 20
    assert first_wrong_position(_errors(found), _errors(_floor(2))) == first


@pytest.mark.parametrize("seed", range(20))
def test_another_floor_is_nowhere_wrong(seed: int) -> None:
    """Though single positions have more than twice the floor's error there."""
    found, floor = _floor(seed + 100), _floor(seed)
    assert (found > 2 * floor).any()
    assert first_wrong_position(_errors(found), _errors(floor)) is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_wrong(value: float) -> None:
    """Where it first comes."""
    found = _floor(1)
    found[[5, 9]] = value
    assert first_wrong_position(_errors(found), _errors(_floor(2))) == 5


def test_without_any_floor_every_error_is_wrong() -> None:
    """And no error is not."""
    nothing, found = np.zeros(POSITIONS), np.zeros(POSITIONS)
    assert first_wrong_position(_errors(found), _errors(nothing)) is None
    found[77] = 1e-9
    assert first_wrong_position(_errors(found), _errors(nothing)) == 77
