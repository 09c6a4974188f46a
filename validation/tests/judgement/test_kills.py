"""What counts as caught, and what does not."""

import pytest

from validation.judgement.kills import Outcome, judge_fault
from validation.judgement.verdict import Verdict
from validation.rope.faults import Fault

FAULT = Fault("wrong", "Wrong.", ())
SAME = Fault("same", "Same.", (), equivalent="it is")


@pytest.mark.parametrize(
    ("fault", "verdict", "sound", "outcome"),
    [
        (FAULT, Verdict.DRIFTS, Verdict.IDENTICAL, Outcome.BEYOND_FLOOR),
        (FAULT, Verdict.REFUSED, Verdict.IDENTICAL, Outcome.BEYOND_FLOOR),
        (FAULT, Verdict.BEYOND_FLOOR, Verdict.AT_FLOOR, Outcome.BEYOND_FLOOR),
        (FAULT, Verdict.AT_FLOOR, Verdict.IDENTICAL, Outcome.DIFFERS),
        (FAULT, Verdict.BLIND, Verdict.IDENTICAL, Outcome.DIFFERS),
        (FAULT, Verdict.BLIND, Verdict.AT_FLOOR, Outcome.SURVIVED),
        (FAULT, Verdict.AT_FLOOR, Verdict.AT_FLOOR, Outcome.SURVIVED),
        (FAULT, Verdict.IDENTICAL, Verdict.IDENTICAL, Outcome.SURVIVED),
        (FAULT, Verdict.IDENTICAL, Verdict.AT_FLOOR, Outcome.SURVIVED),
        (FAULT, Verdict.DIED, Verdict.DIED, Outcome.UNDECIDED),
        (FAULT, Verdict.DRIFTS, Verdict.DRIFTS, Outcome.UNDECIDED),
        (SAME, Verdict.IDENTICAL, Verdict.IDENTICAL, Outcome.EQUIVALENT),
        (SAME, Verdict.AT_FLOOR, Verdict.IDENTICAL, Outcome.NOT_EQUIVALENT),
        (SAME, Verdict.DRIFTS, Verdict.AT_FLOOR, Outcome.NOT_EQUIVALENT),
    ],
)
def test_outcomes(fault: Fault, verdict: Verdict, sound: Verdict, outcome: Outcome) -> None:
    """A fault is caught by a failure, or by differing where the sound fork does not."""
    assert judge_fault(fault, verdict, sound, is_visible=True) is outcome


def test_a_worker_killed_from_outside_catches_nothing() -> None:
    """Running out of memory is no proof that a mistake was noticed."""
    sound = Verdict.IDENTICAL
    found = judge_fault(FAULT, Verdict.DIED, sound, is_visible=True, is_accident=True)
    assert found is Outcome.UNDECIDED
    assert not found.is_caught


def test_what_cannot_show_does_not_survive() -> None:
    """Hidden where it was not run, and where it was and changed nothing; caught where it did."""
    sound = Verdict.IDENTICAL
    assert judge_fault(FAULT, None, sound, is_visible=False) is Outcome.HIDDEN
    assert judge_fault(FAULT, sound, sound, is_visible=False) is Outcome.HIDDEN
    assert judge_fault(FAULT, Verdict.DRIFTS, sound, is_visible=False).is_caught
