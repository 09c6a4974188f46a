"""Changes to the reference that leave its function alone, or change it on purpose.

Permuted channels compute the same function, summed in another order: a floor that has nothing to
do with attention kernels. Plain RoPE is another function: the mistake that must be seen.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from validation.models.streaming import changed_weights

_CHANNELS: dict[str, tuple[str | None, ...]] = {
    "embed_tokens": (None, "residual"),
    "lm_head": (None, "residual"),
    "norm": ("residual",),
    "input_layernorm": ("residual",),
    "post_attention_layernorm": ("residual",),
    "q_proj": ("pair", "residual"),
    "k_proj": ("pair", "residual"),
    "v_proj": ("value", "residual"),
    "o_proj": ("residual", "value"),
    "gate_proj": ("neuron", "residual"),
    "up_proj": ("neuron", "residual"),
    "down_proj": ("residual", "neuron"),
}
"""What each axis of a module's weight runs over; a bias has the first axis alone."""

Orders = dict[str, Int[Tensor, "size"]]


@contextmanager
def permuted_channels(model: Any, seed: int) -> Iterator[None]:
    """Permutes every channel that a `LlamaForCausalLM` sums over; restores it, bit for bit.

    Residual channels, MLP neurons, rotary pairs and value channels are permuted consistently, so
    that every matrix product and norm sums the same terms in another order.

    Args:
        model: changed in place; its final hidden states are permuted too, and so is `lm_head`.
            Layers that are streamed are permuted as they come.
        seed: of the permutations.
    """
    orders = channel_orders(model.config, seed)
    rotary = model.model.rotary_emb
    inv_freq = rotary.inv_freq
    half = len(inv_freq)
    _permute(model, orders)
    rotary.inv_freq = inv_freq[orders["pair"][:half].to(inv_freq.device)]
    try:
        with changed_weights(model, lambda name, tensor: reorder(name, tensor, orders)):
            yield
    finally:
        _permute(model, {name: order.argsort() for name, order in orders.items()})
        rotary.inv_freq = inv_freq


def channel_orders(config: Any, seed: int) -> Orders:
    """The orders that `permuted_channels` gives to residual, neuron, head and value channels.

    `pair` is of a whole head: in the half-split layout channel i rotates with i + head_dim / 2.
    """
    generator = torch.Generator().manual_seed(seed)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    sizes = {
        "residual": config.hidden_size,
        "neuron": config.intermediate_size,
        "pair": head_dim // 2,
        "value": head_dim,
    }
    orders = {name: torch.randperm(size, generator=generator) for name, size in sizes.items()}
    return orders | {"pair": torch.cat([orders["pair"], orders["pair"] + head_dim // 2])}


def reorder(name: str, tensor: Tensor, orders: Orders) -> Tensor:
    """One parameter of a `LlamaForCausalLM` with its channels in these orders.

    Args:
        name: as in the model's `state_dict`.
        tensor: a weight or bias; an axis of heads has the same order in each.
        orders: from `channel_orders`, or their inverses.
    """
    channels = _CHANNELS[name.split(".")[-2]]
    for axis, channel in enumerate(channels[: tensor.ndim]):
        if channel is not None:
            order = orders[channel]
            starts = torch.arange(0, tensor.shape[axis], len(order))
            every = (starts[:, None] + order[None]).reshape(-1)
            tensor = tensor.index_select(axis, every.to(tensor.device))
    return tensor


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


def _permute(model: Any, orders: Orders) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # a tied one is named once
            if not parameter.is_meta:
                parameter.copy_(reorder(name, parameter, orders))
