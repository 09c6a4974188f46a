"""Llamas of any size with seeded weights: `random:SHAPE` and `random:SHAPE@SEED`.

Every weight is a function of the seed, its tensor's name and its place in it, in integers until the
last step: the same on every device, in whatever order tensors are made, of however many layers.
"""

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transformer_lens_fork.atomic import building_folder
from transformer_lens_fork.errors import InputError
from transformer_lens_fork.sdist import cache_path
from validation.models.refusals import shown

PREFIX = "random:"

_SHAPES = Path(__file__).with_name("shapes.toml")

_SPEC = re.compile(r"random:(?P<shape>[\w.-]+)(?:@(?P<seed>\d{1,18}))?", re.ASCII)

_RECIPE = "uniform, splitmix64, 1"
"""Of the weights; another when the same seed gives others."""

_SHARPNESS = 2.0
"""Standard deviation of the entries of queries and keys: 1 is flat attention, blind to RoPE."""

_EMBEDDING_STD = 0.3
"""Well below the layers' outputs, which are of order 1: logits depend on attention."""

_AT_ONCE = 2**22
"""Weights made at a time: the integers they come from take 32 MiB."""


@dataclass(frozen=True)
class RandomSpec:
    """What `random:SHAPE@SEED` names.

    Attributes:
        shape: a table of `shapes.toml`.
        seed: of the weights.
    """

    shape: str
    seed: int


def parse_random(spec: str) -> RandomSpec | None:
    """What `spec` names, None if it does not begin with `random:`.

    Raises:
        InputError: there is no such shape, or the seed is no number.
    """
    if not spec.startswith(PREFIX):
        return None
    match = _SPEC.fullmatch(spec)
    if match is None or match["shape"] not in shape_names():
        raise InputError(
            f"--checkpoint: {shown(spec)} is not accepted; random:SHAPE and random:SHAPE@SEED are, "
            f"SEED a number from 0 on and SHAPE one of {', '.join(shape_names())}."
        )
    return RandomSpec(match["shape"], int(match["seed"] or 0))


@cache
def _tables() -> dict[str, Any]:
    return tomllib.loads(_SHAPES.read_text(encoding="utf-8"))


def shape_names() -> tuple[str, ...]:
    """The shapes that there are, real sizes first."""
    return tuple(_tables()["shape"])


def configuration(shape: str) -> dict[str, Any]:
    """`config.json` of a shape: the figures of the model's page on the hub, and `head_dim`."""
    every, own = _tables()["every"], _tables()["shape"][shape]
    rope = every["rope_scaling"] | own.get("rope_scaling", {})
    config: dict[str, Any] = every | own | {"rope_scaling": rope, "dtype": "bfloat16"}
    return config


def random_folder(spec: RandomSpec, report: Callable[[str], None]) -> Path:
    """A folder in the user's cache with the configuration; weights are made where they are used."""
    text = json.dumps(configuration(spec.shape), indent=2) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    folder = cache_path() / "checkpoints" / f"{spec.shape}-{digest[:12]}"
    if not folder.is_dir():
        report(f"writing the configuration of {spec.shape}")
        with building_folder(folder.parent) as scratch:
            built = scratch / "checkpoint"
            built.mkdir()
            (built / "config.json").write_text(text, encoding="utf-8")
            with suppress(OSError):  # another process was faster
                built.rename(folder)
    return folder


def random_sha256(configuration_sha256: str, seed: int) -> str:
    """What stands for the sha256 of weights that are in no file."""
    return hashlib.sha256(f"{configuration_sha256} {_RECIPE} {seed}".encode()).hexdigest()


def random_tensor(
    name: str, shape: tuple[int, ...], seed: int, dtype: torch.dtype, device: str
) -> Tensor:
    """One parameter of a `LlamaForCausalLM`.

    Uniform, with the standard deviation that keeps every layer's output of order 1; norms between
    0.5 and 1.5, or folding them would change nothing.

    Args:
        name: as in its `state_dict`.
        shape: of the tensor; a matrix is [out, in].
        seed: of all weights.
        dtype: to which fp32 values are rounded.
        device: where they are made.
    """
    if name.endswith("norm.weight"):
        middle, bound = 1.0, 0.5
    else:
        middle, bound = 0.0, math.sqrt(3) * _standard_deviation(name, shape)
    tensor = torch.empty(shape, dtype=dtype, device=device)
    flat = tensor.view(-1)
    key = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], signed=True)
    for start in range(0, flat.numel(), _AT_ONCE):
        stop = min(start + _AT_ONCE, flat.numel())
        places = torch.arange(start, stop, dtype=torch.int64, device=device)
        # 23 bits, and one that makes it odd: exact in fp32, symmetric about 0, never 0.
        odd = 2 * _shift_right(_mix(places * _signed(0x9E3779B97F4A7C15) + key), 41) + 1 - 2**23
        flat[start:stop] = odd.float().mul_(bound / 2**23).add_(middle)
    return tensor


def _standard_deviation(name: str, shape: tuple[int, ...]) -> float:
    if "embed_tokens" in name:
        return _EMBEDDING_STD
    is_sharp = "q_proj" in name or "k_proj" in name
    return (_SHARPNESS if is_sharp else 1.0) / math.sqrt(shape[1])


def _mix(state: Tensor) -> Tensor:
    """The output function of splitmix64 (Steele, Lea, Flood 2014), modulo 2**64 as int64."""
    state = (state ^ _shift_right(state, 30)) * _signed(0xBF58476D1CE4E5B9)
    state = (state ^ _shift_right(state, 27)) * _signed(0x94D049BB133111EB)
    return state ^ _shift_right(state, 31)


def _shift_right(state: Tensor, bits: int) -> Tensor:
    """As of unsigned integers: zeros come in from the left."""
    shifted: Tensor = (state >> bits) & (2 ** (64 - bits) - 1)
    return shifted


def _signed(value: int) -> int:
    return value - 2**64
