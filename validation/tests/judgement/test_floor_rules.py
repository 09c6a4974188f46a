"""Other floors are made of the same reorderings, and judged by the same rules."""

import numpy as np
import pytest

from validation.judgement.floor import ReferenceMetrics
from validation.judgement.floor_rules import (
    LARGER_BY_BIN,
    SMALLER_BY_BIN,
    SMALLER_OVERALL,
    alternative_floors,
)
from validation.judgement.verdict import Verdict, judge
from validation.tests.judgement.streams import subject_metrics

POSITIONS = 128
BEGINNING = np.arange(POSITIONS) < 64


def crossing() -> ReferenceMetrics:
    """Two floors, the first smaller in the first bin and larger in all others."""
    one = subject_metrics(POSITIONS, np.where(BEGINNING, 1.0, 4.0), seed=2)
    other = subject_metrics(POSITIONS, np.where(BEGINNING, 3.0, 2.0), seed=3)
    floors = {"one": one.prefix(POSITIONS), "other": other.prefix(POSITIONS)}
    plain = subject_metrics(POSITIONS, 1000.0, seed=4).prefix(POSITIONS)
    return ReferenceMetrics(floors, plain, np.zeros(POSITIONS, dtype=np.int64))


def test_a_rule_chooses_in_each_bin() -> None:
    """The smaller and the larger are put together of both; each alone is itself."""
    reference = crossing()
    one, other = reference.floors.values()
    rules = {name: rule.pooled for name, rule in alternative_floors(reference).items()}
    for field in ("square_sum", "abs_max", "differing"):
        first, second = getattr(one, field), getattr(other, field)
        smaller = np.where(BEGINNING, first, second)
        larger = np.where(BEGINNING, second, first)
        np.testing.assert_array_equal(getattr(rules[SMALLER_BY_BIN], field), smaller)
        np.testing.assert_array_equal(getattr(rules[LARGER_BY_BIN], field), larger)
    assert rules["one"].rms == one.rms
    assert rules[SMALLER_OVERALL].rms == min(one.rms, other.rms)


def test_a_smaller_floor_fails_what_the_pooled_one_passes() -> None:
    """The verdict follows the floor, with the thresholds as they are."""
    reference = crossing()
    subject = subject_metrics(POSITIONS, np.where(BEGINNING, 2.5, 2.0), seed=5)
    rules = alternative_floors(reference)
    assert judge(subject, reference).verdict is Verdict.AT_FLOOR
    assert judge(subject, rules[SMALLER_BY_BIN]).verdict is Verdict.BEYOND_FLOOR
    assert judge(subject, rules[LARGER_BY_BIN]).verdict is Verdict.AT_FLOOR


def test_a_reference_without_floors_has_no_rules() -> None:
    """There is nothing to choose from."""
    nothing = ReferenceMetrics({}, crossing().plain, np.zeros(POSITIONS, dtype=np.int64))
    with pytest.raises((ValueError, IndexError)):
        alternative_floors(nothing)
