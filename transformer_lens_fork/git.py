"""Runs git so that the outcome depends on its arguments alone.

The user's and the system's configuration, `GIT_*` variables (set in hooks), hooks, signing, locale
and templates do not reach it.
"""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from transformer_lens_fork.errors import VerificationError

BRANCH = "llama31-rope"

# Beside a tree's own `.git/config`, which the developer may edit, these win.
_CONFIGURATION = {
    "core.autocrlf": "false",
    "core.eol": "lf",
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.quotePath": "true",
    # Both default to files below XDG_CONFIG_HOME, which GIT_CONFIG_GLOBAL does not switch off.
    "core.attributesFile": "/dev/null",
    "core.excludesFile": "/dev/null",
    "commit.gpgSign": "false",
    "i18n.commitEncoding": "UTF-8",
    "i18n.logOutputEncoding": "UTF-8",
    # A background repack would race with the removal of a temporary repository.
    "gc.auto": "0",
    "maintenance.auto": "false",
}

_ATTRIBUTES = "* -text -ident -filter -working-tree-encoding -eol\n"
"""Keeps every byte as it is; `info/attributes` outranks a tree's own `.gitattributes`."""

EXPENDABLE = (
    "__pycache__/",
    "*.pyc",
    ".pytest_cache/",
    ".hypothesis/",
    ".mypy_cache/",
    ".ruff_cache/",
)
"""What tools leave behind in a tree: neither work nor worth a question."""


class GitError(VerificationError):
    """A git command failed; the message is what git printed."""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The process's environment without what would steer git, plus `extra`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        # To look at a developer's tree is not to write to its index.
        "GIT_OPTIONAL_LOCKS": "0",
        "LC_ALL": "C",
        **(extra or {}),
    }


@dataclass(frozen=True)
class Repository:
    """One git repository, always addressed by its own folder.

    git is never left to search upwards: a tree without `.git` would become the repository around.

    Attributes:
        git_dir: the `.git` folder (or the file that stands for it).
        work_tree: the checked out files; None for a bare repository.
    """

    git_dir: Path
    work_tree: Path | None = None

    @classmethod
    def at(cls, folder: Path) -> "Repository":
        """The repository whose working tree is `folder`."""
        return cls(folder / ".git", folder)

    @classmethod
    def create(cls, folder: Path) -> "Repository":
        """Makes an empty repository in the existing `folder`, that keeps every byte as it is."""
        repository = cls.at(folder)
        repository.git_dir.mkdir()
        # No template: a user's could bring hooks. SHA-1: the pinned commits are.
        repository.run(
            "init", "--quiet", "--template=", "--object-format=sha1", f"--initial-branch={BRANCH}"
        )
        # The developer's own git, with the developer's own configuration, works in there too.
        for name in ("core.autocrlf", "core.eol"):
            repository.run("config", name, _CONFIGURATION[name])
        information = repository.git_dir / "info"
        information.mkdir(exist_ok=True)
        (information / "attributes").write_text(_ATTRIBUTES, encoding="utf-8")
        (information / "exclude").write_text("\n".join([*EXPENDABLE, ""]), encoding="utf-8")
        return repository

    @classmethod
    def create_bare(cls, folder: Path, objects: Path) -> "Repository":
        """Makes a bare repository in `folder` that sees the `objects` of another one.

        Neither that one's configuration nor its attributes apply.
        """
        repository = cls(folder)
        repository.run("init", "--quiet", "--bare", "--template=", "--object-format=sha1")
        (folder / "objects" / "info" / "alternates").write_text(f"{objects.resolve()}\n")
        return repository

    def run(
        self, *arguments: str, stdin: bytes = b"", variables: Mapping[str, str] | None = None
    ) -> bytes:
        """Runs one git command and returns what it printed.

        Raises:
            GitError: its exit status was not 0.
        """
        command = ["git", f"--git-dir={self.git_dir}"]
        if self.work_tree is not None:
            command.append(f"--work-tree={self.work_tree}")
        for name, value in _CONFIGURATION.items():
            command += ["-c", f"{name}={value}"]
        try:
            result = subprocess.run(
                [*command, *arguments],
                cwd=self.work_tree or self.git_dir,
                env=environment(variables),
                input=stdin,
                capture_output=True,
                check=False,
            )
        except FileNotFoundError as error:
            raise GitError(f"git cannot be run: {error.strerror}: {error.filename}") from None
        if result.returncode != 0:
            said = (result.stderr or result.stdout).decode(errors="replace").strip()
            # A signal leaves it no time to say anything.
            raise GitError(said or f"git {arguments[0]} ended with status {result.returncode}")
        return result.stdout

    def text(self, *arguments: str) -> str:
        """What one git command printed, as text without surrounding white space."""
        return self.run(*arguments).decode(errors="replace").strip()

    def lines(self, *arguments: str) -> list[str]:
        """The lines one git command printed."""
        return self.run(*arguments).decode(errors="replace").splitlines()

    def succeeds(self, *arguments: str) -> bool:
        """Whether one git command ends with exit status 0."""
        try:
            self.run(*arguments)
        except GitError:
            return False
        return True

    def resolve(self, revision: str) -> str | None:
        """The commit that `revision` names, or None."""
        try:
            return self.text("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
        except GitError:
            return None

    def blob(self, commit: str, path: str) -> bytes | None:
        """The file at `path` in `commit`, or None."""
        try:
            return self.run("cat-file", "blob", f"{commit}:{path}")
        except GitError:
            return None
