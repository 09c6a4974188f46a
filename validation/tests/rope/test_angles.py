"""Angles are seen however their sine and cosine are taken."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from validation.rope.angles import ObservedAngles

ANGLES = torch.arange(12, dtype=torch.float32).reshape(3, 4)


def _in_place(angles: Tensor) -> None:
    angles.clone().sin_()
    angles.clone().cos_()


@pytest.mark.parametrize(
    "compute",
    [
        lambda angles: (torch.sin(angles), torch.cos(angles)),
        lambda angles: (torch.sin(input=angles), torch.cos(input=angles)),
        lambda angles: (angles.sin(), angles.cos()),
        lambda angles: torch.polar(torch.ones_like(angles), angles),
        _in_place,
    ],
    ids=["functions", "keywords", "methods", "polar", "in place"],
)
@pytest.mark.parametrize("columns", [4, 8])
def test_every_way_is_seen(compute: Callable[[Tensor], object], columns: int) -> None:
    """One column a pair, or one a dimension: the pairs come out."""
    with ObservedAngles(8) as observed:
        compute(ANGLES.repeat(1, columns // 4))
    for seen in (observed.sin, observed.cos):
        assert seen is not None
        assert torch.equal(seen, ANGLES)


def test_others_are_not_mistaken_for_angles() -> None:
    """Another width or a vector is something else's; sine and cosine are told apart."""
    with ObservedAngles(8) as observed:
        torch.sin(torch.ones(3, 6))
        torch.cos(torch.ones(4))
        torch.sin(ANGLES)
        torch.cos(ANGLES + 1)
        torch.sin(torch.ones(3, 6))
    torch.sin(ANGLES + 2)
    assert observed.sin is not None
    assert observed.cos is not None
    assert torch.equal(observed.sin, ANGLES)
    assert torch.equal(observed.cos, ANGLES + 1)


def test_a_result_written_over_the_angles_does_not_change_what_was_seen() -> None:
    """What is kept is a copy."""
    angles = ANGLES.clone()
    with ObservedAngles(8) as observed:
        angles.cos_()
    assert observed.cos is not None
    assert torch.equal(observed.cos, ANGLES)
