"""A survivor without an explanation is named, and so is an explanation without a survivor."""

from pathlib import Path

import pytest

from validation.mutation import explanations
from validation.mutation.explanations import write_readme
from validation.mutation.mutants import Mutant
from validation.mutation.outcomes import Outcome, append_outcome, keep_outcomes, read_outcomes
from validation.mutation.sandbox import Fate

SURVIVORS = """
[[explanation]]
reason = "No such value exists."
mutants = ["f: a == b -> a >= b", "f: long ago -> killed since"]
"""


def outcome(occurrence: int, mutated: str, fate: Fate) -> Outcome:
    """A mutant of `a == b`, at the end `fate`."""
    mutant = Mutant("transformer_lens/m.py", "f", 3, 0, "Eq", occurrence)
    return Outcome.of(mutant, ("a == b", mutated), fate, None, "0" * 40)


def test_readme_counts_and_explains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fate has its column; what is wrong is returned, one line each."""
    monkeypatch.setattr(explanations, "version", lambda _: "8.7.0")
    survivors = tmp_path / "survivors.toml"
    survivors.write_text(SURVIVORS, encoding="utf-8")
    fates = [
        outcome(0, "a >= b", Fate.SURVIVED),
        outcome(1, "a <= b", Fate.SURVIVED),
        outcome(2, "a != b", Fate.KILLED),
        outcome(3, "a | b", Fate.TIMEOUT),
    ]
    assert write_readme(tmp_path, fates, survivors) == [
        "unexplained: f: a == b -> a <= b",
        "unexplained: f: a == b -> a | b",
        "no survivor: f: long ago -> killed since",
    ]
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| m.py | `f` | 4 | 1 | 2 | 1 |" in text
    assert "No such value exists.\n" in text
    assert "| m.py:3 | `a == b` | `a >= b` |" in text


def test_the_last_record_of_a_mutant_counts(tmp_path: Path) -> None:
    """A mutant that is run again has one line in the end, and a vanished one none."""
    for record in (
        outcome(0, "a >= b", Fate.SURVIVED),
        outcome(1, "a <= b", Fate.SURVIVED),
        outcome(0, "a >= b", Fate.KILLED),
    ):
        append_outcome(tmp_path, record)
    keep_outcomes(tmp_path, [outcome(0, "", Fate.KILLED).identity])
    assert [(o.occurrence, o.fate) for o in read_outcomes(tmp_path)] == [(0, Fate.KILLED)]
