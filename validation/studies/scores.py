"""A bias on attention scores that fused attention takes, without a matrix of queries by keys.

Plain `torch` and TransformerLens, to be copied from.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

_COLUMNS = 8
"""Appended: as many as keep the width of a head a multiple of what fused kernels ask for."""

_DIGIT = 256
"""Positions are written in this base: bfloat16 holds every digit."""


@contextmanager
def biased_scores(
    model: "HookedTransformer",
    of_queries: Float[Tensor, "query head column"],
    of_keys: Float[Tensor, "key kv_head column"],
) -> Iterator[None]:
    """Adds to every score the product of what its query and its key say, in all layers.

    (q, a) . (k, b) = q . k + a . b: columns are appended to queries and keys once they are rotated,
    and as many zeros to values, since fused attention takes queries, keys and values of one width;
    what these add to z is cut off. Values of a KV cache must have their zeros already.

    Args:
        model: with `attn_implementation="sdpa"`; hooks are added, and removed afterwards.
        of_queries: factors of the bias, at most 8 columns.
        of_keys: the other factors.
    """
    width = model.cfg.d_head
    # Scores are multiplied by 1 / attn_scale once they are summed.
    queries = F.pad(of_queries * model.cfg.attn_scale, (0, _COLUMNS - of_queries.shape[-1]))
    keys = F.pad(of_keys, (0, _COLUMNS - of_keys.shape[-1]))
    appended = {
        "attn.hook_rot_q": lambda x, hook: torch.cat((x, queries[None].to(x)), dim=-1),
        "attn.hook_rot_k": lambda x, hook: torch.cat((x, keys[None].to(x)), dim=-1),
        "attn.hook_v": lambda x, hook: widen(x),
        "attn.hook_z": lambda x, hook: x[..., :width],
    }
    with model.hooks(fwd_hooks=[(_ending(name), function) for name, function in appended.items()]):
        yield


def widen(values: Float[Tensor, "... width"]) -> Float[Tensor, "... wider"]:
    """Values with the zeros that `biased_scores` needs."""
    return F.pad(values, (0, _COLUMNS))


def alibi(
    model: "HookedTransformer", positions: int
) -> tuple[Float[Tensor, "pos head column"], Float[Tensor, "pos kv_head column"]]:
    """ALiBi (Press et al. 2022, section 3) for `biased_scores`: slope * (key - query).

    The product of a slope and the key's position is exact up to 64k positions but for the slope's
    own rounding; that of the query is the same for all keys of a row, and so cannot change the
    pattern. Slopes are TransformerLens' own: 2 ** (-8 / n), 2 ** (-16 / n), ... for n heads.

    Args:
        model: whose heads are biased; its rotation must have been stopped.
        positions: tokens.
    """
    from transformer_lens.components import AbstractAttention

    cfg: Any = model.cfg
    scale = cfg.attn_scale
    slopes = AbstractAttention.create_alibi_multipliers(cfg.n_heads, cfg.device).double()
    # What is left of it once `biased_scores` has put it into the model's dtype.
    slopes = (slopes * scale).to(cfg.dtype).double() / scale
    position = torch.arange(positions, device=cfg.device, dtype=torch.float64)
    row = _parts(-slopes * position[:, None] * scale, cfg.dtype) / scale
    high = torch.div(position, _DIGIT, rounding_mode="floor")
    digits = torch.stack((position - _DIGIT * high, high), dim=-1)
    of_keys = torch.cat((digits, torch.ones_like(row[:, 0])), dim=-1)
    each = torch.stack((slopes, _DIGIT * slopes), dim=-1).expand(positions, -1, -1)
    of_queries = torch.cat((each, row), dim=-1)
    heads = cfg.n_key_value_heads or cfg.n_heads
    return of_queries, of_keys[:, None].expand(-1, heads, -1)


def _parts(values: Float[Tensor, "pos head"], dtype: torch.dtype) -> Float[Tensor, "pos head 3"]:
    """Three numbers of that dtype whose sum is the value."""
    parts = []
    for _ in range(3):
        parts.append(values.to(dtype).double())
        values = values - parts[-1]
    return torch.stack(parts, dim=-1)


def _ending(suffix: str) -> Any:
    return lambda name: name.endswith(suffix)
