"""Tests that cannot pass on a pristine release here, each with the reason: most need the hub.

They are in `<base>.json` beside this file: lists of test ids by reason. What is listed and passes
is as much an error as what fails and is not listed.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from transformer_lens_fork.bases import Base
from transformer_lens_fork.trial import Run

HUB = "needs a model, a tokenizer or data of the hub"

_REASONS = (
    (
        r"hub|offline|couldn't connect|cached files|outgoing traffic|Max retries|"
        r"[Cc]onnection|is not a local folder|Can't load|huggingface\.co|name resolution",
        HUB,
    ),
    (r"No module named '([\w.]+)'", r"needs the package \1, which upstream does not require"),
    (r"needs the optional (\w+) library", r"needs the package \1, which upstream has as an option"),
    (r"CUDA|cuda|MPS|mps", "needs an accelerator"),
)

Excluded = dict[str, str]
"""The reason by test id, or by file where that cannot be collected."""


def excluded_path(base: Base) -> Path:
    """Where those of `base` are."""
    return Path(__file__).with_name(f"{base.name}.json")


def read_excluded(path: Path) -> Excluded:
    """The reason of each test in the file; none if there is no file."""
    if not path.exists():
        return {}
    listed = json.loads(path.read_text(encoding="utf-8"))
    return {test: reason for reason, tests in listed.items() for test in tests}


def write_excluded(path: Path, run: Run, others: Excluded) -> None:
    """Lists what fails in `run`, with reasons drawn from the errors; people are to read them.

    Args:
        path: the file.
        run: of the release.
        others: what stays as it is, for it was not run.
    """
    reasons = others | {test: reason_for(run.errors.get(test, "")) for test in failing(run)}
    listed: dict[str, list[str]] = {}
    for test, reason in sorted(reasons.items()):
        listed.setdefault(reason, []).append(test)
    text = json.dumps(dict(sorted(listed.items())), indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def failing(run: Run) -> set[str]:
    """Tests that failed, and files that could not be collected."""
    failed = {test for test, outcome in run.outcomes.items() if outcome == "failed"}
    uncollected = {name for name in run.errors if name not in run.outcomes}
    return failed | uncollected


def reason_for(error: str) -> str:
    """Why a test fails on a pristine release, from the first line of its error."""
    for pattern, reason in _REASONS:
        if match := re.search(pattern, error):
            return match.expand(reason)
    return f"fails on the release: {error}"


def misfits(excluded: Excluded, base_run: Run) -> Iterator[str]:
    """What is listed and does not fail, and what fails and is not listed; one sentence each."""
    failed = failing(base_run)
    for test in sorted(excluded.keys() - failed):
        yield f"{test} is listed as failing on the release and {_tell(base_run, test)}"
    for test in sorted(failed - excluded.keys()):
        why = base_run.errors.get(test, "no reason given")
        yield f"{test} fails on the release and is not listed: {why}"


def _tell(run: Run, test: str) -> str:
    outcome = run.outcomes.get(test)
    return "is not there" if outcome is None else f"has {outcome}"
