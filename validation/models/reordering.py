"""Changes to the reference that leave its function alone, or change it on purpose.

Permuted channels compute the same function, summed in another order: a floor that has nothing to
do with attention kernels. Plain RoPE is another function: the mistake that must be seen.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn


@contextmanager
def permuted_channels(model: Any, seed: int) -> Iterator[None]:
    """Permutes every channel that a `LlamaForCausalLM` sums over; restores it, bit for bit.

    Residual channels, MLP neurons, rotary pairs and value channels are permuted consistently, so
    that every matrix product and norm sums the same terms in another order.

    Args:
        model: changed in place; its final hidden states are permuted too, and so is `lm_head`.
        seed: of the permutations.
    """
    orders = channel_orders(model.config, seed)
    _permute(model, orders)
    try:
        yield
    finally:
        _permute(model, {name: order.argsort() for name, order in orders.items()})


def channel_orders(config: Any, seed: int) -> dict[str, Int[Tensor, "size"]]:
    """The orders that `permuted_channels` gives to residual, neuron, pair and value channels."""
    generator = torch.Generator().manual_seed(seed)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    sizes = {
        "residual": config.hidden_size,
        "neuron": config.intermediate_size,
        "pair": head_dim // 2,
        "value": head_dim,
    }
    return {name: torch.randperm(size, generator=generator) for name, size in sizes.items()}


@contextmanager
def plain_rope(model: Any, theta: float) -> Iterator[None]:
    """Takes the frequencies' scaling away: RoPE as of Llama 3, `theta ** (-2i / head_dim)`.

    Args:
        model: a `LlamaForCausalLM`, changed in place.
        theta: base of its frequencies.
    """
    rotary = model.model.rotary_emb
    scaled = rotary.inv_freq
    exponents = torch.arange(0, 2 * len(scaled), 2, dtype=torch.int64).float() / (2 * len(scaled))
    rotary.inv_freq = (1.0 / theta**exponents).to(scaled)
    try:
        yield
    finally:
        rotary.inv_freq = scaled


def _permute(model: Any, orders: dict[str, Int[Tensor, "size"]]) -> None:
    residual, neuron = orders["residual"], orders["neuron"]
    # Half-split layout: channel i of a head rotates with channel i + head_dim / 2.
    pair = torch.cat([orders["pair"], orders["pair"] + len(orders["pair"])])
    rotary = model.model.rotary_emb
    rotary.inv_freq = rotary.inv_freq[orders["pair"].to(rotary.inv_freq.device)]
    _take(model.model.embed_tokens.weight, 1, residual)
    if model.lm_head.weight is not model.model.embed_tokens.weight:
        _take(model.lm_head.weight, 1, residual)
    _take(model.model.norm.weight, 0, residual)
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for norm in (layer.input_layernorm, layer.post_attention_layernorm):
            _take(norm.weight, 0, residual)
        for projection in (attention.q_proj, attention.k_proj):
            _rows(projection, _per_head(pair, projection.out_features))
        _rows(attention.v_proj, _per_head(orders["value"], attention.v_proj.out_features))
        for projection in (mlp.gate_proj, mlp.up_proj):
            _rows(projection, neuron)
        for projection in (attention.o_proj, mlp.down_proj):
            _rows(projection, residual)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            _take(projection.weight, 1, residual)
        for projection in (mlp.gate_proj, mlp.up_proj):
            _take(projection.weight, 1, residual)
        value = _per_head(orders["value"], attention.o_proj.in_features)
        _take(attention.o_proj.weight, 1, value)
        _take(mlp.down_proj.weight, 1, neuron)


def _per_head(order: Int[Tensor, "head_dim"], size: int) -> Int[Tensor, "size"]:
    starts = torch.arange(0, size, len(order))
    return (starts[:, None] + order[None]).reshape(-1)


def _rows(projection: nn.Linear, order: Int[Tensor, "out"]) -> None:
    _take(projection.weight, 0, order)
    if projection.bias is not None:
        _take(projection.bias, 0, order)


def _take(parameter: Tensor, dim: int, order: Int[Tensor, "size"]) -> None:
    with torch.no_grad():
        parameter.copy_(parameter.index_select(dim, order.to(parameter.device)))
