"""What follows from the runs of a patch, without running anything."""

from pathlib import Path

import pytest

from transformer_lens_fork.patchfile import Line, Patch
from transformer_lens_fork.trial import Run, Trial
from transformer_lens_fork.trial_rules import judge

PATCH = Patch(Path("patches/v9.9.9/0001-x.patch"), (Line(1, b"From"),), (), ())
OWN = "tests/test_own.py"
TEST = f"{OWN}::test_x"


def messages(
    after: Run, without: Run | None = None, before: Run | None = None, previous: Run | None = None
) -> list[str]:
    """The findings on a patch with these runs."""
    trial = Trial(PATCH, (OWN,), before or Run(), without or Run(), after)
    return [finding.message for finding in judge(trial, previous or Run())]


@pytest.mark.parametrize("outcome", ["passed", "skipped", "xfailed"])
def test_only_failing_without_the_patch_will_do(outcome: str) -> None:
    """Whatever is not a failure is a finding."""
    after = Run(outcomes={TEST: "passed"})
    assert messages(after, Run(outcomes={TEST: "failed"})) == []
    (message,) = messages(after, Run(outcomes={TEST: outcome}))
    assert message.startswith(f"{TEST} has to fail without this patch, but it ")


def test_skipped_in_both_is_a_finding() -> None:
    """A test that no machine of ours runs shows nothing."""
    run = Run(outcomes={TEST: "skipped"}, errors={TEST: "no device"})
    assert messages(run, run) == [f"{TEST} has to fail without this patch, but it is skipped."]


def test_uncollected_is_failing() -> None:
    """An error in the file, or in a conftest, counts for all its tests."""
    after = Run(outcomes={TEST: "passed"})
    assert messages(after, Run(errors={OWN: "ImportError"})) == []
    assert messages(after, Run(aborted="pytest ended with 4")) == []


def test_tests_of_other_files_are_not_new() -> None:
    """Only files the patch touches can add tests."""
    assert messages(Run(outcomes={"tests/test_other.py::test_x": "passed"})) == []


@pytest.mark.parametrize("where", ["before", "previous"])
def test_older_tests_are_not_new(where: str) -> None:
    """Tests known from upstream, or from an earlier patch."""
    known = Run(outcomes={TEST: "passed"})
    assert messages(known, known, **{where: known}) == []


def test_failure_is_told_once() -> None:
    """The patch that broke a test has the finding, not those after it."""
    failed = Run(outcomes={TEST: "failed"}, errors={TEST: "assert 0"})
    without = Run(outcomes={TEST: "failed"})
    assert messages(failed, without) == [f"{TEST} fails with this patch: assert 0."]
    assert messages(failed, without, previous=failed) == []


def test_run_without_results_ends_the_judgement() -> None:
    """Where nothing ran, there is one finding and no guess."""
    assert messages(Run(died="the run died with SIGKILL: ")) == [
        "With this patch, the run died with SIGKILL: ."
    ]
    after = Run(outcomes={TEST: "passed"})
    assert messages(after, Run(died="the run died with SIGKILL: x")) == [
        "The tests it adds give no result without it: the run died with SIGKILL: x."
    ]
