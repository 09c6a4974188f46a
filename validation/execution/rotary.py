"""Ways to rotate queries and keys, timed in turns: the fork's, compiled, transformers', Liger's."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from textwrap import shorten
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from validation.execution.jobs import SubjectJob
from validation.execution.meter import Meter
from validation.models.checkpoints import Checkpoint
from validation.models.subject import load_subject
from validation.rope.oracles import TransformersOracle

Rotated = tuple[Float[Tensor, "1 pos head d_head"], Float[Tensor, "1 pos head d_head"]]
Rotate = Callable[[], Rotated]

_WARM_UPS = 2
"""Turns that do not count: in the first a way is compiled, in the second memory is first used."""


@dataclass
class Rotation:
    """What one way did at one context.

    Attributes:
        way: what people call it.
        context: tokens.
        seconds: of each turn, queries and keys together.
        added_bytes: largest growth of memory in a turn, results included.
        differing: values that are not those of `transformers`.
        trouble: why there is no figure, or empty.
    """

    way: str
    context: int
    seconds: list[float] = field(default_factory=list)
    added_bytes: int = 0
    differing: int = 0
    trouble: str = ""


def time_rotations(
    job: SubjectJob, checkpoint: Checkpoint, contexts: tuple[int, ...], repeats: int
) -> Iterator[list[Rotation]]:
    """Rotates random queries and keys of one layer, in every way, way after way, `repeats` times.

    Imports the tree: once in the life of a process.

    Args:
        job: which tree and checkpoint; its forwards are not run.
        checkpoint: the same, of which sizes and RoPE count.
        contexts: tokens.
        repeats: turns that count.

    Yields:
        For each context what every way did.

    Raises:
        SubjectRefused: the tree cannot load the checkpoint.
    """
    attention = load_subject(job).model.blocks[0].attn
    compiled = torch.compile(attention.apply_rotary)
    for context in contexts:
        with torch.no_grad():
            yield _time_context(job, checkpoint, context, repeats, attention.apply_rotary, compiled)


def _time_context(
    job: SubjectJob, checkpoint: Checkpoint, context: int, repeats: int, own: Any, compiled: Any
) -> list[Rotation]:
    shape, dtype = checkpoint.shape, getattr(torch, job.dtype)
    generator = torch.Generator().manual_seed(job.seed)
    q, k = (
        torch.randn(1, context, heads, shape.head_dim, generator=generator).to(job.device, dtype)
        for heads in (shape.heads, shape.kv_heads)
    )
    oracle = TransformersOracle(checkpoint.rope, shape.head_dim, job.device)
    cos, sin = (table[None] for table in oracle.tables(range(context), dtype))
    theirs = partial(_as_transformers, q, k, cos, sin)
    ways: dict[str, Rotate] = {
        "fork": lambda: (own(q, 0), own(k, 0)),
        "fork, torch.compile": lambda: (compiled(q, 0), compiled(k, 0)),
        "transformers": theirs,
        "Liger-Kernel": partial(_as_liger, q, k, cos, sin),
    }
    expected = theirs()
    found = {way: Rotation(way, context) for way in ways}
    for turn in range(_WARM_UPS + repeats):
        for way, rotate in ways.items():
            if not found[way].trouble:
                _take_turn(found[way], rotate, expected, job.device, counts=turn >= _WARM_UPS)
    return list(found.values())


def _take_turn(
    rotation: Rotation, rotate: Rotate, expected: Rotated, device: str, *, counts: bool
) -> None:
    try:
        with Meter(device) as meter:
            rotated = rotate()
    except Exception as error:  # compilers and optional packages raise anything, memory runs out
        line = f"{type(error).__name__}: {error}"
        rotation.trouble = shorten(line, 160, placeholder=" ...")
        rotation.seconds.clear()
        return
    if counts:
        rotation.seconds.append(meter.seconds)
        added = meter.peak_memory_bytes - meter.resting_memory_bytes
        rotation.added_bytes = max(rotation.added_bytes, added)
    else:
        pairs = zip(rotated, expected, strict=True)
        rotation.differing = sum(int((one != other).sum()) for one, other in pairs)


def _as_transformers(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> Rotated:
    """Heads before positions, as its attention has them: views of the same values."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    rotated = apply_rotary_pos_emb(q.transpose(1, 2), k.transpose(1, 2), cos, sin)
    return rotated[0].transpose(1, 2), rotated[1].transpose(1, 2)


def _as_liger(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> Rotated:
    """Its kernel writes into what it is given: copies, as the values are needed again."""
    from liger_kernel.transformers.rope import liger_rotary_pos_emb

    mine, others = (each.transpose(1, 2).clone() for each in (q, k))
    rotated = liger_rotary_pos_emb(mine, others, cos, sin)
    return rotated[0].transpose(1, 2), rotated[1].transpose(1, 2)
