"""The faults that the harness must catch, by family; all edit the fork of v3.9.0."""

from validation.rope.catalogue.positions import POSITIONS
from validation.rope.catalogue.precision import PRECISION
from validation.rope.catalogue.rotation import ROTATION
from validation.rope.catalogue.scaling import SCALING
from validation.rope.faults import Fault

FAULTS: tuple[Fault, ...] = (*SCALING, *PRECISION, *POSITIONS, *ROTATION)


def find_fault(name: str) -> Fault:
    """The fault of that name.

    Raises:
        KeyError: there is none.
    """
    return {fault.name: fault for fault in FAULTS}[name]
