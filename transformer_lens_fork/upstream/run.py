"""Runs upstream's checks on the release and after the patches, and compares what they say."""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from transformer_lens_fork.bases import Base
from transformer_lens_fork.git import Repository
from transformer_lens_fork.history import apply_series, commit_base
from transformer_lens_fork.interpreter import interpreter_for
from transformer_lens_fork.layout import patches_path
from transformer_lens_fork.progress import Report
from transformer_lens_fork.trial import Run
from transformer_lens_fork.upstream.excluded import (
    Excluded,
    excluded_path,
    failing,
    misfits,
    read_excluded,
    write_excluded,
)
from transformer_lens_fork.upstream.formats import (
    COMMANDS,
    Complaints,
    refuse_other_tools,
)
from transformer_lens_fork.upstream.suite import Suite, pytest_options, suite_files, worktree
from transformer_lens_fork.upstream.summary import Summary, TreeSummary, count_outcomes

_PACKAGES = ("pytest", "torch", "transformers", "jaxtyping", "beartype", *COMMANDS)


@dataclass(frozen=True)
class Tree:
    """One tree and what was found in it.

    Attributes:
        name: `base`, or the patch that it ends with.
        sha: git's, of its files.
        run: its tests and docstring tests.
        complaints: of each tool.
    """

    name: str
    sha: str
    run: Run
    complaints: dict[str, Complaints]


def check_upstream(
    base: Base,
    kept: Path,
    *,
    each: bool,
    lists: bool,
    report: Report,
    only: tuple[str, ...] = (),
    root: Path | None = None,
) -> Summary:
    """Runs everything that `kept` does not hold, and compares.

    Args:
        base: whose release and patches.
        kept: folder of what is finished.
        each: after each patch, and not after the last alone.
        lists: write the list of tests that fail on the release, in place of holding it against it.
        report: is told what is under way.
        only: beginnings of the paths that are run; all if there are none.
        root: the folder that holds `patches/`.

    Raises:
        VerificationError: a tool is missing, or a patch does not apply.
    """
    refuse_other_tools()
    python = interpreter_for(base, root, report)
    suite = Suite(python, kept, report, pytest_options(base.type_checked), only)
    with tempfile.TemporaryDirectory(prefix="parity-upstream-") as scratch:
        repository = commit_base(base, Path(scratch, "repository"))
        commits = _apply(base, repository, root)
        chosen = commits if each else {"base": commits["base"], **dict([[*commits.items()][-1]])}
        trees = [_look(repository, name, commit, suite) for name, commit in chosen.items()]
        last = [*commits.values()][-1]
        on_base = _new_tests_on_base(repository, base.base_commit, last, suite)
    path = excluded_path(base)
    excluded = read_excluded(path)
    others = {test: why for test, why in excluded.items() if not suite.takes(test)}
    if lists:
        write_excluded(path, trees[0].run, others)
        excluded = read_excluded(path)
    excluded = {test: why for test, why in excluded.items() if test not in others}
    return compare(base, trees, excluded, on_base, only)


def _apply(base: Base, repository: Repository, root: Path | None) -> dict[str, str]:
    applied = apply_series(repository, patches_path(base, root))
    patched = {name.removesuffix(".patch"): commit for name, commit in applied.items()}
    return {"base": base.base_commit, **patched}


def _look(repository: Repository, name: str, commit: str, suite: Suite) -> Tree:
    with worktree(repository, commit) as tree:
        found = {}
        for tool in COMMANDS:
            suite.report(f"{name}: {tool}")
            found[tool] = suite.complaints(repository, commit, tree, tool)
    run = suite.run(repository, commit, name)
    return Tree(name, repository.text("rev-parse", f"{commit}^{{tree}}"), run, found)


def _new_tests_on_base(repository: Repository, base_commit: str, last: str, suite: Suite) -> Run:
    """The fork's new and changed test files, on the sources of the release."""
    changed = set(
        repository.text("diff", "--name-only", "--diff-filter=d", base_commit, last).splitlines()
    )
    # 2.8.0 has no tests at all.
    files = [
        file for file in suite_files(repository, last) if file in changed and suite.takes(file)
    ]
    if not files:
        return Run()
    suite.report("base: the new tests")
    with worktree(repository, base_commit, overlay=last) as tree:
        return suite.run_files(repository, base_commit, tree, files, overlay=last)


def compare(
    base: Base,
    trees: list[Tree],
    excluded: Excluded,
    on_base: Run,
    only: tuple[str, ...] = (),
) -> Summary:
    """The summary, with everything that must not be.

    Args:
        base: whose trees they are.
        trees: the release first, then after each patch.
        excluded: tests that fail on the release, with reasons.
        on_base: the new tests of the last tree, on the release's sources.
        only: which paths were run, if not all.
    """
    release, *patched = trees
    findings = list(misfits(excluded, release.run))
    for tree in patched:
        findings += _worse_tests(release, tree)
        findings += _worse_formats(release, tree)
    new = trees[-1].run.outcomes.keys() - release.run.outcomes.keys()
    failed = failing(on_base)
    fail_on_base = {test for test in new if test in failed or test.partition("::")[0] in failed}
    findings += [
        f"{test} is new and has {on_base.outcomes.get(test, 'no outcome')} on the release's sources"
        for test in sorted(new - fail_on_base)
        if not test.startswith("transformer_lens/")  # examples in new docstrings
    ]
    return Summary(
        base=base.name,
        only=only,
        trees=tuple(_summarise(release, tree) for tree in trees),
        excluded=_counted(excluded),
        failing_on_base=len(fail_on_base),
        findings=tuple(findings),
        packages=_versions(),
    )


def _worse_tests(release: Tree, tree: Tree) -> Iterator[str]:
    before, after = release.run, tree.run
    for test in sorted(failing(after) - failing(before)):
        was = before.outcomes.get(test)
        told = "is new" if was is None else f"has {was} on the release"
        yield f"{tree.name}: {test} {told} and fails: {after.errors.get(test, '')}"
    for test, outcome in sorted(before.outcomes.items()):
        now = after.outcomes.get(test)
        if outcome == "passed" and now not in ("passed", "failed"):
            why = after.errors.get(test) or after.errors.get(test.partition("::")[0], "")
            yield f"{tree.name}: {test} has passed on the release and is {now or 'gone'}: {why}"


def _worse_formats(release: Tree, tree: Tree) -> Iterator[str]:
    for tool, lines in tree.complaints.items():
        for line in sorted((lines - release.complaints[tool]).elements()):
            yield f"{tree.name}: {tool} says of it, and not of the release: {line}"


def _summarise(release: Tree, tree: Tree) -> TreeSummary:
    outcomes, before = tree.run.outcomes, release.run.outcomes
    return TreeSummary(
        name=tree.name,
        tree=tree.sha,
        outcomes=count_outcomes(outcomes),
        same=sum(before.get(test) == outcome for test, outcome in outcomes.items()),
        new=len(outcomes.keys() - before.keys()),
        complaints={tool: lines.total() for tool, lines in tree.complaints.items()},
        new_complaints={
            tool: tuple(sorted((lines - release.complaints[tool]).elements()))
            for tool, lines in tree.complaints.items()
            if lines - release.complaints[tool]
        },
    )


def _counted(excluded: Excluded) -> dict[str, int]:
    reasons = list(excluded.values())
    return {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}


def _versions() -> dict[str, str]:
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
