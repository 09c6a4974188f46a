"""The mutants are those of what a series changes, and nothing else."""

from pathlib import Path

from transformer_lens_fork.git import Repository
from validation.mutation.mutants import changed_lines, difference, find_mutants, mutate, parse
from validation.tests.mutation.conftest import AFTER


def test_changed_lines_are_those_of_the_series(tree: Path) -> None:
    """The one line that the commit after `base` changes."""
    line = AFTER.splitlines().index("        return x * factor - self.limit") + 1
    assert changed_lines(Repository.at(tree)) == {"transformer_lens/scale.py": {line}}


def test_mutants_are_of_touched_functions_alone(tree: Path) -> None:
    """Neither another function nor an annotation is mutated; a default and the body are."""
    source = (tree / "transformer_lens/scale.py").read_text(encoding="utf-8")
    mutants = find_mutants(tree)
    assert {mutant.function for mutant in mutants} == {"Scale.times"}
    texts = [mutate(parse(source), mutant) for mutant in mutants]
    changes = [difference(source, text)[1] for text in texts if text is not None]
    assert "return x * factor + self.limit" in changes
    assert 'def times(self, x: "int | None", factor= 3):' in changes
    assert len(set(changes)) == len(changes) == 11 + 11 + 2


def test_difference_is_what_is_not_equal_around() -> None:
    """A replaced line has both texts, and a removed one only the old."""
    assert difference("a\n  b\nc", "a\n  d\nc") == ("b", "d")
    assert difference("a\n@b\nc", "a\nc") == ("@b", "")
