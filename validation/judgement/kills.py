"""Whether a planted fault was caught, by the verdict of the tree that has it."""

from enum import Enum

from validation.judgement.verdict import Verdict
from validation.rope.faults import Fault


class Outcome(Enum):
    """What became of a fault in one case; the value is the message."""

    BEYOND_FLOOR = "caught: the verdict is a failure"
    DIFFERS = "caught: at the floor, where the sound fork does not differ at all"
    SURVIVED = "not caught"
    HIDDEN = "this case has not what the fault needs in order to show"
    EQUIVALENT = "the same function, and the same verdict as the sound fork's"
    NOT_EQUIVALENT = "declared the same function, yet the verdict is another"
    UNDECIDED = "the sound fork does not pass here, or the worker was killed from outside"

    @property
    def is_caught(self) -> bool:
        """Whether the harness noticed."""
        return self in (Outcome.BEYOND_FLOOR, Outcome.DIFFERS)


def is_noticed(verdict: Verdict) -> bool:
    """Whether the verdict says that something is wrong; BLIND says that nothing can be said."""
    return verdict not in (Verdict.IDENTICAL, Verdict.AT_FLOOR, Verdict.BLIND)


def judge_fault(
    fault: Fault,
    verdict: Verdict | None,
    sound: Verdict,
    *,
    is_visible: bool,
    is_accident: bool = False,
) -> Outcome:
    """Judges one fault in one case.

    Args:
        fault: the fault.
        verdict: of the tree that has it; None if it was not run there.
        sound: of the sound tree in the same case.
        is_visible: whether the case has what the fault needs.
        is_accident: the worker died of something else than the fault.
    """
    if verdict is None:
        return Outcome.HIDDEN
    if is_accident or not sound.meets(Verdict.AT_FLOOR):
        return Outcome.UNDECIDED
    if fault.equivalent is not None:
        return Outcome.EQUIVALENT if verdict is sound else Outcome.NOT_EQUIVALENT
    if is_noticed(verdict):
        return Outcome.BEYOND_FLOOR
    if sound is Verdict.IDENTICAL and verdict is not Verdict.IDENTICAL:
        return Outcome.DIFFERS
    return Outcome.SURVIVED if is_visible else Outcome.HIDDEN
