"""The inverse frequencies that a release rotates with, and how many of them are wrong.

They are what the release's own code takes the cosine of at position 1.
"""

from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from validation.audit.jobs import AuditJob, frequencies_path
from validation.models.rope_parameters import LLAMA_31, Llama3Rope
from validation.models.subject import rope_fields
from validation.rope.angles import ObservedAngles
from validation.rope.oracles import TransformersOracle, llama_config

LLAMA_31_8B = "Llama 3.1"
CHECKPOINT = "checkpoint"

LLAMA_31_WIDTH = 128
"""Of a head of Llama 3.1: 64 frequencies."""

_TOLERANCE = 1e-6
"""Relative. Two roundings in fp32, as of 1/(1/x), are 1.2e-7 at most; a frequency that is scaled
when it should not be, or is not when it should, is off by a factor of the scaling's order."""

_Frequencies = Float[Tensor, "pair"]


@dataclass(frozen=True)
class WrongFrequencies:
    """How the frequencies differ from those of `transformers` for the same model.

    Attributes:
        total: one for every pair of dimensions of a head.
        wrong: by more than the tolerance.
        differing: by a bit or more.
        largest_factor: between a frequency and what it should be, or its inverse; 1 if all agree.
    """

    total: int
    wrong: int
    differing: int
    largest_factor: float


def observe_hooked(model: Any, llama_31: Any, scratch: Path) -> None:
    """Writes the frequencies of a `HookedTransformer`.

    Args:
        model: with the checkpoint.
        llama_31: the release's own configuration of Llama 3.1, None if it has none.
        scratch: folder that they are written to.
    """
    attention = model.blocks[0].attn
    found = {
        LLAMA_31_8B: _of_attention(attention, llama_31 or _described(model.cfg)),
        CHECKPOINT: _of_attention(attention, model.cfg),
    }
    save_file(found, frequencies_path(scratch))


def observe_bridge(model: Any, job: AuditJob) -> None:
    """Writes the frequencies of a `TransformerBridge`, and of another of Llama 3.1's width."""
    from transformers import LlamaForCausalLM

    from validation.audit.loading import boot

    config = llama_config(LLAMA_31, LLAMA_31_WIDTH)
    config.update({"num_hidden_layers": 1, "vocab_size": 64, "intermediate_size": 64})
    config.architectures = [LlamaForCausalLM.__name__]
    small = boot(job, hf_model=LlamaForCausalLM(config).eval(), tokenizer=model.tokenizer)
    head_dim = model.original_model.model.layers[0].self_attn.head_dim
    found = {
        LLAMA_31_8B: _of_forward(small, LLAMA_31_WIDTH),
        CHECKPOINT: _of_forward(model, head_dim),
    }
    save_file(found, frequencies_path(job.scratch))


def compare_frequencies(scratch: Path, own: Llama3Rope) -> dict[str, WrongFrequencies]:
    """What the release that ran last has, beside `transformers`' module, by model; and removes it.

    Args:
        scratch: folder with what it wrote.
        own: the checkpoint's position encoding.
    """
    path = frequencies_path(scratch)
    if not path.exists():
        return {}
    found = load_file(path)
    path.unlink()
    ropes = {LLAMA_31_8B: LLAMA_31, CHECKPOINT: own}
    return {
        name: _compare(frequencies, TransformersOracle(ropes[name], 2 * len(frequencies)))
        for name, frequencies in found.items()
    }


def _compare(found: _Frequencies, oracle: TransformersOracle) -> WrongFrequencies:
    expected = oracle.inv_freq()
    factors = (found.double() / expected.double()).log().abs().exp()
    return WrongFrequencies(
        total=len(found),
        wrong=int((factors - 1 > _TOLERANCE).sum()),
        differing=int((found != expected).sum()),
        largest_factor=float(factors.max()),
    )


def _described(cfg: Any) -> Any:
    """Llama 3.1 as far as the release has the fields, of one that does not know it by name."""
    described = copy(cfg)
    described.rotary_dim = LLAMA_31_WIDTH
    for name, value in rope_fields(LLAMA_31).items():
        if hasattr(described, name):
            setattr(described, name, value)
    return described


def _of_attention(attention: Any, cfg: Any) -> _Frequencies:
    from validation.execution.probe_subject import rebuild_tables

    own = attention.cfg
    attention.cfg = cfg
    try:
        with ObservedAngles(cfg.rotary_dim) as observed:
            # Of its own length: releases up to 2.15.0 take it for the original context.
            rebuild_tables(attention, cfg.n_ctx)
    finally:
        attention.cfg = own
    return _at_position_1(observed)


def _of_forward(model: Any, head_dim: int) -> _Frequencies:
    with ObservedAngles(head_dim) as observed, torch.no_grad():
        model(torch.arange(2)[None])
    return _at_position_1(observed)


def _at_position_1(observed: ObservedAngles) -> _Frequencies:
    if observed.cos is None:
        raise RuntimeError("no cosine of angles was seen")
    return observed.cos[1].float().contiguous()
