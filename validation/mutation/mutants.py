"""Which mutants there are: cosmic-ray's operators, on the code that a series touches.

A mutant is the whole text of its module; nothing is written to the tree.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformer_lens_fork.git import Repository

PACKAGE = "transformer_lens"
LONG_FUNCTION_LINES = 60
"""Of a longer function only the lines of the series are mutated: most of it is upstream's alone."""

Identity = tuple[str, str, int]
"""What tells a mutant from all others of the same tree: file, operator and occurrence."""

_Position = tuple[int, int]


@dataclass(frozen=True)
class Mutant:
    """One change to one module.

    Attributes:
        file: the module's path in the tree.
        function: the outermost function or method around the change.
        line: of the change, from 1.
        column: of the change, from 0.
        operator: cosmic-ray's name for the kind of change.
        occurrence: of the operator in the module, from 0.
    """

    file: str
    function: str
    line: int
    column: int
    operator: str
    occurrence: int

    @property
    def identity(self) -> Identity:
        """What tells it from all other mutants of the same tree."""
        return self.file, self.operator, self.occurrence


@dataclass(frozen=True)
class _Scope:
    """The lines of one file that are mutated, by function, and the annotations, which are not."""

    functions: dict[int, str]
    annotations: list[tuple[_Position, _Position]]

    def function_at(self, position: _Position) -> str | None:
        if any(start <= position < end for start, end in self.annotations):
            return None
        return self.functions.get(position[0])


def find_mutants(tree: Path) -> list[Mutant]:
    """The mutants of what the series changes in the package, in the order of files and lines.

    Whole functions where they are short, and their changed lines where they are long; without
    annotations. Outside of functions the series has nothing that an operator would change.

    Args:
        tree: a fork as `checkout` makes it, with the tag `base`.
    """
    found: list[Mutant] = []
    for file, changed in changed_lines(Repository.at(tree.resolve())).items():
        source = (tree / file).read_text(encoding="utf-8")
        mutants = _places(file, source, _find_scope(source, changed))
        found += sorted(mutants, key=lambda mutant: (mutant.line, mutant.column, mutant.operator))
    return found


def mutate(module: Any, mutant: Mutant) -> str | None:
    """The text of the mutated module, or None if that is no Python.

    Args:
        module: parso's tree of the module, which is changed for good.
        mutant: what to do to it.
    """
    from cosmic_ray.mutating import MutationVisitor

    operator = _operators()[mutant.operator]
    text: str = MutationVisitor(mutant.occurrence, operator).walk(module).get_code()
    try:
        ast.parse(text)
    except SyntaxError:
        return None
    return text


def parse(source: str) -> Any:
    """Parso's tree of a module."""
    from cosmic_ray.ast import get_ast

    return get_ast(source)


def difference(before: str, after: str) -> tuple[str, str]:
    """The lines in which two texts differ, without what is equal around them."""
    old, new = before.splitlines(), after.splitlines()
    while old and new and old[0] == new[0]:
        del old[0], new[0]
    while old and new and old[-1] == new[-1]:
        del old[-1], new[-1]
    return " ".join(map(str.strip, old)), " ".join(map(str.strip, new))


def changed_lines(repository: Repository, folder: str = PACKAGE) -> dict[str, set[int]]:
    """The numbers of the lines that a series adds or changes, by file below `folder`."""
    diff = repository.lines("diff", "--unified=0", "--no-renames", "base", "HEAD", "--", folder)
    changed: dict[str, set[int]] = {}
    file = ""
    for line in diff:
        if line.startswith("+++ b/"):
            file = line.removeprefix("+++ b/")
        elif hunk := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line):
            first, count = int(hunk[1]), int(hunk[2] or 1)
            changed.setdefault(file, set()).update(range(first, first + count))
    return changed


def _find_scope(source: str, changed: set[int]) -> _Scope:
    module = ast.parse(source)
    functions: dict[int, str] = {}
    for name, node in _functions(module):
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        lines = set(range(first, (node.end_lineno or first) + 1))
        if len(lines) > LONG_FUNCTION_LINES or not lines & changed:
            lines &= changed
        functions |= dict.fromkeys(lines, name)
    return _Scope(functions, list(_annotations(module)))


def _functions(
    node: ast.AST, prefix: str = ""
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """The outermost functions and methods, with their qualified names."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + child.name, child
        else:
            inner = f"{prefix}{child.name}." if isinstance(child, ast.ClassDef) else prefix
            yield from _functions(child, inner)


def _annotations(module: ast.Module) -> Iterator[tuple[_Position, _Position]]:
    for node in ast.walk(module):
        for field_name in ("annotation", "returns"):
            found = getattr(node, field_name, None)
            if isinstance(found, ast.expr):
                end = (found.end_lineno or found.lineno, found.end_col_offset or 0)
                yield (found.lineno, found.col_offset), end


def _operators() -> dict[str, Any]:
    """cosmic-ray's operators, without those that draw what they put in by lot."""
    # Only here: it is installed in one tox environment.
    from cosmic_ray.operators.provider import OperatorProvider

    provider = OperatorProvider()
    classes = {name: provider[name] for name in provider}
    return {name: found() for name, found in classes.items() if not found.arguments()}


def _places(file: str, source: str, scope: _Scope) -> Iterator[Mutant]:
    from cosmic_ray.ast import ast_nodes

    nodes = list(ast_nodes(parse(source)))
    for name, operator in _operators().items():
        positions = (position for node in nodes for position in operator.mutation_positions(node))
        for occurrence, (start, _) in enumerate(positions):
            function = scope.function_at(start)
            if function is not None:
                yield Mutant(file, function, start[0], start[1], name, occurrence)
