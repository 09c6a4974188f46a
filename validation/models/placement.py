"""Spreads the reference over several GPUs, as accelerate places it: whole layers, in order."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from validation.models.streaming import fill, open_source

Place = int | str
"""A GPU by its number, or `cpu`."""


def place_layers(model: Any, memory_bytes: Mapping[Place, int]) -> dict[str, Place]:
    """Where each module of a `LlamaForCausalLM` goes; no layer is split.

    Args:
        model: its parameters may be on `meta`.
        memory_bytes: that weights may take on each device.

    Raises:
        ValueError: they do not fit.
    """
    from accelerate import infer_auto_device_map
    from accelerate.utils import get_balanced_memory

    whole = [type(layer).__name__ for layer in model.model.layers[:1]]
    model.tie_weights()
    balanced = get_balanced_memory(model, dict(memory_bytes), no_split_module_classes=whole)
    placed: dict[str, Place] = infer_auto_device_map(model, balanced, no_split_module_classes=whole)
    elsewhere = {str(place) for place in placed.values()} - set(map(str, memory_bytes))
    if elsewhere:
        raise ValueError(f"the weights do not fit {len(memory_bytes)} devices: {placed}")
    return placed


def gpu_memory(n_devices: int) -> dict[Place, int]:
    """Free bytes of the first GPUs, but for a fifth: activations need room too."""
    return {number: int(0.8 * torch.cuda.mem_get_info(number)[0]) for number in range(n_devices)}


def spread(
    model: Any,
    checkpoint: Path,
    dtype: torch.dtype,
    weights_seed: int | None,
    placed: dict[str, Place],
) -> Any:
    """Gives an empty model its weights where they belong, and has accelerate move activations.

    Args:
        model: a `LlamaForCausalLM` with parameters on `meta`.
        checkpoint: folder with safetensors, unless there is a seed.
        dtype: of weights and activations.
        weights_seed: of weights that are in no file.
        placed: from `place_layers`.
    """
    from accelerate import dispatch_model

    # load_checkpoint_and_dispatch would take pickled weights, if some lie beside.
    sources = {
        place: open_source(checkpoint, weights_seed, dtype, _device(place))
        for place in set(placed.values())
    }
    fill(model, "", lambda name, shape: sources[_place(name, placed)](name, shape))
    model.tie_weights()
    return dispatch_model(model, device_map=placed)


def _place(name: str, placed: Mapping[str, Place]) -> Place:
    """Of the module that a parameter is in: the longest name in the map that leads to it."""
    leading = [module for module in placed if not module or f"{name}.".startswith(f"{module}.")]
    return placed[max(leading, key=len)]


def _device(place: Place) -> str:
    return f"cuda:{place}" if isinstance(place, int) else place
