"""A few queries of a long text, with gradients, and the text before them at its true distances.

Plain `torch` and TransformerLens, to be copied from. A forward and a backward of a long text are
dear; here keys and values of the text are kept once, from pieces that are short enough for the
model, and what is computed anew are a few queries that attend to them.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from validation.studies.scores import biased_scores, widen

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


@dataclass(frozen=True)
class Plan:
    """How frequencies are fitted.

    Attributes:
        steps: of Adam, whose rate falls linearly to zero.
        rate: at first, of the fitted numbers.
        queries: positions a step computes.
        first: keys of the text's beginning that every query sees, for they are attention sinks.
        near: keys just before the queries that all of them see.
        sampled: of all keys between, each counted as many times as it stands for others.
        piece: tokens of the texts that keys and values are kept from.
        lead: tokens before a piece that are read with it, and whose own are not kept.
    """

    steps: int = 200
    rate: float = 0.02
    queries: int = 32
    first: int = 4
    near: int = 256
    sampled: int = 512
    piece: int = 2048
    lead: int = 256


@dataclass(frozen=True)
class Memory:
    """A long text, with keys that are not rotated, and values.

    Attributes:
        tokens: the text.
        keys: by layer.
        values: by layer, with the zeros that `biased_scores` needs.
    """

    tokens: Int[Tensor, "1 pos"]
    keys: list[Float[Tensor, "1 pos kv_head d_head"]]
    values: list[Float[Tensor, "1 pos kv_head width"]]


@dataclass(frozen=True)
class Excerpt:
    """What one step sees of a memory.

    Attributes:
        keys: positions that are attended to, ascending, all before `start`.
        log_weights: how many keys each of them stands for, as a logarithm.
        start: position of the first query.
        stop: of the last, excluded.
    """

    keys: Int[Tensor, "key"]
    log_weights: Float[Tensor, "key"]
    start: int
    stop: int


@dataclass(frozen=True)
class Turns:
    """Angles by which what the model has rotated is rotated further, in radians."""

    queries: Float[Tensor, "query head pair"]
    keys: Float[Tensor, "key kv_head pair"]


TurnsOfLayer = Callable[[int, Int[Tensor, "query"], Int[Tensor, "key"], Int[Tensor, "key"]], Turns]
"""Of a layer: for positions of queries, of keys, and where the model takes the keys to be."""


def remember(
    model: "HookedTransformer", tokens: Int[Tensor, "1 pos"], piece: int, lead: int
) -> Memory:
    """Keys and values of a long text, read piece by piece: each piece is a text of its own.

    The first tokens of any text become attention sinks; those of a piece are in its lead, whose
    keys are not kept, for the long text has no sinks there.

    Args:
        model: whose they are.
        tokens: the text.
        piece: tokens that are kept at a time.
        lead: tokens before them that are read first.
    """
    keys: list[list[Tensor]] = [[] for _ in range(model.cfg.n_layers)]
    values: list[list[Tensor]] = [[] for _ in range(model.cfg.n_layers)]

    led = 0

    def keep(lists: list[list[Tensor]], x: Tensor, hook: Any) -> None:
        lists[hook.layer()].append(x[:, led:].detach())

    hooks = [
        (_ends("attn.hook_k"), lambda x, hook: keep(keys, x, hook)),
        (_ends("attn.hook_v"), lambda x, hook: keep(values, widen(x), hook)),
    ]
    with torch.no_grad(), model.hooks(fwd_hooks=hooks):
        for start in range(0, tokens.shape[1], piece):
            led = min(lead, start)
            model(tokens[:, start - led : start + piece], stop_at_layer=model.cfg.n_layers)
    return Memory(tokens, [torch.cat(each, 1) for each in keys], [torch.cat(v, 1) for v in values])


def draw_excerpt(positions: int, plan: Plan, random: np.random.Generator) -> Excerpt:
    """Queries at a random place of the last three quarters of a text, and keys before them.

    Args:
        positions: of the text.
        plan: how many of each.
        random: draws them.
    """
    queries = min(plan.queries, positions // 2)
    start = int(random.integers(max(positions // 4, 1), positions - queries + 1))
    first, near = min(plan.first, start), max(start - plan.near, 0)
    between = np.arange(first, max(near, first))
    sampled = np.sort(random.permutation(between)[: plan.sampled])
    keys = np.concatenate((np.arange(first), sampled, np.arange(max(near, first), start)))
    weights = np.ones(len(keys))
    weights[first : first + len(sampled)] = len(between) / max(len(sampled), 1)
    return Excerpt(
        torch.from_numpy(keys), torch.from_numpy(np.log(weights)), start, start + queries
    )


def loss_of_excerpt(
    model: "HookedTransformer", memory: Memory, excerpt: Excerpt, turns_of: TurnsOfLayer
) -> Float[Tensor, ""]:
    """The mean loss of the excerpt's queries, in nats, with gradients into what turns them."""
    from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache
    from transformer_lens.cache.key_value_cache_entry import TransformerLensKeyValueCacheEntry

    device = memory.tokens.device
    chosen, weights = excerpt.keys.to(device), excerpt.log_weights.to(device)
    tokens = memory.tokens[:, excerpt.start : excerpt.stop]
    queries = torch.arange(excerpt.start, excerpt.stop, device=device)
    keys = torch.cat((chosen, queries))
    entries = [
        TransformerLensKeyValueCacheEntry(key[:, chosen], value[:, chosen])
        for key, value in zip(memory.keys, memory.values, strict=True)
    ]
    cache = TransformerLensKeyValueCache(entries, torch.ones_like(chosen)[None])
    # The model takes the keys to be the first of a text, and the queries to follow them.
    taken = torch.arange(len(keys), device=device)
    heads, kv_heads = model.cfg.n_heads, model.cfg.n_key_value_heads or model.cfg.n_heads
    ones = torch.ones(len(queries), heads, 1, device=device)
    of_keys = torch.cat((weights, weights.new_zeros(len(queries))))[:, None, None]
    with ExitStack() as stack:
        stack.enter_context(turned(model, lambda layer: turns_of(layer, queries, keys, taken)))
        stack.enter_context(biased_scores(model, ones, of_keys.expand(-1, kv_heads, -1)))
        residual = model(
            tokens,
            stop_at_layer=model.cfg.n_layers,
            past_kv_cache=cache,
            attention_mask=torch.ones_like(tokens),
        )
        loss: Tensor = model.loss_from_residual(residual, tokens)
    return loss


