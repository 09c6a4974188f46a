"""Which exercises break a client, and which differences are the fork's purpose."""

import pytest

from validation.clients.judging import judge_client
from validation.reporting.client_records import Attempt, Ending, Figure, Outcome, Value

_A, _B = "a" * 64, "b" * 64


def _value(sha256: str = _A, unlike: int | None = None, name: str = "logits") -> Value:
    return Value(name=name, sha256=sha256, size=8, unlike_transformers=unlike)


def _ran(*seen: Value | Figure) -> Attempt:
    return Attempt(ending=Ending.COMPLETED, seen=seen)


def _failed(reason: str) -> Attempt:
    return Attempt(ending=Ending.FAILED, reason=reason)


_LATER = Attempt(ending=Ending.NOT_ATTEMPTED, reason="too large")
_REFUSED = Attempt(ending=Ending.NOT_INSTALLED, reason="pins")


@pytest.mark.parametrize(
    ("stock", "fork", "outcome", "says"),
    [
        (_ran(_value()), _ran(_value()), Outcome.SAME, "1 results of 8 values are the same"),
        (_ran(_value()), _ran(_value(_B)), Outcome.DIFFERS, "logits is another on the fork"),
        (_ran(_value(unlike=5)), _ran(_value(_B, 0)), Outcome.EXACT, "5 of 8 values are not"),
        (_ran(_value(unlike=5)), _ran(_value(_B, 1)), Outcome.DIFFERS, "1 of 8 values are not"),
        (_ran(_value(unlike=5)), _ran(_value(unlike=5)), Outcome.DIFFERS, "5 of 8 values"),
        (_ran(_value()), _ran(_value(name="z")), Outcome.DIFFERS, "other things: logits, z"),
        (_ran(_value()), _ran(), Outcome.DIFFERS, "other things: logits, nothing"),
        (_ran(_value()), _failed("x"), Outcome.BROKEN, "x"),
        (_failed("y"), _failed("x"), Outcome.BROKEN, "x"),
        (_failed("x"), _failed("x"), Outcome.SAME_FAILURE, "x"),
        (_failed("x"), _ran(_value()), Outcome.FORK_ONLY, "x"),
        (_LATER, _ran(_value()), Outcome.FORK_ONLY, "too large"),
        (_LATER, _failed("x"), Outcome.BROKEN, "x"),
        (_LATER, _ran(_value(unlike=2)), Outcome.DIFFERS, "2 values are not transformers'"),
        (_REFUSED, _REFUSED, Outcome.NOT_INSTALLED, "pins"),
        (
            _ran(),
            _ran(Figure(figure="error", value=3, at_most=2)),
            Outcome.BROKEN,
            "error: 3, above 2",
        ),
    ],
)
def test_every_pair_has_one_outcome(
    stock: Attempt, fork: Attempt, outcome: Outcome, says: str
) -> None:
    """The fork breaks what works on the release, or differs where it is not nearer."""
    found, reason = judge_client(stock, fork)
    assert found is outcome
    assert says in reason


def test_what_breaks_is_said_once() -> None:
    """Two outcomes are the fork's fault."""
    assert {outcome for outcome in Outcome if outcome.is_break} == {
        Outcome.DIFFERS,
        Outcome.BROKEN,
    }
