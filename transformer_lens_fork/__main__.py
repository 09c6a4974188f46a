"""The command line: `python -m transformer_lens_fork --help`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
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


@app.command(short_help="Make a branch of the patches in a clone of upstream.")
def submit(
    base: Annotated[str, typer.Argument(metavar="BASE", help="For example v3.9.0.")],
    upstream: Annotated[
        Path, typer.Option(help="Your clone of TransformerLens, with its tags.", show_default=False)
    ],
    patches: Annotated[
        int | None,
        typer.Option(help="So many patches, from the first on; by default all of them.", min=1),
    ] = None,
    onto: Annotated[
        str | None,
        typer.Option(help="Revision of the clone to start from, such as origin/dev; else the tag."),
    ] = None,
    branch: Annotated[
        str | None, typer.Option(help="Its name, by default of base and fix.")
    ] = None,
    out: Annotated[Path, typer.Option(help="File for the text of the pull request.")] = Path(
        "pull-request.md"
    ),
    gates: Annotated[
        bool,
        typer.Option(
            "--gates/--no-gates",
            help="Run the patches' tests on the branch, and upstream's tools if they are here.",
        ),
    ] = True,
) -> None:
    """Make a branch of patches/BASE/ in a clone of upstream, and write the pull request's text.

    The files that the patches touch must be the same in the clone's tag BASE as in the sdist. The
    patches are applied to it with `git am -3`, without the trailers that are this repository's
    own. Their tests run there, and pycln, isort, black and mypy, if upstream's releases of them are
    installed, must complain of no more than before. Nothing is pushed, and what is checked out
    stays as it is.

    \b
    Examples:
      python -m transformer_lens_fork submit v3.9.0 --upstream ../TransformerLens --patches 1
      python -m transformer_lens_fork submit v3.9.0 --upstream ../TransformerLens --onto origin/dev

    Exit status: 0 the branch is there, 1 the tag differs, a patch conflicts or a test fails, 2 the
    input is not accepted.
    """
    from transformer_lens_fork import submit as submission

    with exit_statuses():
        if out.exists():
            raise InputError(f"--out: {str(out)!r} is there already; a new file is accepted.")
        with _progress() as report:
            made = submission.submit(
                get_base(base),
                upstream,
                count=patches,
                onto=onto,
                branch=branch,
                runs_gates=gates,
                report=report,
            )
        out.write_text(made.text, encoding="utf-8")
        typer.echo(f"Branch {made.branch} at {made.commit[:12]}; pull request: {out}")
        if made.tests is not None:
            typer.echo(f"{made.tests} tests of the patches pass on it.")
            said = f"{', '.join(made.tools)}: no complaint that was not there"
            typer.echo(said if made.tools else "Upstream's tools are not installed; none has run.")
        if made.elsewhere:
            typer.echo(f"Other files that the tag has otherwise: {', '.join(made.elsewhere)}.")
        typer.echo(f"Look at it with: git -C {upstream} log -p {made.branch}")


@app.command(short_help="Compare the series with that of an earlier commit.")
def range_diff(
    base: Annotated[str, typer.Argument(metavar="BASE", help="For example v3.9.0.")],
    since: Annotated[str, typer.Argument(help="Commit of this repository, such as HEAD~5.")],
) -> None:
    """Show what has changed in the series since a commit of this repository.

    As `git range-diff` shows it: for the reviewer of a new version of a pull request.

    Example: python -m transformer_lens_fork range-diff v3.9.0 HEAD~20
    """
    from transformer_lens_fork.history import compare_series

    with exit_statuses():
        typer.echo(compare_series(get_base(base), since), nl=False)


@app.command(short_help="Take a series to another release.")
def rebase(
    base: Annotated[str, typer.Argument(metavar="BASE", help="For example v3.9.0.")],
    version: Annotated[str, typer.Argument(help="Release of TransformerLens, such as 3.8.1.")],
) -> None:
    """Make transformer_lens_fork/vVERSION/ with the patches of BASE, as far as they apply.

    The release is fetched and need not be in bases.toml; the table to put there is printed. Each
    patch is applied as it is, else by a three-way merge. At a conflict `git am` waits in the tree:
    resolve it, `git am --continue` with the patches that follow, then `export vVERSION`.

    Example: python -m transformer_lens_fork rebase v3.9.0 3.8.1

    Exit status: 0 every patch applies, 1 one conflicts, 2 the input is not accepted.
    """
    from transformer_lens_fork import rebase as rebasing
    from transformer_lens_fork.layout import fork_path

    with exit_statuses():
        known = get_base(base)
        with _progress() as report:
            other = rebasing.find_release(known, version)
            steps = rebasing.rebase(known, other, report=report)
        for step in steps:
            typer.echo(str(step))
        typer.echo(f"{other.name}: {fork_path(other)}")
        if other.name not in load_bases():
            typer.echo(f"For transformer_lens_fork/bases.toml:\n\n{rebasing.as_table(other)}")
        if steps and steps[-1].fit is rebasing.Fit.CONFLICT:
            raise typer.Exit(1)


@app.command(short_help="Run upstream's own checks, before and after the patches.")
def upstream(
    base: Annotated[str, typer.Argument(metavar="BASE", help="For example v3.9.0.")],
    out: Annotated[Path, typer.Option(help="Folder for the summary; what it holds is kept.")],
    patches: Annotated[
        str, typer.Option(help="`all`: after each patch; `last`: after the whole series alone.")
    ] = "all",
    only: Annotated[
        str,
        typer.Option(
            help="Beginnings of paths, comma-separated, such as tests/unit/components; else all."
        ),
    ] = "",
    lists: Annotated[
        bool,
        typer.Option(
            "--list", help="Write down anew which tests fail on the release, and why; read it."
        ),
    ] = False,
) -> None:
    """Run upstream's formatters, type checker, docstring tests and tests on release and fork.

    pycln, isort, black and mypy in upstream's releases; the unit, integration and acceptance
    tests that are not marked as slow, and the examples in docstrings, offline and with upstream's
    options. Nothing that passes on the release may fail after a patch, no tool may complain of
    more, and new tests have to fail on the release's sources. What needs the hub is listed in
    transformer_lens_fork/upstream/BASE.json, with the reason; what is listed and passes is an
    error.

    A stopped run goes on where it was. Example:

      python -m transformer_lens_fork upstream v3.9.0 --patches last --out results/upstream-v3.9.0

    \b
    OUT/upstream.json, OUT/upstream.md   the summary
    OUT/pieces/                          outcomes by tree and files
    """
    from transformer_lens_fork.upstream.run import check_upstream
    from transformer_lens_fork.upstream.summary import MARKDOWN, write_summary

    with exit_statuses():
        if patches not in ("all", "last"):
            raise InputError(f"--patches: {patches!r} is not accepted; 'all' and 'last' are.")
        with _progress() as report:
            summary = check_upstream(
                get_base(base),
                out / "pieces",
                each=patches == "all",
                lists=lists,
                report=report,
                only=tuple(filter(None, only.split(","))),
            )
        write_summary(summary, out)
        for finding in summary.findings:
            typer.echo(finding)
        typer.echo(f"{base}: {len(summary.findings) or 'no'} findings; {out / MARKDOWN}", err=True)
        if summary.findings:
            raise typer.Exit(1)


@app.command(short_help="Show pins, patches and the state of each fork.")
def status(
    on: Annotated[
        str | None,
        typer.Option(help="Also try every series on this release, such as 3.8.1: fetches it."),
    ] = None,
) -> None:
    """Show each base: its pin, its patches, and the state of its fork.

    With --on: which patches of each base still apply to another release. Nothing is kept of it.

    Example: python -m transformer_lens_fork status --on 3.8.1
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from transformer_lens_fork.layout import read_patches
    from transformer_lens_fork.rebase import Fit, find_release, try_on
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
        if on is None:
            return
        # Of which base it takes its other fields does not matter to a trial.
        other = find_release(next(iter(load_bases().values())), on)
        for base in load_bases().values():
            with _progress() as report:
                steps = try_on(base, other, report=report)
            fits = sum(step.fit is not Fit.CONFLICT for step in steps)
            typer.echo(f"{base.name} on {on}: {fits} of {len(steps)} patches apply")
            for step in steps:
                if step.fit is not Fit.AS_IT_IS:
                    typer.echo(f"  {step}")


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
