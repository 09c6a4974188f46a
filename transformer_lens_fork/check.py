"""`check`: whether a series may be merged. Static rules first, then those that run its tests."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from transformer_lens_fork import bases
from transformer_lens_fork.bases import Base
from transformer_lens_fork.errors import PinMismatchError
from transformer_lens_fork.git import GitError, Repository
from transformer_lens_fork.history import apply_patch, commit_base, format_patches
from transformer_lens_fork.interpreter import interpreter_for
from transformer_lens_fork.layout import patches_path, read_patches
from transformer_lens_fork.patchfile import MalformedPatchError, Patch, read_patch
from transformer_lens_fork.progress import Report, silent
from transformer_lens_fork.rules import (
    Finding,
    check_after,
    check_before,
    check_folder,
    check_round_trip,
    check_text,
    relative_name,
)
from transformer_lens_fork.state import State, inspect
from transformer_lens_fork.trial import Run, try_patches
from transformer_lens_fork.trial_rules import judge


def check(
    base: Base, root: Path | None = None, static_only: bool = False, report: Report = silent
) -> list[Finding]:
    """Applies every rule to the series of `base`; the user's own fork is only read.

    Args:
        base: whose series.
        root: the folder that holds `patches/` and `transformer_lens_fork/`.
        static_only: run no code of the trees.
        report: is told what is under way.

    Returns:
        The findings. Rules that run tests are tried only where the others found nothing.
    """
    report(f"{base.name}: reading the patches")
    folder = patches_path(base, root)
    patches, findings = _read(folder, list(read_patches(base, root)))
    complete = not findings
    findings += check_folder(folder)
    for patch in patches:
        findings += check_text(base, patch)
    with tempfile.TemporaryDirectory(prefix="parity-check-") as scratch:
        try:
            repository = commit_base(base, Path(scratch, "tree"))
        except PinMismatchError as mismatch:
            return [*findings, _pin_finding(base, mismatch)]
        # Without one of them, those after it have no tree to be judged against.
        if complete:
            findings += _apply(base, repository, patches, root, report)
        findings += _drift(base, root)
        if findings and not static_only:
            report(f"{base.name}: the tests are not run before these findings are gone")
        elif not static_only:
            python = interpreter_for(base, root, report)
            findings += _try(base, repository, patches, python, report)
    return findings


def _read(folder: Path, names: list[str]) -> tuple[list[Patch], list[Finding]]:
    patches, findings = [], []
    for name in names:
        try:
            patches.append(read_patch(folder / name))
        except MalformedPatchError as error:
            finding = Finding(relative_name(folder / name), error.line, f"Malformed: {error}.")
            findings.append(finding)
    return patches, findings


def _pin_finding(base: Base, mismatch: PinMismatchError) -> Finding:
    lines = bases.PINS.read_text(encoding="utf-8").splitlines()
    numbers = [number for number, line in enumerate(lines, 1) if mismatch.pinned in line]
    return Finding(f"transformer_lens_fork/{bases.PINS.name}", [*numbers, 1][0], str(mismatch))


def _apply(
    base: Base, repository: Repository, patches: list[Patch], root: Path | None, report: Report
) -> Iterator[Finding]:
    for number, patch in enumerate(patches, 1):
        report(f"{base.name}: applying patch {number} of {len(patches)}, {patch.path.name}")
        yield from check_before(repository, patch)
        try:
            apply_patch(repository, patch.path)
        except GitError as error:
            yield Finding(relative_name(patch.path), 1, f"The patch does not apply: {error}.")
            return
        yield from check_after(repository, patch)
    exported = format_patches(repository, base.base_commit, "HEAD")
    folder = patches_path(base, root)
    yield from check_round_trip(folder, read_patches(base, root), exported, "the applied patches")


def _drift(base: Base, root: Path | None) -> Iterator[Finding]:
    """What the developer's own checkout, if there is one, has otherwise than the patches."""
    found = inspect(base, root)
    if found.state is State.ABSENT:
        return
    source = f"transformer_lens_fork/{base.name}"
    if found.patches is None:
        message = f"{source} differs from the patches: {found}."
        yield Finding(f"patches/{base.name}", 1, message)
        return
    folder = patches_path(base, root)
    yield from check_round_trip(folder, read_patches(base, root), found.patches, source)


def _try(
    base: Base, repository: Repository, patches: list[Patch], python: Path, report: Report
) -> Iterator[Finding]:
    commits = repository.lines("rev-list", "--reverse", f"{base.base_commit}..HEAD")
    trials = try_patches(
        repository,
        [base.base_commit, *commits],
        patches,
        python,
        lambda message: report(f"{base.name}: {message}"),
    )
    previous = Run()
    for trial in trials:
        yield from judge(trial, previous)
        # Where it broke down, the next patch is held against the last run that tells something.
        previous = trial.after if trial.after.outcomes else previous
