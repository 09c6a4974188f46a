"""Why each survivor survives: survivors.toml, and the README that is drawn from it."""

import tomllib
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from validation.mutation.outcomes import Outcome
from validation.mutation.sandbox import Fate

_SURVIVORS = Path(__file__).with_name("survivors.toml")

_INTRODUCTION = """# Mutants of the fork, and the tests that its patches add

`tox -e mutation` wrote this and `mutants.jsonl`, with cosmic-ray {version}, of the fork whose files
git names `{tree}` (`git rev-parse HEAD^{{tree}}`).

A mutant is one of cosmic-ray's edits of a function that the series touches; of functions longer
than 60 lines, only the lines of the series are edited. Left out are annotations, edits that are no
Python, and the two operators that put in random names and numbers. The tests are those of the files
that the patches add, as far as they call the function. `killed_by` names the first that failed;
with no name, the process died.
"""


class _Explanation(BaseModel):
    """One reason, and the mutants that it explains.

    Attributes:
        reason: why no test can, or need, kill them.
        mutants: what they change, as `FUNCTION: ORIGINAL -> MUTATED`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str
    mutants: list[str]


class _Explanations(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    explanation: list[_Explanation]


def write_readme(folder: Path, outcomes: list[Outcome], survivors: Path = _SURVIVORS) -> list[str]:
    """Writes the counts and the explained survivors to `folder`/README.md.

    Returns:
        What is wrong: survivors and timeouts without an explanation, explanations without one.
    """
    text = survivors.read_text(encoding="utf-8")
    explanations = _Explanations.model_validate(tomllib.loads(text)).explanation
    alive: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.fate is not Fate.KILLED:
            alive.setdefault(_change(outcome), []).append(outcome)
    explained = {change for explanation in explanations for change in explanation.mutants}
    lines = [*_counts(outcomes), "", "## Survivors", ""]
    for explanation in explanations:
        lines += _section(explanation, alive)
    trees = "`, `".join(sorted({outcome.tree[:12] for outcome in outcomes}))
    introduction = _INTRODUCTION.format(version=version("cosmic-ray"), tree=trees)
    (folder / "README.md").write_text("\n".join([introduction, *lines, ""]), encoding="utf-8")
    unexplained = [f"unexplained: {change}" for change in alive if change not in explained]
    return unexplained + [f"no survivor: {change}" for change in sorted(explained - alive.keys())]


def _change(outcome: Outcome) -> str:
    return f"{outcome.function}: {outcome.original} -> {outcome.mutated}"


def _counts(outcomes: list[Outcome]) -> Iterator[str]:
    yield "| file | function | mutants | killed | survived | timeout |"
    yield "|---|---|---:|---:|---:|---:|"
    places = dict.fromkeys((outcome.file, outcome.function) for outcome in outcomes)
    for file, function in places:
        here = [o.fate for o in outcomes if (o.file, o.function) == (file, function)]
        name = file.removeprefix("transformer_lens/")
        yield f"| {name} | `{function}` | {_cells(here)} |"
    yield f"| **all** | | {_cells([outcome.fate for outcome in outcomes])} |"


def _cells(fates: list[Fate]) -> str:
    count = Counter(fates)
    return " | ".join(map(str, [len(fates), *(count[fate] for fate in Fate)]))


def _section(explanation: _Explanation, alive: dict[str, list[Outcome]]) -> Iterator[str]:
    yield from (explanation.reason, "", "| line | original | mutated |", "|---|---|---|")
    for change in explanation.mutants:
        for outcome in alive.get(change, []):
            place = f"{Path(outcome.file).name}:{outcome.line}"
            yield f"| {place} | {_code(outcome.original)} | {_code(outcome.mutated)} |"
    yield ""


def _code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"
