"""The pins in `bases.toml`: which upstream releases are patched, and what their patches may do."""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Self

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    field_validator,
    model_validator,
)

from transformer_lens_fork.errors import InputError

PINS = Path(__file__).with_name("bases.toml")

REPOSITORY = PINS.parent.parent
"""The folder that holds `patches/` and `transformer_lens_fork/`, unless a caller names another."""


class Base(BaseModel):
    """One upstream release that we patch.

    Attributes:
        name: its key in `bases.toml`; also the name of its folder of patches and of its fork.
        sdist_sha256: hash of the tarball on PyPI.
        base_commit: git commit the tarball becomes; the same on every machine.
        commit_date: author and committer date of that commit.
        transformers: version range of `transformers` it runs with.
        why: one line on why this release is patched.
        loads_checkpoints: whether the fork itself loads a local Llama checkpoint folder.
        has_hooked_transformer: whether there is a HookedTransformer to judge.
        extra_requirements: what it imports without declaring it.
        type_checked: modules whose types upstream's suite checks at run time, with all in them.
        allowed: globs of the files its patches may touch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # The name becomes a path: the pattern keeps `..` and `/` out of it.
    name: Annotated[str, Field(pattern=r"^v\d+(\.\d+)+$")]
    version: str
    sdist_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    base_commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    commit_date: AwareDatetime
    transformers: str
    why: Annotated[str, Field(pattern=r"^[^\n]+$")]
    loads_checkpoints: StrictBool
    has_hooked_transformer: StrictBool = True
    extra_requirements: tuple[str, ...] = ()
    type_checked: Annotated[tuple[str, ...], Field(min_length=1)] = ("transformer_lens",)
    allowed: Annotated[tuple[str, ...], Field(min_length=1)]

    @field_validator("transformers")
    @classmethod
    def _is_range(cls, value: str) -> str:
        try:
            SpecifierSet(value)
        except InvalidSpecifier:
            raise ValueError("a version range such as '>=5.9,<6' is accepted") from None
        return value

    @field_validator("extra_requirements")
    @classmethod
    def _are_requirements(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for requirement in value:
            try:
                Requirement(requirement)
            except InvalidRequirement:
                message = f"{requirement!r} is not a requirement such as 'typeguard>=4'"
                raise ValueError(message) from None
        return value

    @model_validator(mode="after")
    def _name_is_version(self) -> Self:
        if self.name != f"v{self.version}":
            raise ValueError(f"version {self.version!r} belongs under the name 'v{self.version}'")
        return self

    def allows(self, path: str) -> bool:
        """Whether patches may touch the file at `path`, relative to the sdist's top folder."""
        return any(_as_regex(glob).fullmatch(path) for glob in self.allowed)


def _as_regex(glob: str) -> re.Pattern[str]:
    # Not fnmatch: there `*` crosses `/`.
    wildcards = {"**": ".*", "*": "[^/]*"}
    pieces = re.split(r"(\*\*|\*)", glob)
    return re.compile("".join(wildcards.get(piece, re.escape(piece)) for piece in pieces))


def load_bases(pins: Path | None = None) -> dict[str, Base]:
    """Reads and validates the pins.

    Args:
        pins: a file like `bases.toml`; by default that file.

    Returns:
        Every base by its name, in the file's order.

    Raises:
        InputError: naming the field, its value and what is accepted.
    """
    pins = pins or PINS
    try:
        tables = tomllib.loads(pins.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{pins.name} is not TOML: {error}.") from None
    bases = {}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise InputError(f"{pins.name}: {name} is {table!r}; a table for one base is accepted.")
        try:
            bases[name] = Base.model_validate({"name": name} | table)
        except ValidationError as error:
            raise InputError(_first_problem(pins, name, error)) from None
    return bases


def _first_problem(pins: Path, name: str, error: ValidationError) -> str:
    # A misspelt field is also a missing one: its own name says more.
    problems = sorted(
        error.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden"
    )
    problem = problems[0]
    field = ".".join([name, *map(str, problem["loc"])])
    if problem["type"] == "missing":
        return f"{pins.name}: {field} is missing."
    accepted = ", ".join(field for field in Base.model_fields if field != "name")
    reason = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        reason = f"the fields are {accepted}"
    value = "" if isinstance(problem["input"], dict) else f" is {problem['input']!r}"
    return f"{pins.name}: {field}{value}: {reason}."


def get_base(name: str) -> Base:
    """The base called `name`, for example `v3.9.0`.

    Raises:
        InputError: there is none; the message lists those there are.
    """
    bases = load_bases()
    if name not in bases:
        raise InputError(f"BASE is {name!r}; accepted are {', '.join(bases)}.")
    return bases[name]
