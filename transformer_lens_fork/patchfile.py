"""Reads one patch file into its message, files and hunks, each with the line it stands on.

For the rules of `check`; applying is left to git.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HUNK = re.compile(rb"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_INDEX = re.compile(rb"^index ([0-9a-f]+)\.\.([0-9a-f]+)")
_TRAILER = re.compile(r"^([A-Za-z][A-Za-z-]*):(?:\s+(.*))?$")


class MalformedPatchError(Exception):
    """A file is not what `git format-patch` writes.

    Attributes:
        line: the line at which reading stopped.
    """

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class Line:
    """One line of a patch file, without its line feed; `number` counts from 1."""

    number: int
    content: bytes

    @property
    def text(self) -> str:
        """The content for people."""
        return self.content.decode(errors="replace")


@dataclass(frozen=True)
class Hunk:
    """One hunk.

    Attributes:
        number: line of its header in the patch file.
        start: line of the old file at which its first old line belongs.
        lines: its lines with their marker: blank, `-` or `+`.
    """

    number: int
    start: int
    lines: tuple[Line, ...]

    @property
    def old(self) -> list[Line]:
        """The lines the old file must have, marker included."""
        return [line for line in self.lines if line.content[:1] != b"+"]


@dataclass(frozen=True)
class FileChange:
    """What a patch does to one file.

    Attributes:
        number: line of `diff --git` in the patch file.
        path: the file, relative to the tree.
        index_number: line of `index`.
        before: SHA of the blob before, all zeros for a new file.
        after: SHA of the blob after, all zeros for a deleted file.
        hunks: in the file's order.
    """

    number: int
    path: str
    index_number: int
    before: str
    after: str
    hunks: tuple[Hunk, ...]


@dataclass(frozen=True)
class Patch:
    """A patch file taken apart.

    Attributes:
        path: the file.
        header: mail header, up to the blank line.
        body: message below the subject, up to the diff.
        files: what it changes.
    """

    path: Path
    header: tuple[Line, ...]
    body: tuple[Line, ...]
    files: tuple[FileChange, ...]

    @property
    def reason(self) -> list[Line]:
        """The lines of the message that are neither blank nor trailers."""
        trailing = {line.number for line in self._last_paragraph() if self.trailers}
        return [line for line in self.body if line.text.strip() and line.number not in trailing]

    @property
    def trailers(self) -> list[tuple[Line, str, str]]:
        """Line, key and value of each `Key: value` in the last paragraph, if it is made of them."""
        found: list[tuple[Line, str, str]] = []
        for line in self._last_paragraph():
            if match := _TRAILER.match(line.text):
                found.append((line, match[1], match[2] or ""))
            elif found and line.text.startswith((" ", "\t")):
                first, key, value = found.pop()
                found.append((first, key, f"{value} {line.text.strip()}".strip()))
            else:
                return []
        return found

    def _last_paragraph(self) -> list[Line]:
        paragraph: list[Line] = []
        for line in reversed(self.body):
            if line.text.strip():
                paragraph.insert(0, line)
            elif paragraph:
                break
        return paragraph

    def added(self) -> Iterator[Line]:
        """The lines that the patch adds, marker included."""
        for file in self.files:
            for hunk in file.hunks:
                yield from (line for line in hunk.lines if line.content[:1] == b"+")


def read_patch(path: Path) -> Patch:
    """Takes the patch file at `path` apart.

    Raises:
        MalformedPatchError: it is not what `git format-patch` writes.
    """
    contents = path.read_bytes().split(b"\n")
    lines = [Line(number, content) for number, content in enumerate(contents, 1)]
    if lines[-1].content:
        raise MalformedPatchError(len(lines), "the file does not end with a line feed")
    lines.pop()
    if not lines or not lines[0].content.startswith(b"From "):
        raise MalformedPatchError(1, "a patch starts with `From `, as `git format-patch` writes it")
    blank = next((n for n, line in enumerate(lines) if not line.content), len(lines))
    starts = [n for n, line in enumerate(lines) if line.content.startswith(b"diff --git ")]
    if not starts:
        raise MalformedPatchError(len(lines), "the patch changes no file")
    sections = [lines[a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)]
    return Patch(
        path=path,
        header=tuple(lines[: min(blank, starts[0])]),
        body=tuple(lines[blank + 1 : starts[0]]),
        files=tuple(_file_change(section) for section in sections),
    )


def _file_change(section: list[Line]) -> FileChange:
    head = section[0]
    # Renames are never written, so both names are the same and half of the rest is one.
    names = head.text.removeprefix("diff --git ")
    path = names[2 : len(names) // 2]
    if names != f"a/{path} b/{path}":
        message = f"`{head.text}` does not name one plain file twice"
        raise MalformedPatchError(head.number, message)
    first = next((n for n, line in enumerate(section) if _HUNK.match(line.content)), len(section))
    for line in section[:first]:
        if line.content.startswith((b"GIT binary patch", b"Binary files")):
            raise MalformedPatchError(
                line.number, f"{path} is binary; patches of text are accepted"
            )
    for line in section[:first]:
        if match := _INDEX.match(line.content):
            before, after = match[1].decode(), match[2].decode()
            hunks = _hunks(section[first:])
            return FileChange(head.number, path, line.number, before, after, hunks)
    raise MalformedPatchError(head.number, f"{path} has no `index` line with its blob SHAs")


def _hunks(lines: list[Line]) -> tuple[Hunk, ...]:
    hunks = []
    while lines:
        match = _HUNK.match(lines[0].content)
        if not match:
            raise MalformedPatchError(lines[0].number, f"`{lines[0].text}` is not part of a hunk")
        old, new = (int(match[n]) if match[n] is not None else 1 for n in (2, 4))
        end = _end_of_hunk(lines, old, new)
        # git counts lines from 1, and names the line before where nothing old is in the hunk.
        start = int(match[1]) + (1 if old == 0 else 0)
        body = (line for line in lines[1:end] if not _is_note(line))
        hunks.append(Hunk(lines[0].number, start, tuple(body)))
        lines = lines[end:]
    return tuple(hunks)


def _end_of_hunk(lines: list[Line], old: int, new: int) -> int:
    """How many of `lines` belong to the hunk whose header says `old` and `new` lines."""
    for end, line in enumerate(lines[1:], 1):
        if _is_note(line):
            continue
        if old == new == 0:
            return end
        marker = line.content[:1]
        if marker not in (b" ", b"-", b"+"):
            message = f"the hunk of line {lines[0].number} ends before its line counts do"
            raise MalformedPatchError(line.number, message)
        old -= marker != b"+"
        new -= marker != b"-"
    if old or new:
        message = f"the hunk of line {lines[0].number} ends before its line counts do"
        raise MalformedPatchError(lines[-1].number, message)
    return len(lines)


def _is_note(line: Line) -> bool:
    # `\ No newline at end of file`
    return line.content.startswith(b"\\")
