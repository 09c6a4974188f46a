"""The rules of `check` on what tests said: with their patch they pass, without it they fail."""

import re
from collections.abc import Iterator

from transformer_lens_fork.patchfile import Patch
from transformer_lens_fork.rules import Finding, relative_name
from transformer_lens_fork.trial import Run, Trial

_TELL = {
    "passed": "it passes",
    "skipped": "it is skipped",
    "xfailed": "it is marked as expected to fail",
    "absent": "it is not there",
}


def judge(trial: Trial, previous: Run) -> Iterator[Finding]:
    """The findings on one patch.

    Args:
        trial: its runs.
        previous: the run after the patch before it.
    """
    file = relative_name(trial.patch.path)
    problem = trial.after.died or trial.after.aborted
    if problem:
        yield Finding(file, 1, f"With this patch, {problem}.")
        return
    known = previous.outcomes | trial.before.outcomes
    for test in sorted(trial.after.errors.keys() | trial.after.outcomes.keys()):
        # One that failed before needs something this machine lacks, a hub for example.
        if trial.after.outcome(test) == "failed" and known.get(test) != "failed":
            why = trial.after.errors.get(test, "")
            yield Finding(
                file, _line_of(trial.patch, test), f"{test} fails with this patch: {why}."
            )
    new = [test for test in trial.after.outcomes if test not in known and _is_own(trial, test)]
    if new and trial.without.died:
        message = f"The tests it adds give no result without it: {trial.without.died}."
        yield Finding(file, 1, message)
        return
    for test in new:
        outcome = trial.without.outcome(test)
        if outcome != "failed":
            message = f"{test} has to fail without this patch, but {_TELL[outcome]}."
            yield Finding(file, _line_of(trial.patch, test), message)


def _is_own(trial: Trial, test: str) -> bool:
    return test.partition("::")[0] in trial.own


def _line_of(patch: Patch, test: str) -> int:
    """The line of the patch that adds the function of `test`, or 1."""
    name = re.escape(test.partition("[")[0].rpartition("::")[2])
    definition = re.compile(rf"\+\s*(async )?def {name}\(")
    return next((line.number for line in patch.added() if definition.match(line.text)), 1)
