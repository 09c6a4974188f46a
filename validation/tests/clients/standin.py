"""A client for tests, in need of nothing but TransformerLens."""

from pathlib import Path

import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig

from validation.clients.observations import Seen
from validation.clients.tiny import draw_tokens, gpt2_like, layer_inputs, llama, llama_checkpoint

_TOKENS = 256


def exercise(seen: Seen, folder: Path) -> None:
    """What must be the same on both trees, and what must be transformers' on the fork."""
    model = gpt2_like(HookedTransformer)
    checkpoint = llama_checkpoint(folder)
    with torch.no_grad():
        seen.value("GPT-2", model(draw_tokens(model.cfg.d_vocab, 1, 32)))
        seen.figure("is at most", 1.0, at_most=2.0)
        tokens = draw_tokens(512, 1, _TOKENS)
        _, logits = layer_inputs(checkpoint, tokens)
        seen.value("Llama", llama(HookedTransformer, checkpoint)(tokens), logits)


def exercise_break(seen: Seen, folder: Path) -> None:
    """Works on the release only."""
    del folder
    seen.value("before", "it")
    assert not hasattr(HookedTransformerConfig, "attn_implementation"), "the fork is not accepted"


def exercise_difference(seen: Seen, folder: Path) -> None:
    """Is another on each tree."""
    del folder
    seen.value("fields", str(hasattr(HookedTransformerConfig, "attn_implementation")))
