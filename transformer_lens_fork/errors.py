"""The ways a command can end badly; anything else that escapes is a bug."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer


class InputError(Exception):
    """What the user gave or left behind is not accepted: exit status 2.

    The message is one sentence with the field, the value and what is accepted.
    """


class VerificationError(Exception):
    """Something that has to hold does not (a hash, a patch that applies): exit status 1."""


class PinMismatchError(VerificationError):
    """Something is not what `bases.toml` pins.

    Attributes:
        pinned: the value in `bases.toml`.
    """

    def __init__(self, message: str, pinned: str) -> None:
        super().__init__(message)
        self.pinned = pinned


@contextmanager
def exit_statuses() -> Iterator[None]:
    """Turns the two expected errors into one sentence and an exit status."""
    try:
        yield
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    except VerificationError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
