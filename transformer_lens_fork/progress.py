"""How long work says what it is doing, without knowing who listens."""

from collections.abc import Callable

Report = Callable[[str], None]
"""Receives what is being done, for people."""


def silent(_message: str) -> None:
    """Reports nothing."""
