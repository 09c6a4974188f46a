"""The reference: Hugging Face `transformers` running the checkpoint."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from validation.imports import import_uncollected
from validation.models.placement import gpu_memory, place_layers, spread
from validation.models.streaming import LAYERS, Change, Source, Weights, fill, open_source, stream

OnLayer = Callable[[int, int], None]
"""Told when a forward begins and after each decoder layer how many are done, of how many."""

EAGER = "eager"
SDPA = "sdpa"


def load_reference(
    checkpoint: Path,
    dtype: torch.dtype,
    device: str,
    weights_seed: int | None = None,
    *,
    streams_layers: bool = False,
    n_devices: int = 1,
) -> Any:
    """The checkpoint as `LlamaForCausalLM`, ready for inference.

    Args:
        checkpoint: folder with `config.json`, and safetensors unless there is a seed.
        dtype: of weights and activations.
        device: where it runs.
        weights_seed: of weights that are in no file.
        streams_layers: layers get their weights while they run (`streaming.py`).
        n_devices: GPUs that it is spread over, of which `device` is the first.

    Raises:
        ValueError: it does not fit these GPUs.
        RuntimeError: RoPE's frequencies are not in fp32: then this is not what is served.
    """
    import_uncollected("transformers.models.llama.modeling_llama")
    if n_devices > 1:
        model = empty_reference(checkpoint, dtype)
        placed = place_layers(model, gpu_memory(n_devices))
        model = spread(model, checkpoint, dtype, weights_seed, placed).eval()
        _refuse_cast_frequencies(model)
        return model
    if weights_seed is not None or streams_layers:
        source = open_source(checkpoint, weights_seed, dtype, device)
        model = _assemble(checkpoint, dtype, source, device, streams_layers=streams_layers)
    else:
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(
            checkpoint,
            dtype=dtype,
            attn_implementation=EAGER,  # until `final_hidden` or a probe sets another
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
    move_storage(model.eval(), device)
    _refuse_cast_frequencies(model)
    return model


def _refuse_cast_frequencies(model: Any) -> None:
    if model.model.rotary_emb.inv_freq.dtype != torch.float32:
        # `model.to(dtype)` would cast them: 117 rad off at position 65,536 in bf16.
        raise RuntimeError(
            f"inv_freq is {model.model.rotary_emb.inv_freq.dtype}, not torch.float32"
        )


def empty_reference(checkpoint: Path, dtype: torch.dtype, **changes: object) -> Any:
    """A `LlamaForCausalLM` whose parameters have no storage yet; `changes` are of its config."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(
        checkpoint, local_files_only=True, trust_remote_code=False, **changes
    )
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=EAGER)
    model.tie_weights()  # each parameter was put on `meta` by itself
    return model


def _assemble(
    checkpoint: Path, dtype: torch.dtype, source: Source, device: str, *, streams_layers: bool
) -> Any:
    """As `from_pretrained` would return it, of tensors one at a time."""
    model = empty_reference(checkpoint, dtype)
    layers = model.model.layers
    if streams_layers:
        shapes = [{n: tuple(p.shape) for n, p in layer.named_parameters()} for layer in layers]

        def fetch(index: int, change: Change | None) -> Weights:
            weights = {}
            for name, shape in shapes[index].items():
                full = f"{LAYERS}{index}.{name}"
                tensor = source(full, shape)
                weights[name] = change(full, tensor) if change else tensor
            return weights

        fill(model, "", source, skip=LAYERS)
        stream(model, layers, fetch, device)
    else:
        fill(model, "", source)
    model.tie_weights()
    return model


def move_storage(model: nn.Module, device: str) -> None:
    """Moves what has storage; parameters on `meta` stay there."""
    # What `to` calls for every tensor (torch, nn/modules/module.py), where it may refuse.
    move: Any = model._apply
    move(lambda tensor: tensor if tensor.is_meta else tensor.to(device))


def final_hidden(
    model: Any,
    tokens: Int[Tensor, "1 pos"],
    attention: str,
    on_layer: OnLayer,
    prefill: int | None = None,
) -> Float[Tensor, "pos d_model"]:
    """Hidden states after the last norm.

    Args:
        model: from `load_reference`.
        tokens: token ids.
        attention: `eager`, or `sdpa`, which sums in another order.
        on_layer: told how it goes.
        prefill: tokens a forward, through a `DynamicCache`; all in one if None.
    """
    from transformers import DynamicCache

    model.set_attn_implementation(attention)
    n_tokens = tokens.shape[1]
    prefill = prefill or n_tokens
    is_whole = prefill >= n_tokens
    cache = None if is_whole else DynamicCache(config=model.config)
    parts = []
    with torch.no_grad(), reporting_layers(model.model.layers, on_layer, n_tokens, prefill):
        for start in range(0, n_tokens, prefill):
            output = model.model(
                tokens[:, start : start + prefill], past_key_values=cache, use_cache=not is_whole
            )
            parts.append(output.last_hidden_state[0])
    return parts[0] if is_whole else torch.cat(parts)


@contextmanager
def reporting_layers(layers: Any, on_layer: OnLayer, n_tokens: int, prefill: int) -> Iterator[None]:
    """Tells `on_layer` that no module of `layers` has ended, and as each does; changes no bit."""
    done = 0
    total = len(layers) * math.ceil(n_tokens / prefill)
    on_layer(done, total)

    def hook(*_: Any) -> None:
        nonlocal done
        done += 1
        on_layer(done, total)

    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
