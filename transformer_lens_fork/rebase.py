"""Takes a series to another release of upstream, as far as it applies there."""

import re
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

from transformer_lens_fork.atomic import building_folder, replace_folder
from transformer_lens_fork.bases import Base
from transformer_lens_fork.errors import InputError
from transformer_lens_fork.git import GitError, Repository
from transformer_lens_fork.history import (
    COMMITTER,
    apply_patch,
    apply_series,
    commit_base,
    commit_release,
)
from transformer_lens_fork.layout import fork_path, patches_path, read_patches
from transformer_lens_fork.progress import Report, silent
from transformer_lens_fork.sdist import fetch_release

_SOURCE = "refs/parity/source"


class Fit(Enum):
    """How a patch came to apply to another release. The values are messages for people."""

    AS_IT_IS = "applies as it is"
    MERGED = "applies by a three-way merge"
    CONFLICT = "conflicts"


@dataclass(frozen=True)
class Step:
    """One patch on the other release.

    Attributes:
        patch: name of its file.
        fit: how it came to apply.
        files: in which it conflicts.
    """

    patch: str
    fit: Fit
    files: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f" in {', '.join(self.files)}" if self.files else ""
        return f"{self.patch} {self.fit.value}{where}"


def find_release(base: Base, version: str) -> Base:
    """Another release as a base, pinned to what the package index serves now.

    Args:
        base: whose other fields it gets.
        version: of TransformerLens, such as `3.8.1`.

    Raises:
        InputError: it is no version.
        VerificationError: the index has no such sdist.
    """
    if not re.fullmatch(r"\d+(\.\d+)+", version):
        raise InputError(f"VERSION is {version!r}; a release such as 3.8.1 is accepted.")
    tarball, sha256 = fetch_release(version)
    with tarfile.open(tarball) as archive:
        newest = max(int(member.mtime) for member in archive)
    found = base.model_copy(
        update={
            "name": f"v{version}",
            "version": version,
            "sdist_sha256": sha256,
            "commit_date": datetime.fromtimestamp(newest, UTC),
            "why": f"the series of {base.name}, rebased",
        }
    )
    with tempfile.TemporaryDirectory(prefix="parity-rebase-") as scratch:
        _, commit = commit_release(found, Path(scratch, "tree"))
    return found.model_copy(update={"base_commit": commit})


def as_table(base: Base) -> str:
    """The base as it stands in `bases.toml`."""
    allowed = "".join(f'    "{glob}",\n' for glob in base.allowed)
    return (
        f'["{base.name}"]\n'
        f'version = "{base.version}"\n'
        f'sdist_sha256 = "{base.sdist_sha256}"\n'
        f'base_commit = "{base.base_commit}"\n'
        f"commit_date = {base.commit_date:%Y-%m-%dT%H:%M:%SZ}\n"
        f'transformers = "{base.transformers}"\n'
        f'why = "{base.why}"\n'
        f"loads_checkpoints = {str(base.loads_checkpoints).lower()}\n"
        f"has_hooked_transformer = {str(base.has_hooked_transformer).lower()}\n"
        f"extra_requirements = {_as_array(base.extra_requirements)}\n"
        f"type_checked = {_as_array(base.type_checked)}\n"
        f"allowed = [\n{allowed}]\n"
    )


def _as_array(texts: tuple[str, ...]) -> str:
    quoted = ", ".join(f'"{text}"' for text in texts)
    return f"[{quoted}]"


def try_on(
    base: Base, other: Base, root: Path | None = None, report: Report = silent
) -> list[Step]:
    """How each patch of `base` fares on `other`; one that conflicts is left out for the next."""
    with tempfile.TemporaryDirectory(prefix="parity-rebase-") as scratch:
        tree = _prepare(base, other, Path(scratch), root)
        steps = []
        for step in _transfer(tree, base, root, report):
            steps.append(step)
            if step.fit is Fit.CONFLICT:
                tree.run("am", "--skip", variables=COMMITTER)
        return steps


def rebase(
    base: Base, other: Base, root: Path | None = None, report: Report = silent
) -> list[Step]:
    """Makes the fork of `other` with the series of `base`, to be exported from there.

    Returns:
        The patches that were tried. If the last one conflicts, `git am` waits in the fork for it to
        be resolved, and takes the rest after it.

    Raises:
        InputError: there is something where the fork has to be.
    """
    path = fork_path(other, root)
    if path.exists():
        raise InputError(f"{path} is there already; move it away first.")
    with building_folder(path.parent) as scratch:
        tree = _prepare(base, other, scratch, root)
        steps = []
        for step in _transfer(tree, base, root, report):
            steps.append(step)
            if step.fit is Fit.CONFLICT:
                break
        assert tree.work_tree is not None
        replace_folder(path, tree.work_tree)
    return steps


def _prepare(base: Base, other: Base, scratch: Path, root: Path | None) -> Repository:
    """A tree of `other` that knows the files that the patches of `base` were made for."""
    source = commit_base(base, scratch / "source")
    apply_series(source, patches_path(base, root))
    tree = commit_base(other, scratch / "tree")
    tree.run("fetch", "--quiet", str(source.work_tree), f"HEAD:{_SOURCE}")
    return tree


def _transfer(tree: Repository, base: Base, root: Path | None, report: Report) -> Iterator[Step]:
    names = list(read_patches(base, root))
    for number, name in enumerate(names, 1):
        report(f"{base.name}: patch {number} of {len(names)}, {name}")
        patch = patches_path(base, root) / name
        try:
            apply_patch(tree, patch)
        except GitError:
            yield _merge(tree, patch)
        else:
            yield Step(name, Fit.AS_IT_IS)


def _merge(tree: Repository, patch: Path) -> Step:
    try:
        tree.run("am", "--quiet", "-3", "--keep", "--keep-cr", str(patch), variables=COMMITTER)
    except GitError:
        files = tree.lines("diff", "--name-only", "--diff-filter=U")
        return Step(patch.name, Fit.CONFLICT, tuple(files))
    return Step(patch.name, Fit.MERGED)
