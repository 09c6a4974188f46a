"""The rules of `check` that need no test run: each looks at one patch, or at the whole series.

Each yields findings; none stops at the first.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from transformer_lens_fork.bases import Base
from transformer_lens_fork.git import Repository
from transformer_lens_fork.patchfile import FileChange, Hunk, Patch

_LINK = r"https?://\S+"
_ACCEPTED = {
    "Bug": (r"\S.*", "a link, or what is wrong where"),
    "Forwarded": (
        rf"yes\b.*{_LINK}.*|no([,;:] .+)?|not-needed[,;:]? \S.*",
        "`yes <link>`, `no` with a reason after a comma, or `not-needed <reason>`",
    ),
    "Drop-when": (r"\S.*", "the event that makes the patch superfluous"),
}
_ZEROS = "0" * 40


@dataclass(frozen=True)
class Finding:
    """One reason why `check` fails.

    Attributes:
        file: the file, relative to the project.
        line: the line in it, from 1.
        message: one sentence.
    """

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


def relative_name(patch: Path) -> str:
    """How findings name a patch: `patches/v3.9.0/0001-....patch`."""
    return "/".join(("patches", patch.parent.name, patch.name))


def check_text(base: Base, patch: Patch) -> Iterator[Finding]:
    """Rules on what the patch says and which files it names."""
    file = relative_name(patch.path)
    for number, message in [*_message_problems(patch), *_whitespace_problems(patch)]:
        yield Finding(file, number, message)
    for change in patch.files:
        if not base.allows(change.path):
            accepted = ", ".join(base.allowed)
            message = f"{change.path} is outside the files that bases.toml allows: {accepted}."
            yield Finding(file, change.number, message)


def _message_problems(patch: Patch) -> Iterator[tuple[int, str]]:
    subject = next(
        (line.number for line in patch.header if line.content.startswith(b"Subject:")), 1
    )
    if not patch.reason:
        yield subject, "The message gives no reason: only a subject and trailers."
    # Where they belong: at the end of the message.
    end = next((line.number for line in reversed(patch.body) if line.text.strip()), subject)
    for name, (pattern, accepted) in _ACCEPTED.items():
        values = [(line.number, value) for line, key, value in patch.trailers if key == name]
        if not values:
            yield end, f"The message has no trailer `{name}:`; accepted is {accepted}."
        for number, value in values:
            if not re.fullmatch(pattern, value):
                yield number, f"`{name}: {value}` is not accepted; {accepted} is."


def _whitespace_problems(patch: Patch) -> Iterator[tuple[int, str]]:
    for line in patch.body:
        if line.content != line.content.rstrip():
            yield line.number, "The message has trailing whitespace here."
    for line in patch.added():
        if line.content != line.content.rstrip():
            yield line.number, "The patch adds trailing whitespace here."


def check_before(repository: Repository, patch: Patch) -> Iterator[Finding]:
    """Rules on the tree the patch is about to be applied to: preimages, no offset, no fuzz."""
    file = relative_name(patch.path)
    for change in patch.files:
        blob = _blob_sha(repository, change.path)
        if blob != change.before:
            yield Finding(
                file,
                change.index_number,
                f"{change.path} is blob {_shown(blob)} before this patch, "
                f"but its preimage SHA is {_shown(change.before)}.",
            )
        content = repository.blob("HEAD", change.path) or b""
        yield from (
            Finding(file, number, message) for number, message in _hunk_problems(change, content)
        )


def check_after(repository: Repository, patch: Patch) -> Iterator[Finding]:
    """Rule on the tree the patch was just applied to: postimages."""
    for change in patch.files:
        blob = _blob_sha(repository, change.path)
        if blob != change.after:
            yield Finding(
                relative_name(patch.path),
                change.index_number,
                f"{change.path} is blob {_shown(blob)} after this patch, "
                f"but its postimage SHA is {_shown(change.after)}.",
            )


def _blob_sha(repository: Repository, path: str) -> str:
    if not repository.succeeds("cat-file", "-e", f"HEAD:{path}"):
        return _ZEROS
    return repository.text("rev-parse", f"HEAD:{path}")


def _shown(blob: str) -> str:
    return "absent" if blob == _ZEROS else blob


def _hunk_problems(change: FileChange, content: bytes) -> Iterator[tuple[int, str]]:
    lines = content.removesuffix(b"\n").split(b"\n") if content else []
    for hunk in change.hunks:
        wanted = [line.content[1:] for line in hunk.old]
        first = hunk.start - 1
        if lines[first : first + len(wanted)] == wanted:
            continue
        if offset := _offset(lines, wanted, first):
            yield hunk.number, f"The hunk applies to {change.path} only with offset {offset:+d}."
        else:
            yield _first_difference(change.path, hunk, lines)


def _offset(lines: list[bytes], wanted: list[bytes], first: int) -> int | None:
    """Distance to the nearest other place where the hunk fits exactly."""
    starts = range(len(lines) - len(wanted) + 1)
    matches = [at - first for at in starts if lines[at : at + len(wanted)] == wanted]
    return min(matches, key=abs, default=None)


def _first_difference(path: str, hunk: Hunk, lines: list[bytes]) -> tuple[int, str]:
    for position, line in enumerate(hunk.old, hunk.start):
        found = lines[position - 1] if 0 < position <= len(lines) else None
        if found != line.content[1:]:
            has = "past its end" if found is None else f"`{found.decode(errors='replace')}`"
            expected = line.content[1:].decode(errors="replace")
            message = (
                f"The hunk would need fuzz: line {position} of {path} is {has}, not `{expected}`."
            )
            return line.number, message
    raise AssertionError("a hunk that does not match has a first difference")


def check_round_trip(
    folder: Path, on_disk: dict[str, bytes], exported: dict[str, bytes], source: str
) -> Iterator[Finding]:
    """Rule on the series: the files are byte for byte what `export` writes from `source`."""
    for name in sorted(on_disk.keys() | exported.keys()):
        file = relative_name(folder / name)
        if name not in exported:
            yield Finding(file, 1, f"No such patch is exported from {source}.")
        elif name not in on_disk:
            yield Finding(file, 1, f"The patch is missing here, but is exported from {source}.")
        elif on_disk[name] != exported[name]:
            number, here, there = _first_different_line(on_disk[name], exported[name])
            yield Finding(file, number, f"`{here}` is exported as `{there}` from {source}.")


def _first_different_line(here: bytes, there: bytes) -> tuple[int, str, str]:
    ours, theirs = here.split(b"\n"), there.split(b"\n")
    shared = min(len(ours), len(theirs))
    at = next((n for n in range(shared) if ours[n] != theirs[n]), shared)
    here_line, there_line = (
        lines[at].decode(errors="replace") if at < len(lines) else "" for lines in (ours, theirs)
    )
    return at + 1, here_line, there_line


def check_folder(folder: Path) -> Iterator[Finding]:
    """Rule on the folder of patches: it holds patches and a cover letter, nothing else."""
    if not any(folder.glob("*.patch")):
        yield Finding(f"patches/{folder.name}", 1, "The folder holds no patches.")
        return
    for path in sorted(folder.iterdir()):
        if path.name != "cover-letter.md" and path.suffix != ".patch":
            message = "The file is neither a patch nor cover-letter.md."
            yield Finding(relative_name(path), 1, message)
