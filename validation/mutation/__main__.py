"""The command line: `python -m validation.mutation --help`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from transformer_lens_fork.bases import get_base
from transformer_lens_fork.errors import InputError, VerificationError, exit_statuses
from transformer_lens_fork.git import GitError, Repository
from transformer_lens_fork.layout import fork_path
from validation.mutation.explanations import write_readme
from validation.mutation.mutants import (
    PACKAGE,
    Identity,
    Mutant,
    changed_lines,
    difference,
    find_mutants,
    mutate,
    parse,
)
from validation.mutation.outcomes import Outcome, append_outcome, keep_outcomes, read_outcomes
from validation.mutation.sandbox import Fate, Sandbox, in_sandbox, swap_function

_HELP = """
An outside check of the fork's own tests: cosmic-ray's mutants of every function that the series
touches, each tested with the tests that the patches add, in a fork of one warm process.

\b
OUT/mutants.jsonl gets one line a mutant. A stopped run goes on where it was; after a change of the
fork, what was killed is not run again if the package and the killing test's file are the same or
that file only gained lines. OUT/README.md counts, and explains the survivors out of survivors.toml.

Exit status: 0 every survivor is explained, 1 one is not, 2 the input is not accepted.
"""


def main(
    out: Annotated[Path, typer.Option(help="Folder for mutants.jsonl and README.md.")],
    base: Annotated[str, typer.Option(help="Its fork is mutated; `checkout` it first.")] = "v3.9.0",
    only: Annotated[str, typer.Option(help="Part of FILE:FUNCTION; no README is written.")] = "",
    seconds: Annotated[int, typer.Option(help="Of a processor, that a mutant may take.")] = 90,
) -> None:
    """Kill every mutant, or explain it."""
    out = out.resolve()
    with exit_statuses():
        _run(out, fork_path(get_base(base)), only, seconds)
        wrong = [] if only else write_readme(out, read_outcomes(out))
    for line in wrong:
        typer.echo(line)
    if wrong:
        raise typer.Exit(1)


def _run(out: Path, tree: Path, only: str, seconds: int) -> None:
    repository = Repository.at(tree)
    if repository.resolve("HEAD") is None or repository.text("status", "--porcelain"):
        raise InputError(f"{tree} is no fork with all work committed; see `checkout`.")
    files_now = repository.text("rev-parse", "HEAD^{tree}")
    out.mkdir(parents=True, exist_ok=True)
    files = changed_lines(repository, "tests")
    tests = [file for file in files if Path(file).name.startswith("test_")]
    mutants = find_mutants(tree)
    earlier = {outcome.identity: outcome for outcome in read_outcomes(out)}
    chosen = [mutant for mutant in mutants if only in f"{mutant.file}:{mutant.function}"]
    standing = _Standing(repository, files_now)
    todo = [m for m in chosen if not standing.has(earlier.get(m.identity))]

    def work(sandbox: Sandbox) -> None:
        laboratory = _Laboratory(sandbox, tree, seconds, earlier)
        for number, mutant in enumerate(todo, 1):
            outcome = laboratory.judge(mutant, files_now)
            if outcome is not None:
                append_outcome(out, outcome)
                print(f"{number} of {len(todo)}: {outcome}", file=sys.stderr, flush=True)

    if todo:
        in_sandbox(tree, tests, work)
    if not only:
        keep_outcomes(out, [mutant.identity for mutant in mutants])


class _Standing:
    """Which outcomes of earlier runs still stand."""

    def __init__(self, repository: Repository, files_now: str) -> None:
        self._repository = repository
        self._files_now = files_now
        self._changed: dict[str, set[str] | None] = {}

    def has(self, outcome: Outcome | None) -> bool:
        """Whether a run of the tests of today would end in `outcome` too."""
        if outcome is None or outcome.tree == self._files_now:
            return outcome is not None
        if outcome.tree not in self._changed:
            self._changed[outcome.tree] = self._changes_since(outcome.tree)
        changed = self._changed[outcome.tree]
        if outcome.fate is not Fate.KILLED or outcome.killed_by is None or changed is None:
            return False
        killer = outcome.killed_by.partition("::")[0]
        return killer not in changed and not any(file.startswith(PACKAGE) for file in changed)

    def _changes_since(self, tree: str) -> set[str] | None:
        """The files that did not only gain lines; None if nobody has that tree any more."""
        try:
            lines = self._repository.lines("diff", "--numstat", "--no-renames", tree, "HEAD")
        except GitError:
            return None
        rows = (line.split("\t") for line in lines)
        return {file for _, lost, file in rows if lost != "0" or file.startswith(PACKAGE)}


class _Laboratory:
    """Judges mutants: by the tests that call the mutated function, likely and fast ones first."""

    def __init__(
        self, sandbox: Sandbox, tree: Path, seconds: int, earlier: Mapping[Identity, Outcome]
    ) -> None:
        self._sandbox = sandbox
        self._tree = tree
        self._seconds = seconds
        self._earlier = earlier
        unmutated = sandbox.run(lambda: None, None, 20 * seconds, record=True)
        if isinstance(unmutated, Fate) or unmutated.failed or unmutated.error:
            raise VerificationError(f"The tests fail without any mutation: {unmutated}.")
        fastest = sorted(unmutated.seconds, key=lambda test: unmutated.seconds[test])
        self._tests: dict[str, list[str]] = {}
        for test in fastest:
            for function in unmutated.reached[test]:
                self._tests.setdefault(function, []).append(test)
        self._sources: dict[str, tuple[str, Any]] = {}

    def judge(self, mutant: Mutant, files_now: str) -> Outcome | None:
        """What becomes of `mutant`; None if it is no Python."""
        if mutant.file not in self._sources:
            source = (self._tree / mutant.file).read_text(encoding="utf-8")
            self._sources[mutant.file] = source, parse(source)
        source, module = self._sources[mutant.file]

        def swap(module: Any = module) -> list[str] | None:
            mutated = mutate(module, mutant)
            if mutated is None:
                return None
            swap_function(mutant.file, mutant.function, mutated)
            return list(difference(source, mutated))

        run = self._sandbox.run(swap, self._order(mutant), self._seconds)
        if isinstance(run, Fate):
            # The child could not say what it had done.
            mutated = mutate(parse(source), mutant) or ""
            return Outcome.of(mutant, difference(source, mutated), run, None, files_now)
        if run.error:
            raise VerificationError(f"{mutant} cannot be made: {run.error}.")
        if run.note is None:
            return None
        fate = Fate.KILLED if run.failed else Fate.SURVIVED
        return Outcome.of(mutant, (run.note[0], run.note[1]), fate, run.failed, files_now)

    def _order(self, mutant: Mutant) -> list[str]:
        tests = self._tests.get(f"{mutant.file}:{mutant.function}", [])
        earlier = self._earlier.get(mutant.identity)
        return sorted(tests, key=lambda test: earlier is None or test != earlier.killed_by)


if __name__ == "__main__":
    typer.run(main)
