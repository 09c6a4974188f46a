"""How figures are written, the same in the terminal, in Markdown and in HTML."""

from validation.judgement.verdict import Verdict
from validation.reporting.results import Result

ABSENT = "-"


def tokens(context: int) -> str:
    """4096 as `4k`; numbers that are no multiple of 1024 stay."""
    return f"{context // 1024}k" if context % 1024 == 0 else str(context)


def count(value: int | None) -> str:
    """With thousands separated."""
    return ABSENT if value is None else f"{value:,}"


def ratio(value: float | None) -> str:
    """A parity ratio."""
    return ABSENT if value is None else f"{value:.2f}"


def error(value: float | None) -> str:
    """An error in logits, or a divergence."""
    if value is None:
        return ABSENT
    return "0" if value == 0 else f"{value:.2e}"


def seconds(value: float | None) -> str:
    """A duration."""
    return ABSENT if value is None else f"{value:.1f} s"


def memory(value: int | None) -> str:
    """Bytes in GiB."""
    return ABSENT if value is None else f"{value / 2**30:.2f} GiB"


def is_failure(result: Result) -> bool:
    """Whether the verdict is one of the failures by kind."""
    return not result.outcome.meets(Verdict.AT_FLOOR)
