"""What became of each mutant, one line of JSON a mutant."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from validation.mutation.mutants import Identity, Mutant
from validation.mutation.sandbox import Fate

FILE = "mutants.jsonl"


class Outcome(BaseModel):
    """A mutant, what it changes, and its end.

    Attributes:
        original: the changed line.
        mutated: the line that it became; empty if it is gone.
        fate: of the mutant.
        killed_by: the test that failed, or what else ended the run.
        tree: git's name of the fork's files, tests included.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    function: str
    line: int
    column: int
    operator: str
    occurrence: int
    original: str
    mutated: str
    fate: Fate
    killed_by: str | None
    tree: str

    @classmethod
    def of(
        cls,
        mutant: Mutant,
        change: tuple[str, str],
        fate: Fate,
        killed_by: str | None,
        tree: str,
    ) -> "Outcome":
        """The record of a mutant."""
        return cls(
            **vars(mutant),
            original=change[0],
            mutated=change[1],
            fate=fate,
            killed_by=killed_by,
            tree=tree,
        )

    @property
    def identity(self) -> Identity:
        """What tells it from all other mutants of the same tree."""
        return self.file, self.operator, self.occurrence

    def __str__(self) -> str:
        return f"{self.fate.value} {self.file}:{self.line}: {self.original} -> {self.mutated}"


def read_outcomes(folder: Path) -> list[Outcome]:
    """The records in `folder`; none if there are none."""
    path = folder / FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [Outcome.model_validate_json(line) for line in lines]


def append_outcome(folder: Path, outcome: Outcome) -> None:
    """Adds one record, so that a stopped run can go on."""
    with (folder / FILE).open("a", encoding="utf-8") as file:
        file.write(outcome.model_dump_json() + "\n")


def keep_outcomes(folder: Path, mutants: list[Identity]) -> None:
    """Leaves only the last record of each of `mutants`, in this order."""
    last = {outcome.identity: outcome for outcome in read_outcomes(folder)}
    lines = [last[mutant].model_dump_json() + "\n" for mutant in mutants if mutant in last]
    (folder / FILE).write_text("".join(lines), encoding="utf-8")
