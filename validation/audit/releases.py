"""Which releases there are, which are asked for, and what each is run with."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, Field, field_validator

from transformer_lens_fork.errors import InputError, VerificationError
from validation.execution.asked import split_words
from validation.execution.jobs import AttentionName

TABLE = Path(__file__).with_name("releases.toml")

FIRST = Version("2.7.0")
"""The release before the first that names Llama 3.1."""

ModelName = Literal["HookedTransformer", "TransformerBridge"]

_ATTENTIONS: dict[ModelName, tuple[AttentionName, ...]] = {
    "HookedTransformer": ("eager",),
    "TransformerBridge": ("eager", "sdpa"),
}


class Generation(BaseModel):
    """Releases that are run alike; see `releases.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    releases: str
    model: ModelName
    transformers: Annotated[str, Field(pattern=r"^\d+(\.\d+)+$")]
    beside: tuple[str, ...]
    why: Annotated[str, Field(pattern=r"^[^\n]+$")]

    @field_validator("releases")
    @classmethod
    def _is_range(cls, value: str) -> str:
        try:
            SpecifierSet(value)
        except InvalidSpecifier:
            raise ValueError("a version range such as '>=2.7,<3' is accepted") from None
        return value

    @property
    def attentions(self) -> tuple[AttentionName, ...]:
        """Those that its model can be asked for."""
        return _ATTENTIONS[self.model]


def load_generations() -> tuple[Generation, ...]:
    """The tables, in the file's order."""
    tables = tomllib.loads(TABLE.read_text(encoding="utf-8"))["generation"]
    return tuple(map(Generation.model_validate, tables))


def generation_of(release: str) -> Generation | None:
    """How a release is run, None if no table says."""
    found = (g for g in load_generations() if SpecifierSet(g.releases).contains(release))
    return next(found, None)


def choose_releases(text: str | None) -> tuple[str, ...]:
    """The releases that a command line names, ascending.

    Args:
        text: releases and ranges between commas, such as `2.8.0,2.15:3.1`; None for all from
            `FIRST` on. Only ranges ask the package index.

    Raises:
        InputError: a word is no version, too old, or a range without a release.
        VerificationError: pip cannot list the releases.
    """
    if text is None:
        return _sorted(version for version in _listed() if version >= FIRST)
    chosen: set[Version] = set()
    for word in split_words("--releases", text):
        first, colon, last = word.partition(":")
        low = _parse(first, word)
        if not colon:
            chosen.add(low)
            continue
        high = _parse(last, word)
        found = {version for version in _listed() if low <= version <= high}
        if not found:
            raise InputError(f"--releases: no release on PyPI is in {word!r}; one with some is.")
        chosen |= found
    return _sorted(chosen)


def _parse(text: str, word: str) -> Version:
    try:
        version = Version(text)
    except InvalidVersion:
        raise InputError(
            f"--releases: {word!r} is not accepted; a release such as 2.9.0, or a range such as "
            "2.8.0:2.15.4, is."
        ) from None
    if version < FIRST:
        raise InputError(f"--releases: {word!r} is not accepted; {FIRST} and later are.")
    return version


def _listed() -> list[Version]:
    command = [sys.executable, "-m", "pip", "index", "versions", "transformer-lens", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise VerificationError(
            "--releases: pip cannot list the releases of transformer-lens, which only single "
            "releases such as 2.9.0 do without."
        )
    return [Version(text) for text in json.loads(result.stdout)["versions"]]


def _sorted(versions: Iterable[Version]) -> tuple[str, ...]:
    return tuple(map(str, sorted(versions)))
