"""Tiny seeded models of `transformers`, with attention sharp enough that positions matter."""

import re
from typing import Any

import torch
import transformers
from jaxtyping import Int
from torch import Tensor

from validation.architectures.catalogue import VOCAB, Architecture

_BATCH, _TOKENS = 2, 384

_EMBEDDING_STD = 0.3
"""Well below the layers' outputs, which are of order 1: logits depend on attention."""

_SHARPNESS = 2.5
"""Of queries and keys, or of what is fused with them; 1 is flat attention."""

_EMBEDDING = re.compile(r"(embed|wte|wpe|lm_head)")
_QUERIES_AND_KEYS = re.compile(r"(q_proj|k_proj|qkv|query_key_value|c_attn)")
_QK_NORM = re.compile(r"(q_norm|k_norm)")


def random_tokens(seed: int) -> Int[Tensor, "batch pos"]:
    """Token ids without the first ones, some of which configurations take for padding."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(4, VOCAB, (_BATCH, _TOKENS), generator=generator)


def build_reference(architecture: Architecture, seed: int, dtype: torch.dtype) -> Any:
    """The model with eager attention; every parameter is drawn from `seed`."""
    assert architecture.reference is not None, "there is nothing to build"
    kind = getattr(transformers, architecture.reference)
    config = kind.config_class(**architecture.fields)
    config.architectures = [architecture.reference]
    config._attn_implementation = "eager"
    for name, value in architecture.given.items():
        setattr(config, name, value)
    torch.manual_seed(seed)
    model = kind(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            _draw(name, parameter, generator)
            # Buffers, of which HF's inverse frequencies are one, stay in float32 as when loading.
            parameter.data = parameter.data.to(dtype)
    return model


def _draw(name: str, parameter: Tensor, generator: torch.Generator) -> None:
    noise = torch.randn(parameter.shape, generator=generator)
    if parameter.ndim == 1:
        # A norm's weight is 1 or, as an offset from it, 0: what is there is kept.
        parameter.add_(0.1 * noise)
        if _QK_NORM.search(name):
            parameter.add_(_SHARPNESS - 1)
    elif _EMBEDDING.search(name):
        parameter.copy_(_EMBEDDING_STD * noise)
    else:
        sharpness = _SHARPNESS if _QUERIES_AND_KEYS.search(name) else 1.0
        parameter.copy_(sharpness * parameter.shape[-1] ** -0.5 * noise)
