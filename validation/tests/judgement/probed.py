"""Files as the probes of a reference, and of a subject that computes the same, would write them."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from validation.execution.probe_files import (
    LAYER_FLOOR,
    PADDED,
    ROPE,
    ROTATION,
    ProbeFiles,
    hidden_name,
    prompt_parts,
)
from validation.models.rope_parameters import LLAMA_31
from validation.rope.oracles import ORACLES, Oracle, TransformersOracle

POSITIONS, HEAD_DIM, LAYERS, TOKENS, WIDTH = 9000, 64, 3, 40, 24


@dataclass(frozen=True)
class Probed:
    """Both sides' files, and the oracles of their position encoding."""

    reference: ProbeFiles
    subject: ProbeFiles
    oracles: list[Oracle]


def write_probes(folder: Path, dtype: torch.dtype = torch.float32) -> Probed:
    """Two sides that agree in every bit."""
    oracle = TransformersOracle(LLAMA_31, HEAD_DIM)
    reference, subject = ProbeFiles.of_reference(folder), ProbeFiles.of_subject(folder)
    cos, sin = oracle.tables(range(POSITIONS), dtype)
    tables = {"angles": oracle.angles(range(POSITIONS)), "cos": cos, "sin": sin}
    reference.write(ROPE, tables | {"inv_freq": oracle.inv_freq()})
    subject.write(ROPE, tables)
    generator = torch.Generator().manual_seed(3)
    q, k = (torch.randn(POSITIONS, HEAD_DIM, generator=generator).to(dtype) for _ in range(2))
    rotated = {"rotated_q": rotate(q, cos, sin), "rotated_k": rotate(k, cos, sin)}
    reference.write(ROTATION, {"q": q, "k": k, **rotated})
    chunked = {key.replace("rotated", "chunked"): value for key, value in rotated.items()}
    subject.write(ROTATION, rotated | chunked)
    reference.write(LAYER_FLOOR, {"mean_square": torch.full((LAYERS, TOKENS), 1e-12).double()})
    lengths = {part: len(span) for part, span in prompt_parts(TOKENS).items()}
    for part, length in (lengths | {PADDED: 2 * TOKENS}).items():
        for layer in range(LAYERS + 1):
            hidden = torch.randn(length, WIDTH, generator=generator)
            reference.write(hidden_name(part, layer), {"hidden": hidden})
            if layer:
                subject.write(hidden_name(part, layer - 1), {"hidden": hidden})
    return Probed(reference, subject, [kind(LLAMA_31, HEAD_DIM) for kind in ORACLES])


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Vectors rotated as Llama does."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[:, half:], x[:, :half]), -1) * sin


def change(files: ProbeFiles, name: str, **tensors: Tensor | None) -> None:
    """Replaces tensors of one file, or removes them."""
    kept = {key: files.rows(name, key) for key in files.shapes(name)} | tensors
    files.write(name, {key: tensor for key, tensor in kept.items() if tensor is not None})
