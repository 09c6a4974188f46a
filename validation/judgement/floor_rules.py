"""Other ways to make one floor of several, to be compared with the one that judges."""

from collections.abc import Callable
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np

from validation.judgement.bins import bin_edges
from validation.judgement.floor import ReferenceMetrics
from validation.judgement.metrics import Errors

POOLED = "pooled"
"""Mean squares: the rule that judges (`ReferenceMetrics.pooled`)."""

SMALLER_BY_BIN = "the smaller in each bin"
SMALLER_OVERALL = "the smaller over all positions"
LARGER_BY_BIN = "the larger in each bin"


def alternative_floors(reference: ReferenceMetrics) -> dict[str, ReferenceMetrics]:
    """The same reference with one floor each, by the rule that makes it; then each floor alone."""
    floors = reference.floors
    rules = {
        SMALLER_BY_BIN: _by_bin(list(floors.values()), min),
        SMALLER_OVERALL: min(floors.values(), key=lambda floor: floor.rms),
        LARGER_BY_BIN: _by_bin(list(floors.values()), max),
        **floors,
    }
    return {rule: replace(reference, floors={rule: floor}) for rule, floor in rules.items()}


def _by_bin(floors: list[Errors], choose: Callable[..., Errors]) -> Errors:
    """In each bin of positions the floor whose errors are least, or most, in mean squares."""
    parts = []
    for start, stop in pairwise(bin_edges(floors[0].positions)):
        rows = slice(start, stop)
        parts.append((rows, choose(floors, key=lambda f, r=rows: f.square_sum[r].sum())))
    arrays = {
        field.name: np.concatenate([getattr(floor, field.name)[rows] for rows, floor in parts])
        for field in fields(Errors)
        if field.name != "vocab"
    }
    return Errors(**arrays, vocab=floors[0].vocab)
