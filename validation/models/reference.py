"""The reference: Hugging Face `transformers` running the checkpoint."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

OnLayer = Callable[[int, int], None]
"""Told after each decoder layer how many are done, of how many."""

EAGER = "eager"
SDPA = "sdpa"


def load_reference(checkpoint: Path, dtype: torch.dtype, device: str) -> Any:
    """The checkpoint as `LlamaForCausalLM`, ready for inference.

    Raises:
        RuntimeError: RoPE's frequencies are not in fp32: then this is not what is served.
    """
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        checkpoint,
        dtype=dtype,
        attn_implementation=EAGER,
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
    )
    model = model.to(device).eval()
    if model.model.rotary_emb.inv_freq.dtype != torch.float32:
        # `model.to(dtype)` would cast them: 117 rad off at position 65,536 in bf16.
        raise RuntimeError(
            f"inv_freq is {model.model.rotary_emb.inv_freq.dtype}, not torch.float32"
        )
    return model


def final_hidden(
    model: Any, tokens: Int[Tensor, "1 pos"], attention: str, on_layer: OnLayer
) -> Float[Tensor, "pos d_model"]:
    """Hidden states after the last norm, of one forward over all tokens.

    Args:
        model: from `load_reference`.
        tokens: token ids.
        attention: `eager`, or `sdpa`, which sums in another order.
        on_layer: told of each finished layer.
    """
    model.set_attn_implementation(attention)
    with torch.no_grad(), reporting_layers(model.model.layers, on_layer):
        output: Tensor = model.model(tokens, use_cache=False).last_hidden_state
    return output[0]


@contextmanager
def reporting_layers(layers: Any, on_layer: OnLayer) -> Iterator[None]:
    """Tells `on_layer` as each module of `layers` ends; changes nothing in what it computes."""

    def hook(done: int) -> Any:
        return lambda *_: on_layer(done, len(layers))

    handles = [layer.register_forward_hook(hook(i + 1)) for i, layer in enumerate(layers)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
