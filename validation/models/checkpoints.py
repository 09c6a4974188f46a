"""Finds a checkpoint and refuses, before any model loads, one that cannot be judged."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from transformer_lens_fork.errors import InputError
from validation.models.hashing import files_sha256
from validation.models.smollm2 import smollm2_folder

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_INDEX = "model.safetensors.index.json"


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


@dataclass(frozen=True)
class Checkpoint:
    """Weights and configuration of one Llama.

    Attributes:
        name: what the user called it.
        path: folder with `config.json` and safetensors.
        sha256: over the names and contents of these files.
        positions: tokens of context it accepts.
        vocab_size: rows of its embedding.
        n_layers: decoder layers.
        rope: its position encoding.
        has_tokenizer: whether text can be tokenised for it.
    """

    name: str
    path: Path
    sha256: str
    positions: int
    vocab_size: int
    n_layers: int
    rope: Llama3Rope
    has_tokenizer: bool


def resolve_checkpoint(spec: str, report: Callable[[str], None]) -> Checkpoint:
    """The checkpoint that `spec` names.

    Args:
        spec: `smollm2`, a folder, or an id on the hub.
        report: receives what is being done, for people.

    Raises:
        InputError: it is missing, damaged, or not a Llama with llama3 RoPE scaling.
    """
    path = _find(spec, report).absolute()
    config = _read_config(spec, path)
    weights = _weight_files(spec, path)
    _check_weights(spec, config, weights)
    report(f"hashing {spec}")
    return Checkpoint(
        name=spec,
        path=path,
        sha256=files_sha256(path, [path / "config.json", *weights]),
        positions=config.max_position_embeddings,
        vocab_size=config.vocab_size,
        n_layers=config.num_hidden_layers,
        rope=read_rope(spec, config),
        has_tokenizer=any((path / name).exists() for name in ("tokenizer.json", "tokenizer.model")),
    )


def _find(spec: str, report: Callable[[str], None]) -> Path:
    if spec == "smollm2":
        return smollm2_folder(report)
    if (path := Path(spec).expanduser()).is_dir():
        return path
    if path.exists() or not _HUB_ID.fullmatch(spec):
        raise InputError(
            f"--checkpoint: {spec!r} is no folder; 'smollm2', a folder with config.json and "
            "safetensors, or a hub id such as meta-llama/Llama-3.1-8B is accepted."
        )
    return _fetch_from_hub(spec, report)


def _fetch_from_hub(spec: str, report: Callable[[str], None]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    report(f"fetching {spec} from the hub")
    patterns = ["*.json", "*.safetensors", "tokenizer.model"]
    try:
        return Path(snapshot_download(spec, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"--checkpoint: {spec!r} is no folder here and the hub does not give it: {reason}"
        ) from None


def _read_config(spec: str, path: Path) -> Any:
    from transformers import AutoConfig

    if not (path / "config.json").is_file():
        raise InputError(f"--checkpoint: {spec!r} has no config.json; a Llama checkpoint has one.")
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True)
    except (ValueError, KeyError, TypeError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"--checkpoint: config.json of {spec!r} is not accepted: {reason}"
        ) from None
    if config.model_type != "llama":
        raise InputError(
            f"--checkpoint: model_type of {spec!r} is {config.model_type!r}; 'llama' is accepted."
        )
    return config


def read_rope(spec: str, config: Any) -> Llama3Rope:
    """The llama3 RoPE parameters of a `LlamaConfig`.

    Raises:
        InputError: another RoPE type, or a parameter is missing.
    """
    # transformers 5 keeps all in rope_parameters, 4 in rope_theta and rope_scaling.
    fields = getattr(config, "rope_parameters", None)
    if fields is None:
        fields = {"rope_theta": config.rope_theta, **(config.rope_scaling or {})}
    rope_type = fields.get("rope_type", fields.get("type", "default"))
    if rope_type != "llama3":
        raise InputError(
            f"--checkpoint: rope_type of {spec!r} is {rope_type!r}; 'llama3' is accepted."
        )
    try:
        return Llama3Rope(
            theta=fields["rope_theta"],
            factor=fields["factor"],
            low_freq_factor=fields["low_freq_factor"],
            high_freq_factor=fields["high_freq_factor"],
            original_positions=fields["original_max_position_embeddings"],
        )
    except KeyError as error:
        raise InputError(
            f"--checkpoint: {error.args[0]} is missing from the llama3 RoPE scaling of {spec!r}."
        ) from None


def _weight_files(spec: str, path: Path) -> list[Path]:
    index = path / _INDEX
    single = path / "model.safetensors"
    # In this order: transformers loads the single file where there are both.
    if single.is_file() or not index.is_file():
        files = [single]
    else:
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError) as error:
            raise InputError(f"--checkpoint: {index} is damaged: {error}.") from None
        files = sorted(path / name for name in names)
    for file in files:
        if not file.is_file():
            raise InputError(f"--checkpoint: {file} is missing; safetensors weights are needed.")
    return files


def _check_weights(spec: str, config: Any, files: list[Path]) -> None:
    found: dict[str, list[int]] = {}
    for file in files:
        try:
            with safe_open(file, framework="numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - no dict
                    found[name] = tensors.get_slice(name).get_shape()
        except (SafetensorError, OSError) as error:
            raise InputError(f"--checkpoint: {file} is corrupt or truncated: {error}.") from None
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        rows = found.get(name, [config.vocab_size])[0]
        if rows != config.vocab_size:
            raise InputError(
                f"--checkpoint: {name} of {spec!r} has a vocabulary of {rows}, its config.json "
                f"says vocab_size {config.vocab_size}; they must be the same."
            )
    for name, shape in _expected_shapes(config).items():
        # transformers would fill a missing tensor with random numbers, and go on.
        if found.get(name) != shape:
            raise InputError(
                f"--checkpoint: {name} of {spec!r} has shape {found.get(name, 'none')}; its "
                f"config.json asks for {shape}."
            )


def _expected_shapes(config: Any) -> dict[str, list[int]]:
    """What `transformers` reads for this configuration, by name, without allocating it."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        shapes.pop("lm_head.weight", None)
    return shapes
