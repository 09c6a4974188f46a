"""Tiny seeded models that clients are exercised on: one without RoPE, one with Llama 3.1's."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from validation.models.random_llamas import RANDOM_LLAMAS, save_random_llama
from validation.models.subject import give_weights, llama_configuration

SEED = 11
LLAMA_TOKENS = 1024


def gpt2_like(kind: Any, **changes: Any) -> Any:
    """A model of the class `kind`, a HookedTransformer, with GPT-2's layers; nothing of it is RoPE.

    Its heads are of 64 dimensions, as GPT-2's: scores are divided by 8, and multiplied by 1/8, to
    the same bits.
    """
    from transformer_lens import HookedTransformerConfig

    sizes = {"n_layers": 2, "d_model": 128, "n_heads": 2, "d_head": 64, "d_mlp": 256}
    model = kind(
        HookedTransformerConfig(
            **{**sizes, "d_vocab": 256, "n_ctx": 128, "act_fn": "gelu_new"},
            **{"normalization_type": "LN", "device": "cpu", "seed": SEED},
            **changes,
        )
    )
    draw_weights(model, 0.2)
    return model.eval()


def llama_checkpoint(folder: Path) -> Path:
    """A random Llama with Llama 3.1's RoPE scaling, in a folder as the hub has it."""
    checkpoint = folder / "llama"
    save_random_llama(RANDOM_LLAMAS[0], SEED, checkpoint)
    return checkpoint


def llama(kind: Any, checkpoint: Path, **changes: Any) -> Any:
    """The checkpoint in a model of the class `kind`, by the one way that the release has, too.

    The release loads no local folder: both trees are given the configuration and the weights.
    """
    from transformer_lens import HookedTransformerConfig

    wanted = llama_configuration(checkpoint, 2 * LLAMA_TOKENS)
    model = kind(HookedTransformerConfig(**wanted, dtype=torch.float32, device="cpu", **changes))
    give_weights(model, as_transformers(checkpoint))
    return model.eval()


def as_transformers(checkpoint: Path) -> Any:
    """The checkpoint in transformers, with eager attention."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    ).eval()


def draw_tokens(vocabulary: int, *shape: int) -> Int[Tensor, "batch pos"]:
    """Seeded token ids."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.randint(vocabulary, shape, generator=generator)


def draw_weights(module: Any, std: float) -> None:
    """Gives every parameter of a module seeded weights."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=std, generator=generator)


def layer_inputs(
    checkpoint: Path, tokens: Int[Tensor, "1 pos"]
) -> tuple[tuple[Float[Tensor, "1 pos d_model"], ...], Float[Tensor, "1 pos vocab"]]:
    """What enters each layer in transformers, and its logits."""
    with torch.no_grad():
        output = as_transformers(checkpoint)(tokens, output_hidden_states=True, use_cache=False)
    return output.hidden_states, output.logits
