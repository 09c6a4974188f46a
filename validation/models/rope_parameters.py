"""Llama 3.1's RoPE parameters, read from a configuration, and nothing else accepted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from transformer_lens_fork.errors import InputError
from validation.models.refusals import shown

MOST_POSITIONS = 2**24
"""Beyond it fp32 has no exact number for every position, and RoPE forms angles in fp32."""

_DEFAULT_THETA = 10000.0
"""What `transformers` takes where `rope_theta` is not given."""

# The largest fp32: frequencies are formed in that dtype.
_Positive = Annotated[float, Field(gt=0, le=3.4028234663852886e38, allow_inf_nan=False)]


@dataclass(frozen=True)
class Llama3Rope:
    """RoPE as Llama 3.1 scales it (HF `modeling_rope_utils.py`, `_compute_llama3_parameters`).

    Attributes:
        theta: base of the geometric sequence of frequencies.
        factor: by which low frequencies are divided.
        low_freq_factor: wavelengths above `original_positions / low_freq_factor` are scaled fully.
        high_freq_factor: wavelengths below `original_positions / high_freq_factor` are kept.
        original_positions: tokens of context before the scaling.
    """

    theta: float
    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_positions: int


LLAMA_31 = Llama3Rope(500_000.0, 8.0, 1.0, 4.0, 8192)
LLAMA_32 = Llama3Rope(500_000.0, 32.0, 1.0, 4.0, 8192)

_NAMES = {
    "theta": "rope_theta",
    "factor": "factor",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "original_positions": "original_max_position_embeddings",
}
"""Attributes of `Llama3Rope`, and what config.json calls them."""


class _Fields(BaseModel):
    # Forbidding the rest: a field that is not honoured would be a difference nobody is told of.
    model_config = ConfigDict(strict=True, extra="forbid")

    rope_type: Literal["llama3"] = "llama3"
    type: Literal["llama3"] = "llama3"
    rope_theta: _Positive
    factor: _Positive
    low_freq_factor: _Positive
    high_freq_factor: _Positive
    original_max_position_embeddings: Annotated[int, Field(ge=1, le=MOST_POSITIONS)]
    partial_rotary_factor: float = 1.0

    @model_validator(mode="after")
    def _is_whole_and_defined(self) -> "_Fields":
        if self.partial_rotary_factor != 1:
            raise ValueError(
                f"partial_rotary_factor is {self.partial_rotary_factor:g}; 1 is accepted"
            )
        if self.low_freq_factor == self.high_freq_factor:
            # Between the two lies the smooth part, with their difference as its denominator.
            raise ValueError(
                f"low_freq_factor and high_freq_factor are both {self.low_freq_factor:g}; two "
                "values that differ are accepted"
            )
        return self


def read_rope(spec: str, config: Any) -> Llama3Rope:
    """The llama3 RoPE parameters of a `LlamaConfig`, as `transformers` understood them.

    Args:
        spec: what the user called the checkpoint.
        config: from `AutoConfig`.

    Raises:
        InputError: another RoPE type, or a parameter is missing, unknown or out of range.
    """
    if _knows_rope_parameters(config):
        return _validated(spec, config.rope_parameters or {})
    # transformers 4: rope_theta and rope_scaling. What a file of transformers 5 calls
    # rope_parameters becomes an attribute that nothing reads.
    if not config.rope_scaling and getattr(config, "rope_parameters", None):
        raise InputError(
            f"--checkpoint: config.json of {shown(spec)} has rope_parameters, which the installed "
            "transformers does not read; rope_scaling and rope_theta are accepted."
        )
    fields: dict[str, Any] = {**(config.rope_scaling or {}), "rope_theta": config.rope_theta}
    if (partial := getattr(config, "partial_rotary_factor", None)) is not None:
        fields.setdefault("partial_rotary_factor", partial)
    return _validated(spec, fields)


def read_rope_of_file(spec: str, content: Mapping[str, Any]) -> Llama3Rope:
    """The same of the object in config.json, before `transformers` interprets it.

    Raises:
        InputError: as `read_rope`; or two tables contradict each other.
    """
    tables = {
        name: content[name]
        for name in ("rope_scaling", "rope_parameters")
        if content.get(name) is not None
    }
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise InputError(
                f"--checkpoint: {name} in config.json of {shown(spec)} is {shown(table)}; an "
                "object is accepted."
            )
    if len(tables) == 2 and tables["rope_scaling"] != tables["rope_parameters"]:
        raise InputError(
            f"--checkpoint: rope_scaling and rope_parameters in config.json of {shown(spec)} "
            "differ; one of them, or two that are equal, is accepted."
        )
    fields: dict[str, Any] = {"rope_theta": content.get("rope_theta", _DEFAULT_THETA)}
    if (partial := content.get("partial_rotary_factor")) is not None:
        fields["partial_rotary_factor"] = partial
    for table in tables.values():
        fields |= table
    return _validated(spec, fields)


def describe_difference(one: Llama3Rope, other: Llama3Rope) -> str:
    """The values that differ, by their names in config.json."""
    return ", ".join(
        f"{theirs} is {getattr(one, ours)} and {getattr(other, ours)}"
        for ours, theirs in _NAMES.items()
        if getattr(one, ours) != getattr(other, ours)
    )


def _knows_rope_parameters(config: Any) -> bool:
    return "rope_parameters" in getattr(type(config), "__dataclass_fields__", {})


def _validated(spec: str, fields: Mapping[str, Any]) -> Llama3Rope:
    _refuse_another_type(spec, fields)
    try:
        _Fields.model_validate(dict(fields))
    except ValidationError as error:
        raise InputError(_first_problem(spec, error)) from None
    # The numbers as they are in the file: an int stays an int, as it does for transformers.
    return Llama3Rope(**{ours: fields[theirs] for ours, theirs in _NAMES.items()})


def _refuse_another_type(spec: str, fields: Mapping[str, Any]) -> None:
    rope_type = fields.get("rope_type", fields.get("type", "default"))
    if rope_type != "llama3":
        raise InputError(
            f"--checkpoint: rope_type of {shown(spec)} is {shown(rope_type)}; 'llama3' is accepted."
        )
    if fields.get("type", rope_type) != rope_type:
        raise InputError(
            f"--checkpoint: rope_type of {shown(spec)} is {shown(rope_type)} and its type "
            f"{shown(fields['type'])}; 'llama3' in both, or in one of them, is accepted."
        )


def _first_problem(spec: str, error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    says = problem["msg"].removeprefix("Value error, ")
    where = f"the llama3 RoPE scaling of {shown(spec)}"
    if not problem["loc"]:
        return f"--checkpoint: in {where}, {says}."
    name = shown(problem["loc"][0]).strip("'")
    if problem["type"] == "missing":
        return f"--checkpoint: {name} is missing from {where}."
    if problem["type"] == "extra_forbidden":
        accepted = ", ".join(_Fields.model_fields)
        return f"--checkpoint: {where} has {name}; accepted are {accepted}."
    return f"--checkpoint: {name} in {where} is {shown(problem['input'])}: {says}."
