"""Reads config.json and refuses what is no Llama that can be judged, before transformers acts."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from transformer_lens_fork.errors import InputError
from validation.imports import import_uncollected
from validation.models.refusals import read_json_object, reason, shown
from validation.models.rope_parameters import (
    MOST_POSITIONS,
    describe_difference,
    read_rope,
    read_rope_of_file,
)

# Several times the largest Llama's (405B: 126 layers, 128 heads, width 53,248, 128,256 tokens);
# numbers far beyond would only make transformers overflow or loop for hours.
_Width = Annotated[int, Field(ge=1, le=2**20)]
_Heads = Annotated[int, Field(ge=1, le=2**12)]
_Layers = Annotated[int, Field(ge=1, le=2**10)]
_Positions = Annotated[int, Field(ge=1, le=MOST_POSITIONS)]
_Epsilon = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class _LlamaFields(BaseModel):
    # Of the fields that decide what is computed; what is not given gets transformers' default.
    model_config = ConfigDict(strict=True, extra="allow")

    model_type: str
    vocab_size: _Width = 32000
    hidden_size: _Width = 4096
    intermediate_size: _Width = 11008
    num_hidden_layers: _Layers = 32
    num_attention_heads: _Heads = 32
    num_key_value_heads: _Heads | None = None
    head_dim: _Heads | None = None
    max_position_embeddings: _Positions = 2048
    rms_norm_eps: _Epsilon = 1e-6
    hidden_act: str = "silu"
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        heads, groups = self.num_attention_heads, self.num_key_value_heads
        if groups is not None and heads % groups:
            raise ValueError(
                f"num_attention_heads is {heads}; a multiple of num_key_value_heads, {groups}, is "
                "accepted"
            )
        head_dim = self.head_dim or self.hidden_size // heads
        if head_dim == 0 or head_dim % 2:
            raise ValueError(f"head_dim is {head_dim}; an even number is accepted")
        return self


def read_configuration(spec: str, path: Path) -> Any:
    """The `LlamaConfig` in the folder `path`, each field that matters validated.

    Args:
        spec: what the user called the checkpoint.
        path: its folder.

    Raises:
        InputError: there is none, it is damaged, or not of a Llama with llama3 RoPE scaling.
    """
    file = path / "config.json"
    if not file.is_file():
        raise InputError(
            f"--checkpoint: {shown(spec)} has no config.json; a Llama checkpoint has one."
        )
    content = read_json_object("--checkpoint", file)
    _refuse_fields(spec, content)
    rope = read_rope_of_file(spec, content)
    config = _interpreted(spec, path)
    read_rope(spec, config)  # refuses what this transformers would not honour
    # Computing the frequencies, transformers 5 lets fields beside the table overrule it.
    _refuse_frequencies_out_of_range(spec, config)
    if (understood := read_rope(spec, config)) != rope:
        raise InputError(
            f"--checkpoint: in config.json of {shown(spec)}, another field overrules the RoPE "
            f"table: {describe_difference(rope, understood)}; one value is accepted."
        )
    return config


def _refuse_fields(spec: str, content: dict[str, Any]) -> None:
    model_type = content.get("model_type")
    if model_type != "llama":
        raise InputError(
            f"--checkpoint: model_type of {shown(spec)} is {shown(model_type)}; 'llama' is "
            "accepted."
        )
    if (quantised := content.get("quantization_config")) is not None:
        raise InputError(
            f"--checkpoint: quantization_config of {shown(spec)} is {shown(quantised)}; weights "
            "that are not quantised are accepted."
        )
    try:
        _LlamaFields.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        says = problem["msg"].removeprefix("Value error, ")
        if problem["loc"]:
            says = f"{problem['loc'][0]} is {shown(problem['input'])}: {says}"
        raise InputError(f"--checkpoint: in config.json of {shown(spec)}, {says}.") from None


def _interpreted(spec: str, path: Path) -> Any:
    import_uncollected("transformers.models.llama.configuration_llama")
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises whatever the fields that it reads lead to
        raise InputError(
            f"--checkpoint: config.json of {shown(spec)} is not accepted: {reason(error)}."
        ) from None
    return config


def _refuse_frequencies_out_of_range(spec: str, config: Any) -> None:
    import torch
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    inv_freq, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    if not torch.isfinite(inv_freq).all():
        raise InputError(
            f"--checkpoint: the RoPE parameters of {shown(spec)}, {read_rope(spec, config)}, give "
            "frequencies that fp32 cannot hold; finite ones are accepted."
        )
