"""Differences are counted, placed and measured, whatever is wrong with the numbers."""

import pytest
import torch

from validation.judgement.tally import Place, Tally, differing_bits

NUMBERS = torch.arange(1, 41, dtype=torch.float32).reshape(10, 4)


def test_equal_numbers() -> None:
    """Nothing differs, and that was counted."""
    tally = Tally(2)
    tally.add(NUMBERS, NUMBERS.clone(), start=100)
    assert tally.figures() == {
        "compared": 40,
        "differing": 0,
        "first": None,
        "largest": 0.0,
        "largest_at": None,
    }
    assert tally.rms == 0


@pytest.mark.parametrize(("is_relative", "largest"), [(False, 0.5), (True, 0.25 / 11)])
def test_first_and_largest(is_relative: bool, largest: float) -> None:
    """The first by position, the largest by size; columns of one pair share its number."""
    wrong = NUMBERS.clone()
    wrong[2, 2] += 0.25
    wrong[7, 3] -= 0.5
    tally = Tally(2, is_relative)
    tally.add(wrong, NUMBERS, start=100, what="cos")
    assert tally.differing == 2
    assert tally.first == Place(102, 0, None, "cos")
    assert tally.largest == pytest.approx(largest)
    assert tally.largest_at == (
        Place(102, 0, None, "cos") if is_relative else Place(107, 1, None, "cos")
    )
    assert tally.rms == pytest.approx(((0.25**2 + 0.5**2) / 40) ** 0.5)


def test_missing_rows_differ() -> None:
    """A table that ends early is as wrong as can be, from where it ends."""
    tally = Tally(2)
    tally.add(NUMBERS[:6], NUMBERS, start=50)
    assert (tally.compared, tally.differing) == (40, 16)
    assert tally.first == Place(56, None, None, "missing")
    assert tally.largest == tally.rms == float("inf")


@pytest.mark.parametrize("wrong", [torch.empty(0, 0), NUMBERS[:, :3], NUMBERS[0]])
def test_another_shape_is_missing(wrong: torch.Tensor) -> None:
    """What cannot be laid beside the reference does not pass for it."""
    tally = Tally(2)
    tally.add(wrong, NUMBERS)
    assert tally.differing == tally.compared == 40


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_never_passes(value: float) -> None:
    """NaN differs even from the same NaN; its error is infinite."""
    wrong = NUMBERS.clone()
    wrong[3, 1] = value
    tally = Tally(None)
    tally.add(wrong, NUMBERS)
    assert (tally.differing, tally.largest) == (1, float("inf"))
    assert tally.rms == float("inf")
    both_nan = torch.full((2, 2), float("nan"))
    assert differing_bits(both_nan, both_nan.clone()).all()


def test_bits_of_one_type_and_values_of_two() -> None:
    """-0.0 is not 0.0; a number kept in another type is the same number."""
    zeros = torch.zeros(2, 2)
    assert differing_bits(-zeros, zeros).all()
    assert not differing_bits(NUMBERS.double(), NUMBERS).any()
    assert differing_bits((NUMBERS + 1e-3).bfloat16(), NUMBERS + 1e-3).any()


def test_layers_come_before_positions() -> None:
    """The first place is in the first layer, even if a later one fails at an earlier token."""
    whole = Tally(None)
    for layer, row in ((4, 0), (2, 7)):
        wrong = NUMBERS.clone()
        wrong[row] += 1
        part = Tally(None)
        part.add(wrong, NUMBERS, layer=layer)
        whole.merge(part)
    assert whole.first == Place(7, None, 2)
    assert (whole.compared, whole.differing) == (80, 8)
    assert str(whole.first) == "layer 2, position 7"
