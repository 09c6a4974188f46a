"""Reads the headers of safetensors files and refuses weights that do not fit the configuration."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from transformer_lens_fork.errors import InputError
from validation.models.refusals import read_json_object, reason, shown

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

_FILE_NAME = re.compile(r"[ -.0-~]{1,200}\.safetensors")
"""Printable ASCII without a slash: nothing outside the folder is ever read."""

_DTYPES = ("F16", "BF16", "F32", "F64")
"""Of weights as they are; integers and 8-bit floats need scales that nothing here applies."""


def weight_files(path: Path) -> list[Path]:
    """The safetensors files that `transformers` would load from the folder `path`.

    Raises:
        InputError: one is missing, or the index is damaged.
    """
    # In this order: transformers loads the single file where there are both.
    if (path / SINGLE).is_file() or not (path / INDEX).is_file():
        names = [SINGLE]
    else:
        names = sorted(set(_read_index(path / INDEX).values()))
    for name in names:
        if not (path / name).is_file():
            raise InputError(
                f"--checkpoint: {shown(str(path / name))} is missing; safetensors weights are "
                "needed."
            )
    return [path / name for name in names]


def check_weights(spec: str, config: Any, files: list[Path]) -> None:
    """Compares the tensors in `files` with what the configuration asks for, by name and shape.

    Raises:
        InputError: a file is damaged, or a tensor is missing or is another one.
    """
    found: dict[str, tuple[list[int], str]] = {}
    for file in files:
        held = _read_header(file)
        if repeated := sorted(found.keys() & held.keys()):
            raise InputError(
                f"--checkpoint: {repeated[0]} of {shown(spec)} is in more than one file; once is "
                "accepted."
            )
        found |= held
        _refuse_wrong_index(file, held)
    shapes = {name: shape for name, (shape, _) in found.items()}
    _refuse_another_vocabulary(spec, config, shapes)
    for name, shape in _expected_shapes(spec, config).items():
        # transformers would fill a missing tensor with random numbers, and go on.
        if shapes.get(name) != shape:
            raise InputError(
                f"--checkpoint: {name} of {shown(spec)} has shape {shapes.get(name, 'none')}; its "
                f"config.json asks for {shape}."
            )
        if (dtype := found[name][1]) not in _DTYPES:
            raise InputError(
                f"--checkpoint: {name} of {shown(spec)} has dtype {dtype}; {', '.join(_DTYPES)} "
                "are accepted."
            )
    if config.tie_word_embeddings and "lm_head.weight" in found:
        _refuse_another_head(spec, files)


def _refuse_another_head(spec: str, files: list[Path]) -> None:
    """Transformers leaves two that differ untied, with a warning: the configuration is wrong."""
    names = {"model.embed_tokens.weight", "lm_head.weight"}
    both: list[Tensor] = []
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            both += [tensors.get_tensor(name) for name in names.intersection(tensors.keys())]
    if not torch.equal(*(each.float() for each in both)):
        raise InputError(
            f"--checkpoint: lm_head.weight of {shown(spec)} is not its embedding, and its "
            "config.json says tie_word_embeddings; false is accepted, or no lm_head.weight."
        )


def _read_index(index: Path) -> dict[str, str]:
    content = read_json_object("--checkpoint", index)
    table = content.get("weight_map")
    if not isinstance(table, dict) or not table:
        raise InputError(
            f"--checkpoint: {shown(str(index))} is damaged: weight_map is {shown(table)}; a table "
            "of tensors and their files is accepted."
        )
    for tensor, name in table.items():
        if not isinstance(name, str) or not _FILE_NAME.fullmatch(name):
            raise InputError(
                f"--checkpoint: {shown(str(index))} is damaged: the file of {shown(tensor)} is "
                f"{shown(name)}; the name of a safetensors file beside it is accepted."
            )
    if not isinstance(content.get("metadata"), dict):  # transformers stumbles over it
        raise InputError(
            f"--checkpoint: {shown(str(index))} is damaged: metadata is "
            f"{shown(content.get('metadata'))}; an object is accepted."
        )
    return table


def _read_header(file: Path) -> dict[str, tuple[list[int], str]]:
    """Shape and dtype of each tensor, by name."""
    try:
        with safe_open(file, framework="numpy") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118
            return {
                name: (list(part.get_shape()), str(part.get_dtype()))
                for name, part in slices.items()
            }
    except (SafetensorError, OSError, ValueError, OverflowError, MemoryError) as error:
        raise InputError(
            f"--checkpoint: {shown(str(file))} is corrupt or truncated: {reason(error)}; a whole "
            "safetensors file is accepted."
        ) from None


def _refuse_wrong_index(file: Path, held: Mapping[str, object]) -> None:
    if file.name == SINGLE:
        return
    for tensor, name in _read_index(file.with_name(INDEX)).items():
        if name == file.name and tensor not in held:
            raise InputError(
                f"--checkpoint: {shown(tensor)} is not in {shown(str(file))}; the index beside it "
                "says that it is."
            )


def _refuse_another_vocabulary(spec: str, config: Any, shapes: Mapping[str, list[int]]) -> None:
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        shape = shapes.get(name, [config.vocab_size])
        if shape[:1] != [config.vocab_size]:
            rows = shape[0] if shape else "no rows"
            raise InputError(
                f"--checkpoint: {name} of {shown(spec)} has a vocabulary of {rows}, its "
                f"config.json says vocab_size {config.vocab_size}; they must be the same."
            )


def _expected_shapes(spec: str, config: Any) -> dict[str, list[int]]:
    """What `transformers` reads for this configuration, by name, without allocating it."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception as error:  # an unknown hidden_act is a KeyError, another field what it likes
        raise InputError(
            f"--checkpoint: config.json of {shown(spec)} is not accepted: {reason(error)}."
        ) from None
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        shapes.pop("lm_head.weight", None)
    return shapes
