"""The command line: `python -m transformer_lens_fork --help`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from transformer_lens_fork.bases import Base, get_base, load_bases
from transformer_lens_fork.errors import InputError, exit_statuses
from transformer_lens_fork.progress import Report

_HELP = """
Upstream's code is not kept in this repository: `patches/<base>/` is. This tool makes a fork, a
git repository to read, edit and test, out of PyPI's sdist of TransformerLens and those patches.

\b
A change goes this way:
  python -m transformer_lens_fork checkout v3.9.0   # makes transformer_lens_fork/v3.9.0/
  cd transformer_lens_fork/v3.9.0                   # tag `base`, branch `llama31-rope`
  ...edit, test, then `git commit`: one commit becomes one patch...
  python -m transformer_lens_fork export v3.9.0     # rewrites patches/v3.9.0/
  python -m transformer_lens_fork check v3.9.0      # what CI asks

\b
A commit's message says why and ends with three trailers:
  Bug: <link, or what is wrong where>
  Forwarded: yes <link> | no, <reason> | not-needed <reason>
  Drop-when: <the event that makes the patch superfluous>

Exit status: 0 done, 1 a check failed, 2 the input is not accepted.
"""

app = typer.Typer(
    name="python -m transformer_lens_fork",
    help=_HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Bases = Annotated[list[str] | None, typer.Argument(metavar="BASE", help="For example v3.9.0.")]
All = Annotated[bool, typer.Option("--all", help="Every base in bases.toml.")]


@app.command(short_help="Make a fork from the sdist and the patches.")
def checkout(bases: Bases = None, every: All = False) -> None:
    """Make transformer_lens_fork/BASE/ from the sdist and patches/BASE/.

    The sdist is downloaded once and verified. The base commit and all commits of the series have
    the same SHAs on every machine. A fork with uncommitted or unexported work is left as it is.

    Example: python -m transformer_lens_fork checkout v3.9.0 v2.8.0
    """
    from transformer_lens_fork import series

    with exit_statuses():
        for base in _select(bases, every):
            with _progress() as report:
                path = series.checkout(base, report=report)
            typer.echo(f"{base.name}: {path}")


@app.command(short_help="Rewrite the patches from a fork's commits.")
def export(
    bases: Bases = None,
    every: All = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing; exit 1 if anything would change.")
    ] = False,
) -> None:
    """Rewrite patches/BASE/ from the commits in transformer_lens_fork/BASE/.

    Without new commits every byte stays the same. cover-letter.md is kept.

    Example: python -m transformer_lens_fork export v3.9.0
    """
    from transformer_lens_fork import series

    with exit_statuses():
        drift = False
        for base in _select(bases, every):
            changed = series.export(base, dry_run=dry_run)
            drift = drift or bool(changed)
            verb = "would change" if dry_run else "changed"
            typer.echo(f"{base.name}: {verb} {', '.join(changed) or 'nothing'}")
        if dry_run and drift:
            raise typer.Exit(1)


@app.command(short_help="Fail on anything that should not be merged.")
def check(
    bases: Bases = None,
    every: All = False,
    static: Annotated[
        bool, typer.Option("--static", help="Only the rules that run no tests (seconds).")
    ] = False,
) -> None:
    """Fail on anything that should not be merged, naming the patch and the line.

    First the rules that run nothing: pins, preimages, no offset or fuzz, messages, whitespace,
    allowed files, drift between the fork and its patches. Then, after each patch: the package
    imports, the tests of the series pass, and each test the patch adds fails without it.

    Without BASE, every base is checked.

    Example: python -m transformer_lens_fork check v3.9.0 --static
    """
    from transformer_lens_fork.check import check as check_series

    with exit_statuses():
        failed = False
        for base in _select(bases, every or not bases):
            with _progress() as report:
                found = check_series(base, static_only=static, report=report)
            count = f"{len(found) or 'no'} finding{'' if len(found) == 1 else 's'}"
            typer.echo(f"{base.name}: {count}", err=True)
            for finding in found:
                typer.echo(str(finding))
            failed = failed or bool(found)
        if failed:
            raise typer.Exit(1)


@app.command(short_help="Show pins, patches and the state of each fork.")
def status() -> None:
    """Show each base: its pin, its patches, and the state of its fork."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from transformer_lens_fork.layout import read_patches
    from transformer_lens_fork.sdist import is_cached
    from transformer_lens_fork.series import series_sha256
    from transformer_lens_fork.state import inspect

    with exit_statuses():
        table = Table("base", "sdist", "patches", "fork", "base commit", "series sha256")
        for base in load_bases().values():
            found = inspect(base)
            commits = "" if found.patches is None else f", {len(found.patches)} commits"
            table.add_row(
                base.name,
                "verified" if is_cached(base) else "not downloaded",
                str(len(read_patches(base))),
                escape(f"{found}{commits}"),
                base.base_commit[:12],
                series_sha256(base)[:12],
            )
        Console().print(table)


def _select(names: list[str] | None, every: bool) -> list[Base]:
    if every:
        if names:
            raise InputError(f"BASE is {names[0]!r} beside --all; one of the two is accepted.")
        return list(load_bases().values())
    if not names:
        accepted = ", ".join([*load_bases(), "--all"])
        raise InputError(f"BASE is missing; accepted are {accepted}.")
    return [get_base(name) for name in names]


@contextmanager
def _progress() -> Iterator[Report]:
    """Shows what is under way: a live line on a terminal, plain lines in a log."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda message: print(message, file=sys.stderr, flush=True)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda message: progress.update(task, description=message)


if __name__ == "__main__":
    app()
