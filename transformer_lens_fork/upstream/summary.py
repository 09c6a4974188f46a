"""What upstream's checks said before and after each patch, on disk and in Markdown."""

from collections import Counter
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from transformer_lens_fork.atomic import building_folder

SUMMARY = "upstream.json"
MARKDOWN = "upstream.md"

_OUTCOMES = ("passed", "skipped", "xfailed", "failed")
_HEADINGS = ("tree", "passed", "skipped", "expected to fail", "failed", "as on the release", "new")


class TreeSummary(BaseModel):
    """One tree: the release, or the fork with some of its patches.

    Attributes:
        name: `base`, or the patch that it ends with.
        tree: git's SHA of its files.
        outcomes: how many tests and docstring tests had each outcome.
        same: of those on the release, how many have the outcome that they had there.
        new: how many are not on the release.
        complaints: how many each tool makes.
        new_complaints: those that it does not make of the release.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    tree: str
    outcomes: dict[str, int]
    same: int
    new: int
    complaints: dict[str, int]
    new_complaints: dict[str, tuple[str, ...]]


class Summary(BaseModel):
    """Everything that was run for one base.

    Attributes:
        base: its name.
        only: beginnings of the paths that were run, if not all.
        trees: the release first.
        excluded: how many tests cannot pass on the release here, by reason.
        failing_on_base: how many of the new tests fail on the release's sources.
        findings: what must not be, a sentence each.
        packages: versions of what runs and checks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str
    only: tuple[str, ...] = ()
    trees: tuple[TreeSummary, ...]
    excluded: dict[str, int]
    failing_on_base: int
    findings: tuple[str, ...]
    packages: dict[str, str]


def count_outcomes(outcomes: dict[str, str]) -> dict[str, int]:
    """How many have each outcome, the most frequent first."""
    return dict(Counter(outcomes.values()).most_common())


def write_summary(summary: Summary, folder: Path) -> None:
    """Writes `upstream.json` and `upstream.md` to `folder`, each whole or not at all."""
    with building_folder(folder) as scratch:
        (scratch / SUMMARY).write_text(summary.model_dump_json(indent=1) + "\n", encoding="utf-8")
        (scratch / MARKDOWN).write_text(render(summary), encoding="utf-8")
        for name in (SUMMARY, MARKDOWN):
            (scratch / name).replace(folder / name)


def render(summary: Summary) -> str:
    """The summary as Markdown."""
    lines = [f"# Upstream's own checks, {summary.base}", ""]
    if summary.only:
        lines += [f"Of the tests only those in {', '.join(summary.only)}.", ""]
    if summary.findings:
        lines += [f"**{len(summary.findings)} findings.**", ""]
        lines += [*(f"- {finding}" for finding in summary.findings), ""]
    else:
        lines += ["**Nothing that passes on the release fails on the fork.**", ""]
    lines += [
        tabulate(summary),
        "",
        "The tools' columns say how many complaints they make; of those not on the release: "
        + (", ".join(_new_complaints(summary)) or "none")
        + ".",
        "",
        f"Of the new tests {summary.failing_on_base} fail on the release's sources.",
        "",
    ]
    if summary.excluded:
        lines += ["Cannot pass on the release here, and are left out of the comparison:", ""]
        lines += [f"- {count}: {reason}" for reason, count in summary.excluded.items()]
        lines.append("")
    versions = ", ".join(f"{name} {version}" for name, version in summary.packages.items())
    return "\n".join([*lines, f"Run with {versions}.", ""])


def tabulate(summary: Summary) -> str:
    """A row of Markdown for each tree."""
    headings = (*_HEADINGS, *summary.trees[0].complaints)
    return "\n".join(
        [
            "| " + " | ".join(headings) + " |",
            "|---|" + "---:|" * (len(headings) - 1),
            *map(_row, summary.trees),
        ]
    )


def _row(tree: TreeSummary) -> str:
    counts = (tree.outcomes.get(name, 0) for name in _OUTCOMES)
    figures = (*counts, tree.same, tree.new, *tree.complaints.values())
    return f"| {tree.name} | " + " | ".join(f"{figure:,}" for figure in figures) + " |"


def _new_complaints(summary: Summary) -> list[str]:
    return [
        f"{tree.name}, {tool}: {line}"
        for tree in summary.trees
        for tool, lines in tree.new_complaints.items()
        for line in lines
    ]