@contextmanager
def turned(model: "HookedTransformer", turns: Callable[[int], Turns]) -> Iterator[None]:
    """Rotates queries and keys further, layer by layer: rotations of one pair add up."""
    found: dict[int, Turns] = {}

    def turn_queries(x: Tensor, hook: Any) -> Tensor:
        found[hook.layer()] = turns(hook.layer())
        return rotate(x, found[hook.layer()].queries)

    def turn_keys(x: Tensor, hook: Any) -> Tensor:
        # A layer's queries are rotated before its keys.
        return rotate(x, found.pop(hook.layer()).keys)

    hooks = [(_ends("attn.hook_rot_q"), turn_queries), (_ends("attn.hook_rot_k"), turn_keys)]
    with model.hooks(fwd_hooks=hooks):
        yield


def rotate(
    x: Float[Tensor, "1 pos head d_head"], angles: Float[Tensor, "pos head pair"]
) -> Float[Tensor, "1 pos head d_head"]:
    """Rotates pairs as Llama has them: the i-th number with the i-th of the other half."""
    one, other = x.chunk(2, dim=-1)
    cos, sin = angles.cos().to(x), angles.sin().to(x)
    return torch.cat((one * cos - other * sin, other * cos + one * sin), dim=-1)


def _ends(suffix: str) -> Any:
    return lambda name: name.endswith(suffix)
