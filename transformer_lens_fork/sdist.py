"""Fetches an upstream sdist through pip, verifies it against its pin, and unpacks it safely.

Nothing from the tarball runs before its hash is checked, and nothing is written outside the folder
it is unpacked into. What is fetched stays in a user cache.
"""

import hashlib
import os
import re
import stat
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from platformdirs import user_cache_path

from transformer_lens_fork.atomic import building_folder, replace_folder
from transformer_lens_fork.bases import Base
from transformer_lens_fork.errors import InputError, PinMismatchError, VerificationError

CACHE_VARIABLE = "LLAMA31_PARITY_CACHE"
"""Environment variable that names another cache folder."""


_MOST_MEMBERS = 20_000
_DEEPEST = 64
_LARGEST_BYTES = 2**30
"""Of an archive, unpacked: far above the 30 MB of the largest release, far below a full disk."""


def cache_path() -> Path:
    """The folder for downloads and anything else that can be made again."""
    override = os.environ.get(CACHE_VARIABLE)
    return Path(override).absolute() if override else user_cache_path("llama31-rope-parity")


def pristine_tree(base: Base) -> Path:
    """The unmodified release, downloaded, verified and unpacked at the first call.

    Returns:
        The folder that contains `transformer_lens/`. It is verified again at each call and made
        anew if somebody edited it: it is the `stock` that forks are compared with.
    """
    tarball = fetch(base)
    tree = tarball.with_name("tree")
    if not _is_intact(tree, tarball):
        with building_folder(tree.parent) as scratch:
            unpack(tarball, scratch / "tree")
            # Another process may have been faster, and may be reading it by now.
            if not _is_intact(tree, tarball):
                try:
                    replace_folder(tree, scratch / "tree")
                except OSError:
                    if not _is_intact(tree, tarball):
                        raise
    return tree


def fetch(base: Base) -> Path:
    """The verified tarball: from the cache, or from the package index if it is not intact there.

    Raises:
        VerificationError: pip failed, or what the index serves is not what is pinned.
    """
    tarball = _cached_tarball(base)
    if not is_cached(base):
        _refuse_unwritable(cache_path())
        with building_folder(tarball.parent) as scratch:
            _download(base, scratch).replace(tarball)
    return tarball


def fetch_release(version: str) -> tuple[Path, str]:
    """The tarball of a release that is not pinned, and its sha256; it is cached from then on.

    pip runs its build backend to read its metadata, as for any sdist.

    Raises:
        VerificationError: pip cannot download it.
    """
    cache = cache_path() / "sdists"
    _refuse_unwritable(cache)
    with building_folder(cache) as scratch:
        arguments = [f"transformer-lens=={version}"]
        tarball, said = _pip_download(arguments, scratch)
        if tarball is None:
            raise VerificationError(f"pip cannot download transformer-lens {version}: {said}")
        sha256 = _sha256(tarball)
        kept = cache / sha256 / tarball.name
        kept.parent.mkdir(exist_ok=True)
        tarball.replace(kept)
    return kept, sha256


def is_cached(base: Base) -> bool:
    """Whether the cache holds the tarball with the pinned hash."""
    tarball = _cached_tarball(base)
    return tarball.is_file() and _sha256(tarball) == base.sdist_sha256


def unpack(tarball: Path, folder: Path) -> None:
    """Unpacks `tarball` so that its single top-level folder becomes `folder`.

    Raises:
        VerificationError: a member is unsafe, or the archive is damaged; nothing is written then.
    """
    try:
        with tarfile.open(tarball, "r:gz") as archive:
            members = _members(tarball, archive)
            top = _refuse_unsafe(tarball, members)
            with building_folder(folder.parent) as scratch:
                # Our rules come first for their messages; the filter also looks at the real disk.
                archive.extractall(scratch, members, filter="data")
                for path in (scratch / top).rglob("*"):
                    _normalise_mode(path)
                (scratch / top).rename(folder)
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise VerificationError(f"{tarball.name} is not unpacked: {reason}.") from None


def _members(tarball: Path, archive: tarfile.TarFile) -> list[tarfile.TarInfo]:
    """All members; reading stops at the first that is too much, so that a bomb stays small."""
    members: list[tarfile.TarInfo] = []
    size_bytes = 0
    for member in archive:
        members.append(member)
        size_bytes += member.size
        if len(members) > _MOST_MEMBERS or size_bytes > _LARGEST_BYTES or member.size < 0:
            raise VerificationError(
                f"{tarball.name} is not unpacked: at {_shown(member.name)} it has "
                f"{len(members)} members of {size_bytes} bytes; {_MOST_MEMBERS} members and "
                f"{_LARGEST_BYTES} bytes are accepted."
            )
    return members


def _refuse_unwritable(cache: Path) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = (
            f"The cache is {cache}: {error.strerror}; {CACHE_VARIABLE} accepts a writable folder."
        )
        raise InputError(message) from None


def _cached_tarball(base: Base) -> Path:
    # The hash in the path: a changed pin never meets the old file.
    folder = cache_path() / "sdists" / base.sdist_sha256
    return folder / f"transformer_lens-{base.version}.tar.gz"


