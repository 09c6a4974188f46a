"""Errors of a chosen size, planted as faults are, to find the smallest one that is noticed."""

from enum import Enum

from validation.rope.faults import Fault

_FACTOR = "factor = self.cfg.NTK_by_parts_factor"
_ANGLES = "angles = pos.to(device)[:, None] * inv_freq.to(device)[None, :]"
_IN_FLOAT64 = "pos.to(device).double()[:, None] * inv_freq.to(device).double()[None, :]"


class Quantity(Enum):
    """What is wrong by a relative error; the value is its name in reports."""

    FACTOR = "factor"
    ANGLE = "angle"


def perturbation(quantity: Quantity, size: float) -> Fault:
    """The fault that `quantity` is (1 + size) times what it should be.

    Of size 0 either is bit-identical to the sound tree: the product of two fp32 numbers is exact
    in float64, so that rounding it to fp32 is the one rounding that the sound tree does.
    """
    edits = {
        Quantity.FACTOR: ((_FACTOR, f"{_FACTOR} * (1 + {size!r})"),),
        Quantity.ANGLE: ((_ANGLES, f"angles = ({_IN_FLOAT64} * (1 + {size!r})).float()"),),
    }
    return Fault(
        f"{quantity.value}+{size:.2e}",
        f"{quantity.value} is too large by a relative {size:.2e}.",
        edits[quantity],
        family="perturbation",
    )
