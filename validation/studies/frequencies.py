"""What each rotary frequency adds to attention scores, exactly.

Plain PyTorch and TransformerLens, to be copied: chosen queries only, each layer decomposed in its
hook. RoPE turns dimensions i and i + d_head/2 of queries and keys, a *pair*, by one frequency; a
score q.k/sqrt(d) is the sum over pairs of what they add to it. Shapes: `layer`, `head`, `row` (a
query), `key`, `pair` (0 has the highest frequency), `octave`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from validation.studies.position_bias import octave_of

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

FAR = 512
"""A look-up is far if its key is more than this many tokens away."""

FIRST, OTHER_SINK, PREVIOUS, LOOK_UP = "first token", "other sink", "previous token", "far look-up"
LANDMARKS = (FIRST, OTHER_SINK, PREVIOUS, LOOK_UP)
"""Keys that are looked at, of each head: the first; the one that has most attention of all queries
together, the first aside; the one before the query; and the far one whose attention most exceeds
what other queries give it. The last is not simply the far one with most attention: that is
a sink, in many heads, and no look-up."""

BANDS = ("high", "medium", "low")


@dataclass(frozen=True)
class Decomposition:
    """What each pair adds to the scores of some queries.

    Attributes:
        landmarks: those of `LANDMARKS` that every query has.
        positions: where each landmark is.
        attention: of each landmark; of a far look-up what exceeds that of other queries.
        selectivity: score of a landmark less the mean score of the query's keys, pair by pair: the
            log of how much more attention it gets than their geometric mean.
        deviation: mean absolute difference of a pair's contribution from its mean over the query's
            keys, by octave of distance, the first token aside; 0 where a query has no keys.
        residual: the largest difference between a score of the model, and what the pairs add up
            to.
        spread: standard deviation of the model's scores, of a query, mean of all.
    """

    landmarks: tuple[str, ...]
    positions: Int[Tensor, "landmark layer head row"]
    attention: Float[Tensor, "landmark layer head row"]
    selectivity: Float[Tensor, "landmark layer head row pair"]
    deviation: Float[Tensor, "layer row head octave pair"]
    residual: float
    spread: float


def wavelengths(model: "HookedTransformer") -> Float[Tensor, "pair"]:
    """Tokens to a full turn of each pair, before any scaling."""
    cfg = model.cfg
    exponents = torch.arange(0, cfg.rotary_dim, 2, dtype=torch.float64) / cfg.rotary_dim
    lengths: Tensor = 2 * pi * cfg.rotary_base**exponents
    return lengths


def bands_of(
    lengths: Float[Tensor, "pair"], original: float, low_factor: float, high_factor: float
) -> list[str]:
    """The band of each pair, as Llama 3.1 scales them.

    transformers, `modeling_rope_utils.py`, `_compute_llama3_parameters`: wavelengths below
    original / high_factor are kept, those above original / low_factor are scaled by the whole
    factor, and those between by part of it.

    Args:
        lengths: unscaled wavelengths in tokens.
        original: tokens of context before the scaling.
        low_factor: `low_freq_factor`.
        high_factor: `high_freq_factor`.
    """
    high, medium, low = BANDS
    return [
        high
        if length < original / high_factor
        else (low if length > original / low_factor else medium)
        for length in lengths.tolist()
    ]


def pair_contributions(
    query: Float[Tensor, "head d_head"], keys: Float[Tensor, "key kv_head d_head"], scale: float
) -> Float[Tensor, "head key pair"]:
    """What each pair adds to one query's scores: (q_i k_i + q_j k_j) / scale, j = i + d_head/2.

    Args:
        query: rotated.
        keys: rotated; each of their heads serves as many neighbouring query heads.
        scale: what the model divides scores by, sqrt(d_head).
    """
    n_heads, d_head = query.shape
    grouped = query.view(keys.shape[1], -1, 1, d_head)
    product = grouped * keys.transpose(0, 1)[:, None]  # [kv_head, group, key, d_head]
    half = d_head // 2
    pairs = (product[..., :half] + product[..., half:]) / scale
    return pairs.reshape(n_heads, keys.shape[0], half)


def decompose(
    model: "HookedTransformer", tokens: Int[Tensor, "1 pos"], queries: Sequence[int]
) -> Decomposition:
    """Decomposes the scores of some queries in every layer, in one forward.

    Args:
        model: with `attn_implementation="sdpa"`; all of d_head is rotated, in halves.
        tokens: the text.
        queries: positions, ascending, none before 2.

    Raises:
        ValueError: the model pairs other dimensions.
    """
    cfg = model.cfg
    if cfg.rotary_dim != cfg.d_head or cfg.rotary_adjacent_pairs:
        raise ValueError("only models that rotate all of d_head, in halves, are decomposed")
    rotated: dict[str, Tensor] = {}
    layers: dict[int, _Layer] = {}

    def keep(value: Tensor, hook: Any) -> None:
        rotated[hook.name.rsplit(".", 1)[-1]] = value[0]

    def split(scores: Float[Tensor, "1 head row key"], hook: Any) -> None:
        query, keys = rotated["hook_rot_q"][list(queries)], rotated["hook_rot_k"]
        scale = float(model.blocks[hook.layer()].attn.attn_scale)
        layers[hook.layer()] = _decompose_layer(query, keys, scores[0], queries, scale)
        rotated.clear()

    with (
        torch.no_grad(),
        model.attention_rows(list(queries)),
        model.hooks(
            fwd_hooks=[
                (lambda name: name.endswith(("hook_rot_q", "hook_rot_k")), keep),
                (lambda name: name.endswith("hook_attn_scores"), split),
            ]
        ),
    ):
        model(tokens, stop_at_layer=cfg.n_layers)
    parts = [layers[layer] for layer in sorted(layers)]
    return Decomposition(
        landmarks=landmarks_of(queries),
        positions=torch.stack([part.positions for part in parts], dim=1),
        attention=torch.stack([part.attention for part in parts], dim=1),
        selectivity=torch.stack([part.selectivity for part in parts], dim=1),
        deviation=torch.stack([part.deviation for part in parts]),
        residual=max(part.residual for part in parts),
        spread=sum(part.spread for part in parts) / len(parts),
    )


def landmarks_of(queries: Sequence[int]) -> tuple[str, ...]:
    """The landmarks that every one of these queries has."""
    return LANDMARKS if min(queries) > FAR + 1 else LANDMARKS[:-1]


@dataclass(frozen=True)
class _Layer:
    """`Decomposition` of one layer."""

    positions: Int[Tensor, "landmark head row"]
    attention: Float[Tensor, "landmark head row"]
    selectivity: Float[Tensor, "landmark head row pair"]
    deviation: Float[Tensor, "row head octave pair"]
    residual: float
    spread: float


def _decompose_layer(
    rotated: Float[Tensor, "row head d_head"],
    keys: Float[Tensor, "key kv_head d_head"],
    scores: Float[Tensor, "head row key"],
    queries: Sequence[int],
    scale: float,
) -> _Layer:
    # In float32 at least: in half precision the residual is then of the model's rounding alone.
    dtype = torch.promote_types(scores.dtype, torch.float32)
    positions, attention = find_landmarks(scores.to(dtype), queries)
    heads = torch.arange(len(scores), device=scores.device)
    selectivity, deviation, residuals, spreads = [], [], [], []
    octaves = int(octave_of(torch.tensor(len(keys) - 1))) + 1
    for row, query in enumerate(queries):
        pairs = pair_contributions(rotated[row].to(dtype), keys[: query + 1].to(dtype), scale)
        of_model = scores[:, row, : query + 1].to(dtype)
        residuals.append(float((pairs.sum(-1) - of_model).abs().max()))
        spreads.append(float(of_model.std(-1).mean()))
        mean = pairs.mean(1)
        selectivity.append(pairs[heads, positions[:, :, row]] - mean)
        deviation.append(_by_octave((pairs - mean[:, None]).abs_(), query, octaves))
    return _Layer(
        positions.cpu(),
        attention.cpu(),
        torch.stack(selectivity, dim=2).cpu(),
        torch.stack(deviation).cpu(),
        max(residuals),
        sum(spreads) / len(spreads),
    )


def find_landmarks(
    scores: Float[Tensor, "head row key"], queries: Sequence[int]
) -> tuple[Int[Tensor, "landmark head row"], Float[Tensor, "landmark head row"]]:
    """Positions and attention of the landmarks that all queries have, as `Decomposition` has them.

    Args:
        scores: rows of one layer's scores, masked where a key is after the query.
        queries: their positions, ascending.
    """
    pattern = scores.softmax(-1)
    keys = torch.arange(pattern.shape[-1], device=pattern.device)
    rows = torch.tensor(queries, device=pattern.device)
    total = pattern.sum(1, keepdim=True)
    n_others = (rows[:, None] >= keys).sum(0) - 1  # of queries that see a key, but one
    excess = pattern - (total - pattern) / n_others.clamp(min=1)
    first = torch.zeros_like(pattern[..., 0]).long()
    # Of the keys that all queries see.
    other = 1 + total[..., 1 : queries[0]].argmax(-1).expand_as(first)
    found = [first, other, first + rows - 1]
    shares = [pattern.gather(-1, each[..., None])[..., 0] for each in found]
    if LOOK_UP in landmarks_of(queries):
        is_far = (keys > 0) & (rows[:, None] - keys > FAR)
        most, at = excess.masked_fill(~is_far, -torch.inf).max(-1)
        found.append(at)
        shares.append(most)
    return torch.stack(found), torch.stack(shares)


def _by_octave(
    values: Float[Tensor, "head key pair"], query: int, octaves: int
) -> Float[Tensor, "head octave pair"]:
    """The mean over keys of each octave of distance, the first token aside; 0 where none are."""
    distances = query - torch.arange(1, query + 1, device=values.device)
    octave = octave_of(distances)
    sums = values.new_zeros(len(values), octaves, values.shape[-1])
    sums.index_add_(1, octave, values[:, 1:])
    counts = torch.bincount(octave, minlength=octaves).clamp(min=1)
    return sums / counts[:, None]
