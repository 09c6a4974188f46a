"""What a model makes of a long text under one position encoding: losses, entropies, scores.

Plain `torch`, `transformers` and TransformerLens, to be copied from.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from validation.studies.scores import alibi, biased_scores

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Ranges = Sequence[tuple[int, int]]
"""Of positions or distances, the end excluded."""


@dataclass(frozen=True)
class Reading:
    """What one forward showed.

    Attributes:
        loss: of the token that follows each position, in nats.
        entropy: of a query's attention, in nats, mean over heads.
        largest: score before the softmax among the keys at each range of distances, mean over
            heads; NaN for queries that have no such keys.
        largest_of_all: the largest score of any head, layer and chosen query.
    """

    loss: Float[Tensor, "pos"]
    entropy: Float[Tensor, "layer query"]
    largest: Float[Tensor, "layer query range"]
    largest_of_all: float


def read(
    model: "HookedTransformer",
    tokens: Int[Tensor, "1 pos"],
    queries: Sequence[int],
    distances: Ranges,
) -> Reading:
    """One forward, whose attention is looked at for a few queries only.

    Args:
        model: with `attn_implementation="sdpa"`.
        tokens: the text.
        queries: positions whose scores and patterns are made, no position twice.
        distances: ranges, from a key to its query.
    """
    n_layers = model.cfg.n_layers
    entropy = torch.empty(n_layers, len(queries))
    largest = torch.empty(n_layers, len(queries), len(distances))
    peaks: list[float] = []

    # Each layer is reduced at once: what hooks see is [1, head, query, key].
    def see_scores(scores: Tensor, hook: Any) -> None:
        peaks.append(float(scores.max()))
        largest[hook.layer()] = largest_by_distance(scores[0], queries, distances).mean(0).cpu()

    def see_pattern(pattern: Tensor, hook: Any) -> None:
        entropy[hook.layer()] = torch.special.entr(pattern[0].float()).sum(-1).mean(0).cpu()

    hooks = [(_ends("hook_attn_scores"), see_scores), (_ends("hook_pattern"), see_pattern)]
    with torch.no_grad(), model.attention_rows(list(queries)), model.hooks(fwd_hooks=hooks):
        residual = model(tokens, stop_at_layer=n_layers)
        loss = model.loss_from_residual(residual, tokens, per_token=True)[0]
    return Reading(loss.float().cpu(), entropy, largest, max(peaks))


def largest_by_distance(
    scores: Float[Tensor, "head query key"], queries: Sequence[int], distances: Ranges
) -> Float[Tensor, "head query range"]:
    """The largest score of each query among the keys at each range of distances.

    Args:
        scores: -inf where a key comes after its query.
        queries: their positions.
        distances: ranges; NaN where a query's text does not reach back to the middle of one.
    """
    found = scores.new_full((*scores.shape[:2], len(distances)), torch.nan, dtype=torch.float32)
    for row, query in enumerate(queries):
        for column, (near, far) in enumerate(distances):
            if query >= (near + far) // 2:
                keys = scores[:, row, max(query - far + 1, 0) : query - near + 1]
                found[:, row, column] = keys.amax(-1)
    return found


def spread_queries(ranges: Ranges, each: int) -> list[int]:
    """Positions spread evenly over every range, `each` of them, the last of a range among them."""
    chosen: set[int] = set()
    for start, stop in ranges:
        steps = min(each, stop - start)
        chosen |= {start + (stop - start) * (step + 1) // steps - 1 for step in range(steps)}
    return sorted(chosen)


@contextmanager
def position_by_alibi(model: "HookedTransformer", positions: int) -> Iterator[None]:
    """ALiBi in a model whose `rotary_inv_freq` were made to vanish."""
    with biased_scores(model, *alibi(model, positions)):
        yield


def final_hidden(
    model: "HookedTransformer", tokens: Int[Tensor, "1 pos"]
) -> Float[Tensor, "pos d_model"]:
    """What the unembedding is given, in TransformerLens."""
    with torch.no_grad():
        hidden: Tensor = model.ln_final(model(tokens, stop_at_layer=model.cfg.n_layers))[0]
    return hidden


def final_hidden_of_transformers(
    path: Path, config: Any, tokens: Int[Tensor, "1 pos"], dtype: torch.dtype
) -> Float[Tensor, "pos d_model"]:
    """The same of Hugging Face's own model under another configuration.

    Args:
        path: the checkpoint's folder.
        config: its configuration, with other `rope_parameters`.
        tokens: the text, on the device that is to compute.
        dtype: of the weights; frequencies stay float32.
    """
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        path, config=config, dtype=dtype, attn_implementation="sdpa", local_files_only=True
    )
    with torch.no_grad():
        hidden: Tensor = model.to(tokens.device).eval().model(tokens).last_hidden_state[0]
    return hidden


def count_differing(one: Float[Tensor, "..."], other: Float[Tensor, "..."]) -> int:
    """Values that are not the same, bit for bit but for the sign of zero; NaN differs."""
    return int((one != other).sum())


def _ends(suffix: str) -> Any:
    return lambda name: name.endswith(suffix)
