"""A package of two functions in a repository, as a fork is one."""

from pathlib import Path

import pytest

from transformer_lens_fork.git import Repository

BEFORE = """
def untouched(x):
    return x + 1


class Scale:
    @property
    def limit(self):
        return 1

    def times(self, x: "int | None", factor=2):
        return x * factor
"""
AFTER = BEFORE.replace("return x * factor", "return x * factor - self.limit")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with the tag `base` and one commit that changes `Scale.times`."""
    repository = Repository.create(tmp_path)
    module = tmp_path / "transformer_lens" / "scale.py"
    module.parent.mkdir()
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    for text, message in ((BEFORE, "base"), (AFTER, "patch")):
        module.write_text(text, encoding="utf-8")
        repository.run("add", "--all")
        repository.run(*identity, "commit", "--quiet", f"--message={message}")
        if message == "base":
            repository.run("tag", "base")
    return tmp_path
