"""How a malformed input ends."""

import random
from collections.abc import Callable

import pytest
import typer

from validation.__main__ import _failures
from validation.judgement.verdict import Verdict
from validation.tests.reporting.conftest import build_result

SEED = 20240723

Refused = Callable[[Callable[[], object]], str | None]
"""See `refusal`."""


def ignore(_: str) -> None:
    """Reports nothing."""


@pytest.fixture
def refusal(capfd: pytest.CaptureFixture[str]) -> Refused:
    """Runs something as the command line does; the sentence it is refused with, None if it is not.

    Any other exception, status, or word on stderr or stdout fails the test.
    """

    def run(action: Callable[[], object]) -> str | None:
        capfd.readouterr()
        status = 0
        try:
            with _failures():
                action()
        except typer.Exit as end:
            status = end.exit_code
        if status == 0:
            return None
        shown = capfd.readouterr()
        assert (status, shown.out) == (2, "")
        sentence, newline = shown.err[:-1], shown.err[-1:]
        assert sentence.startswith("error: ")
        assert newline == "\n"
        assert sentence.isprintable(), sentence
        assert len(sentence) < 1500
        return sentence

    return run


@pytest.fixture
def lines() -> list[bytes]:
    """Three results, the second of which failed."""
    results = (
        build_result(context=1024),
        build_result("stock", Verdict.DRIFTS, context=1024),
        build_result(context=2048, verdict=Verdict.AT_FLOOR),
    )
    return [result.model_dump_json().encode() + b"\n" for result in results]


def flip(content: bytes, random_: random.Random, start: int, stop: int) -> bytes:
    """The content with one bit changed between two places."""
    flipped = bytearray(content)
    flipped[random_.randrange(start, stop)] ^= 1 << random_.randrange(8)
    return bytes(flipped)
