"""Eager attention of a `transformers` model for some queries at a time, in one forward."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

_NAME = "eager_in_rows"


def eager_in_rows(rows: int) -> str:
    """The name by which a model is told to attend eagerly, for `rows` queries at a time.

    Scores, softmax and weighted sum are those of `eager_attention_forward` (transformers,
    models/llama/modeling_llama.py) but for the keys that no query of the block may see. Every layer
    runs once, where chunks through a cache run all of them for each chunk: a streamed model would
    fetch its weights as often.

    Args:
        rows: queries a block.
    """
    from transformers import AttentionInterface

    # Without a mask function of that name the model makes no mask (masking_utils.py).
    AttentionInterface.register(_NAME, partial(_attend, rows=rows))
    return _NAME


def _attend(
    module: Any,
    query: Float[Tensor, "batch head pos head_dim"],
    key: Float[Tensor, "batch kv_head pos head_dim"],
    value: Float[Tensor, "batch kv_head pos head_dim"],
    attention_mask: Tensor | None,
    scaling: float,
    *,
    rows: int,
    **_: Any,
) -> tuple[Float[Tensor, "batch pos head head_dim"], None]:
    """The interface that `LlamaAttention` calls.

    Raises:
        ValueError: there is a mask, or there are keys of a cache: this is for whole prompts.
    """
    batch, heads, positions, head_dim = query.shape
    if attention_mask is not None or key.shape[2] != positions:
        raise ValueError("eager attention in rows is for whole prompts without a mask")
    # Heads that share keys are rows of one product, so that no key is repeated.
    query = query.reshape(batch, key.shape[1], -1, positions, head_dim)
    output = query.new_empty(query.shape)
    for start in range(0, positions, rows):
        stop = min(start + rows, positions)
        seen, block = key[:, :, :stop], query[:, :, :, start:stop]
        scores = (block.flatten(2, 3) @ seen.transpose(2, 3)).mul_(scaling)
        scores = scores.view(*block.shape[:-1], stop)
        future = torch.ones(stop - start, stop, dtype=torch.bool, device=query.device)
        scores.masked_fill_(future.triu_(start + 1), torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, -1, dtype=torch.float32).to(query.dtype)
        del scores, future
        values = weights.flatten(2, 3) @ value[:, :, :stop]
        output[:, :, :, start:stop] = values.view(block.shape)
        # Else they would stand beside the next block's.
        del weights
    return output.view(batch, heads, positions, head_dim).transpose(1, 2).contiguous(), None
