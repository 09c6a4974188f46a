"""Figures are written alike everywhere."""

import pytest

from validation.judgement.verdict import Verdict
from validation.reporting import wording
from validation.tests.reporting.conftest import MakeResult


@pytest.mark.parametrize(
    ("context", "text"), [(1, "1"), (1000, "1000"), (1024, "1k"), (1536, "1536"), (65536, "64k")]
)
def test_tokens(context: int, text: str) -> None:
    """Whole multiples of 1024 are in k, nothing is rounded."""
    assert wording.tokens(context) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.0, "0"), (1.234e-5, "1.23e-05"), (5e-324, "4.94e-324")]
)
def test_error(value: float | None, text: str) -> None:
    """Only what is zero looks like zero."""
    assert wording.error(value) == text


def test_figures() -> None:
    """Counts, ratios, durations and sizes have their units and separators."""
    assert wording.count(201_326_592) == "201,326,592"
    assert wording.ratio(1.006) == "1.01"
    assert wording.seconds(12.34) == "12.3 s"
    assert wording.memory(3 * 2**29) == "1.50 GiB"


def test_absent_figures() -> None:
    """What was not measured is a dash."""
    absent = {wording.count(None), wording.ratio(None), wording.seconds(None), wording.memory(None)}
    assert absent == {wording.ABSENT}


@pytest.mark.parametrize("verdict", Verdict)
def test_failures(make_result: MakeResult, verdict: Verdict) -> None:
    """Every verdict but the two strongest is a failure."""
    fails = verdict not in (Verdict.IDENTICAL, Verdict.AT_FLOOR)
    assert wording.is_failure(make_result(verdict=verdict)) is fails
