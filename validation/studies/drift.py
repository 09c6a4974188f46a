"""Where two runs of one model part: the key that each query attends to most, and every loss.

Works with any release of TransformerLens, with eager or fused attention, in one forward or in
chunks through a KV cache: only rotated queries and keys are looked at, a layer at a time, and no
pattern is kept. Plain torch and TransformerLens: copy from here.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_ROWS = 256
"""Queries whose scores exist at a time."""

_LOGITS = 2**25
"""That exist at a time: 128 MiB in fp32."""


def top_attended(
    q: Float[Tensor, "1 query head d_head"], k: Float[Tensor, "1 key kv_head d_head"]
) -> Int[Tensor, "head query"]:
    """The position of the key that each query attends to most; the first of equal ones.

    The softmax does not change the order of scores, so none is taken. Scores are formed in float32
    whatever the dtype, so that two keys are not equal because a score was rounded.

    Args:
        q: rotated queries, the last ones if there are fewer than keys.
        k: rotated keys from position 0 on; query head h sees key head h // (head / kv_head).
    """
    n_queries, n_heads, n_keys, n_kv_heads = q.shape[1], q.shape[2], k.shape[1], k.shape[2]
    first = n_keys - n_queries
    group = n_heads // n_kv_heads
    found = torch.empty(n_heads, n_queries, dtype=torch.long, device=q.device)
    places = torch.arange(n_keys, device=q.device)
    for kv_head in range(n_kv_heads):
        heads = slice(kv_head * group, (kv_head + 1) * group)
        keys = k[0, :, kv_head].float().T
        for start in range(0, n_queries, _ROWS):
            stop = min(start + _ROWS, n_queries)
            seen = first + stop
            scores = q[0, start:stop, heads].float().transpose(0, 1) @ keys[:, :seen]
            later = places[None, :seen] > places[first + start : seen, None]
            found[heads, start:stop] = scores.masked_fill(later, -torch.inf).argmax(-1)
    return found


def watching(model: Any, found: dict[int, list[Tensor]]) -> list[tuple[str, Callable[..., None]]]:
    """Hooks that append what every layer attends to most: `fwd_hooks` of TransformerLens.

    Args:
        model: a `HookedTransformer` with rotary embeddings.
        found: receives, by layer, [head, query] of each forward.
    """
    queries: dict[int, Tensor] = {}

    def keep(q: Tensor, hook: Any) -> None:
        queries[hook.layer()] = q

    def look(k: Tensor, hook: Any) -> None:
        layer = hook.layer()
        tops = top_attended(queries.pop(layer), k)
        found.setdefault(layer, []).append(tops.to(torch.int32).cpu())

    return [
        (f"blocks.{layer}.attn.{name}", function)
        for layer in range(model.cfg.n_layers)
        for name, function in (("hook_rot_q", keep), ("hook_rot_k", look))
    ]


def losses_of(
    hidden: Float[Tensor, "pos d_model"], unembed: Any, tokens: Int[Tensor, "1 pos"]
) -> Float[Tensor, "pos-1"]:
    """The loss of every token but the first, in nats, from what the last norm gave.

    Logits as the model rounds them, the log softmax in float32, as `transformers` takes losses.

    Args:
        hidden: after the last norm.
        unembed: the model's own, of [1, pos, d_model].
        tokens: those that were run.
    """
    found = []
    n_vocab = unembed(hidden[None, :1]).shape[-1]
    chunk = max(1, _LOGITS // n_vocab)
    for start in range(0, len(hidden) - 1, chunk):
        rows = hidden[start : min(start + chunk, len(hidden) - 1)]
        log_probs = unembed(rows[None])[0].float().log_softmax(-1)
        following = tokens[0, start + 1 : start + 1 + len(rows), None]
        found.append(-log_probs.gather(-1, following)[:, 0])
    return torch.cat(found)


def changed_tops(
    one: Int[np.ndarray, "layer head query"], other: Int[np.ndarray, "layer head query"]
) -> Bool[np.ndarray, "layer head query"]:
    """Whether a query of a head attends to another position most."""
    changed: Bool[np.ndarray, "layer head query"] = one != other
    return changed


def moved_by(
    one: Int[np.ndarray, "layer head query"], other: Int[np.ndarray, "layer head query"]
) -> Int[np.ndarray, "change"]:
    """How many tokens apart the two positions are, of those that changed."""
    distances: Int[np.ndarray, "layer head query"] = np.abs(one.astype(np.int64) - other)
    return distances[distances > 0]
