"""Where patches and forks are. Every path starts from a root that tests can replace."""

from pathlib import Path

from transformer_lens_fork import bases
from transformer_lens_fork.bases import Base


def project_path(root: Path | None = None) -> Path:
    """The folder that holds `patches/` and `transformer_lens_fork/`."""
    return (root or bases.REPOSITORY).resolve()


def fork_path(base: Base, root: Path | None = None) -> Path:
    """Where the fork of `base` is checked out."""
    return project_path(root) / "transformer_lens_fork" / base.name


def patches_path(base: Base, root: Path | None = None) -> Path:
    """The folder of the patches of `base`."""
    return project_path(root) / "patches" / base.name


def read_patches(base: Base, root: Path | None = None) -> dict[str, bytes]:
    """The patch files of `base` by name, in the order in which they apply."""
    files = sorted(patches_path(base, root).glob("*.patch"))
    return {file.name: file.read_bytes() for file in files}
