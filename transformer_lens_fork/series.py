"""The developer's round trip: a fork is checked out beside its patches, edited, exported again.

`patches/<base>/` is what is kept; `transformer_lens_fork/<base>/` can be made from it at any time.
No function here destroys work that is not also in the patches.
"""

import hashlib
import shutil
import warnings
from pathlib import Path

from transformer_lens_fork.atomic import building_folder, replace_folder
from transformer_lens_fork.bases import Base
from transformer_lens_fork.errors import InputError, VerificationError
from transformer_lens_fork.git import GitError
from transformer_lens_fork.history import apply_patch, commit_base, format_patches
from transformer_lens_fork.layout import fork_path, patches_path, read_patches
from transformer_lens_fork.progress import Report, silent
from transformer_lens_fork.state import (
    CHECKED_OUT,
    Checkout,
    State,
    ignored_work,
    inspect,
    unexportable,
)

__all__ = [
    "UnexportedWorkWarning",
    "checkout",
    "ensure_checkout",
    "export",
    "fork_path",
    "series_sha256",
]


class UnexportedWorkWarning(UserWarning):
    """A fork holds work that its patches do not; it was left as it is."""


def series_sha256(base: Base, root: Path | None = None) -> str:
    """One hash over the names and the bytes of the ordered patches of `base`."""
    digest = hashlib.sha256()
    for name, content in read_patches(base, root).items():
        # The length keeps one file's end from passing as the next one's name.
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def checkout(base: Base, root: Path | None = None, report: Report = silent) -> Path:
    """Makes the fork of `base` as its patches say, unless it is there already.

    Args:
        base: whose fork.
        root: the folder that holds `patches/` and `transformer_lens_fork/`.
        report: is told what is under way.

    Returns:
        The fork's folder.

    Raises:
        InputError: work would be lost; the message says what to do.
        VerificationError: the sdist or a patch is not what it has to be.
    """
    found = inspect(base, root)
    if found.state is State.IN_SYNC:
        report(f"{base.name}: {found}")
        return found.path
    if found.state not in (State.ABSENT, State.STALE):
        raise InputError(_refusal(base, found))
    if found.state is State.STALE and (kept := ignored_work(found)):
        raise InputError(f"{found.path} is not replaced: move {kept} out of it first.")
    with building_folder(found.path.parent) as scratch:
        _build(base, scratch / "tree", root, report)
        # Building takes seconds: somebody may have begun to work, or another process be done.
        now = inspect(base, root)
        if now == found:
            replace_folder(found.path, scratch / "tree")
        elif now.state is not State.IN_SYNC:
            raise InputError(f"{found.path} has changed meanwhile; run `checkout` again.")
    return found.path


def _refusal(base: Base, found: Checkout) -> str:
    advice = {
        State.UNCOMMITTED: "commit them there, or move the folder away",
        State.UNEXPORTED: f"run `export {base.name}`, or move the folder away",
    }.get(found.state, "move it away")
    return f"{found.path} is left as it is: {found}; {advice}."


def _build(base: Base, folder: Path, root: Path | None, report: Report) -> None:
    report(f"{base.name}: fetching the sdist, making the base commit")
    tree = commit_base(base, folder)
    patches = read_patches(base, root)
    for number, name in enumerate(patches, 1):
        report(f"{base.name}: patch {number} of {len(patches)}, {name}")
        try:
            apply_patch(tree, patches_path(base, root) / name)
        except GitError as error:
            message = f"patches/{base.name}/{name} does not apply: {error}."
            raise VerificationError(message) from None
    exported = format_patches(tree, base.base_commit, "HEAD")
    if altered := [name for name in patches if exported.get(name) != patches[name]]:
        # git accepts an offset and does not look at the blob SHAs; we do.
        raise VerificationError(
            f"patches/{base.name}/{altered[0]} is not what is exported once it is applied; "
            f"`check {base.name} --static` names the line."
        )
    tree.run("update-ref", CHECKED_OUT, "HEAD")


def ensure_checkout(base: Base, root: Path | None = None, report: Report = silent) -> Path:
    """The fork of `base` to test: made or refreshed, but never at the price of work in it.

    A fork with work that its patches do not hold is what the developer wants to test: it is left
    as it is, with an `UnexportedWorkWarning`.

    Returns:
        The fork's folder.
    """
    found = inspect(base, root)
    if found.state in (State.UNCOMMITTED, State.UNEXPORTED):
        message = f"{found.path} is used as it is: {found}"
        warnings.warn(message, UnexportedWorkWarning, stacklevel=2)
        return found.path
    return checkout(base, root, report)


def export(base: Base, root: Path | None = None, dry_run: bool = False) -> list[str]:
    """Rewrites the patches of `base` from its fork; other files beside them stay.

    Args:
        base: whose fork.
        root: the folder that holds `patches/` and `transformer_lens_fork/`.
        dry_run: change nothing.

    Returns:
        Names of the patches that were, or would be, written or removed.

    Raises:
        InputError: the fork is absent, has uncommitted changes, or is not a line of commits.
    """
    found = inspect(base, root)
    if problem := unexportable(base, found):
        raise InputError(problem)
    exported, on_disk = found.patches or {}, read_patches(base, root)
    names = sorted(exported.keys() | on_disk.keys())
    changed = [name for name in names if exported.get(name) != on_disk.get(name)]
    if changed and not dry_run:
        _write(patches_path(base, root), exported)
    return changed


def _write(folder: Path, patches: dict[str, bytes]) -> None:
    # As a whole, so that no reader and no Ctrl-C meets half a series.
    with building_folder(folder.parent) as scratch:
        new = scratch / "new"
        if folder.exists():
            shutil.copytree(folder, new, ignore=shutil.ignore_patterns("*.patch"))
        new.mkdir(exist_ok=True)
        for name, content in patches.items():
            (new / name).write_bytes(content)
        replace_folder(folder, new)