def _download(base: Base, folder: Path) -> Path:
    requirement = folder / "requirements.txt"
    requirement.write_text(
        f"transformer-lens=={base.version} --hash=sha256:{base.sdist_sha256}\n", encoding="utf-8"
    )
    # pip runs the sdist's build backend to read its metadata: have it check the hash before.
    arguments = ["--require-hashes", "--requirement", str(requirement)]
    tarball, said = _pip_download(arguments, folder)
    if served := re.search(r"Got\s+([0-9a-f]{64})", said):
        raise _mismatch(base, served[1])
    if tarball is None:
        raise VerificationError(f"pip cannot download transformer-lens {base.version}: {said}")
    if (served_hash := _sha256(tarball)) != base.sdist_sha256:
        raise _mismatch(base, served_hash)
    return tarball


def _pip_download(arguments: list[str], folder: Path) -> tuple[Path | None, str]:
    """The sdist in `folder`, None if there is none; and the end of what pip said."""
    command = [
        *(sys.executable, "-m", "pip", "download"),
        "--no-deps",
        # The sdist, not the wheel. Not `:all:`, which would compile the build backend as well.
        *("--no-binary", "transformer-lens"),
        *("--dest", str(folder)),
        *arguments,
    ]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    tarballs = list(folder.glob("*.tar.gz"))
    served = re.search(r"Got\s+[0-9a-f]{64}", result.stderr + result.stdout)
    said = " ".join((result.stderr or result.stdout).strip().splitlines()[-3:])
    is_there = result.returncode == 0 and len(tarballs) == 1
    return tarballs[0] if is_there else None, served[0] if served else said


def _mismatch(base: Base, served: str) -> PinMismatchError:
    return PinMismatchError(
        f"The sdist of transformer-lens {base.version} has sha256 {served}, "
        f"but bases.toml pins sdist_sha256 {base.sdist_sha256}.",
        base.sdist_sha256,
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_unsafe(tarball: Path, members: list[tarfile.TarInfo]) -> str:
    """Returns the name of the top-level folder that holds every member."""
    links = {PurePosixPath(member.name) for member in members if member.issym()}
    tops = set()
    for member in members:
        path = PurePosixPath(member.name)
        if problem := _problem(member, links):
            raise VerificationError(f"{tarball.name} is not unpacked: {_shown(path)} {problem}.")
        tops.add(path.parts[0])
    _refuse_repetition(tarball, members)
    if len(tops) != 1:
        names = _shown(", ".join(sorted(tops)[:8]) or "none")
        raise VerificationError(
            f"{tarball.name} is not unpacked: one top-level folder is accepted, it has {names}."
        )
    return str(tops.pop())


def _refuse_repetition(tarball: Path, members: list[tarfile.TarInfo]) -> None:
    # What comes second would replace what was looked at, or stand where its folder has to be.
    files: set[PurePosixPath] = set()
    folders: set[PurePosixPath] = set()
    for member in members:
        path = PurePosixPath(member.name)
        folders.update(path.parents)
        if (
            path in files
            or not files.isdisjoint(path.parents)
            or (not member.isdir() and path in folders)
        ):
            raise VerificationError(f"{tarball.name} is not unpacked: {_shown(path)} comes twice.")
        (folders if member.isdir() else files).add(path)


def _shown(name: object) -> str:
    text = str(name)
    text = text if len(text) <= 200 else f"{text[:97]} ... {text[-97:]}"
    return text if text.isprintable() else repr(text)


def _problem(member: tarfile.TarInfo, links: set[PurePosixPath]) -> str | None:
    path = PurePosixPath(member.name)
    if not path.parts or "\0" in member.name + member.linkname:
        return "is no name of a file"
    if len(path.parts) > _DEEPEST:
        return f"is nested deeper than {_DEEPEST} folders"
    if path.is_absolute():
        return "is an absolute path"
    if ".." in path.parts:
        return "climbs out with '..'"
    if ".git" in path.parts:
        return "would be taken for git's own"
    if len(path.parts) < 2 and not member.isdir():
        return "is not inside a folder"
    if links.intersection(path.parents):
        return "is inside a symbolic link"
    if member.issym():
        target = PurePosixPath(member.linkname)
        landing = os.path.normpath(path.parent / target)
        if target.is_absolute() or PurePosixPath(landing).parts[:1] != path.parts[:1]:
            return f"links out of the tree, to {_shown(member.linkname)}"
    elif member.issparse() or not (member.isreg() or member.isdir()):
        return "is neither a file, a folder nor a symbolic link"
    return None


def _normalise_mode(path: Path) -> None:
    # git records only the owner's x bit; the rest would differ with the umask.
    if path.is_symlink():
        return
    executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
    path.chmod(0o755 if executable else 0o644)


def _is_intact(tree: Path, tarball: Path) -> bool:
    if not tree.is_dir():
        return False
    wanted = set()
    with tarfile.open(tarball, "r:gz") as archive:
        for member in archive:
            path = tree.joinpath(*PurePosixPath(member.name).parts[1:])
            wanted.add(path)
            if member.isreg() and not _holds(path, archive, member):
                return False
    # A stray module could be imported; the byte code that Python leaves is keyed to its source.
    return wanted >= set(tree.rglob("*.py"))


def _holds(path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> bool:
    content = archive.extractfile(member)
    if content is None or path.is_symlink() or not path.is_file():
        return False
    return path.read_bytes() == content.read()
