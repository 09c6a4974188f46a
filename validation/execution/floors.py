"""Measures what the reference says of itself, beside its hidden states."""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from validation.execution.jobs import ReferenceJob
from validation.judgement.floor import ReferenceMetrics
from validation.judgement.metrics import Head, Stream, stream_errors
from validation.models.reference import SDPA, OnLayer, final_hidden
from validation.models.reordering import permuted_channels, plain_rope

KERNEL_FLOOR = "sdpa against eager"
CHANNEL_FLOOR = "channels permuted against not, both sdpa"

_PLAIN_TOKENS = 4096
"""About as many positions on which RoPE without scaling is run: later ones are only further off."""


def measure_floors(
    model: Any,
    eager: Float[Tensor, "pos d_model"],
    tokens: Int[Tensor, "1 pos"],
    job: ReferenceJob,
    told: Callable[[str], OnLayer | None],
) -> ReferenceMetrics:
    """The floors and the power at one context, all from `sdpa`, whose memory is linear in it.

    Args:
        model: from `load_reference`; the same again when this returns.
        eager: the reference's final hidden states as they are compared with subjects.
        tokens: token ids.
        job: what the worker runs.
        told: given what begins, returns who is told of its layers.
    """
    n_tokens = tokens.shape[1]

    def sdpa(what: str, stop: int) -> Float[Tensor, "pos d_model"]:
        on_layer = told(f"{n_tokens} {what}") or (lambda *_: None)
        return final_hidden(model, tokens[:, :stop], SDPA, on_layer)

    head = linear(model.lm_head.weight)
    streams = {"eager": Stream(eager, head), "sdpa": Stream(sdpa(SDPA, n_tokens), head)}
    with plain_rope(model, job.rope_theta):
        # Whole chunks: the heads of a pair are always fed the same shape.
        stop = min(n_tokens, max(job.chunk, _PLAIN_TOKENS // job.chunk * job.chunk))
        streams["plain"] = Stream(sdpa("plain RoPE", stop), head)
    with permuted_channels(model, job.seed):
        permuted = sdpa("permuted", n_tokens)
        permuted_head = linear(model.lm_head.weight.detach().clone())
    streams["permuted"] = Stream(permuted, permuted_head)
    pairs = {
        KERNEL_FLOOR: ("eager", "sdpa"),
        CHANNEL_FLOOR: ("sdpa", "permuted"),
        "plain": ("sdpa", "plain"),
    }
    errors, bits = stream_errors(streams, pairs, job.chunk)
    plain = errors.pop("plain")
    return ReferenceMetrics(floors=errors, plain=plain, bits=bits)


def linear(weight: Float[Tensor, "vocab d_model"]) -> Head:
    """The reference's unembedding."""

    def head(hidden: Float[Tensor, "1 chunk d_model"]) -> Float[Tensor, "1 chunk vocab"]:
        return F.linear(hidden, weight)

    return head
