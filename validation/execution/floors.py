"""Measures what the reference says of itself, beside its hidden states."""

import re
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from validation.execution.accidents import exhausted
from validation.execution.jobs import DtypeName, Forward, ReferenceJob
from validation.execution.memory import return_freed_memory
from validation.execution.meter import Stopwatch
from validation.judgement.floor import BACKEND_FLOOR, ReferenceMetrics
from validation.judgement.metrics import Head, Stream, stream_errors
from validation.models.reference import EAGER, SDPA, OnLayer, final_hidden
from validation.models.reordering import permuted_channels, plain_rope
from validation.models.rowwise import eager_in_rows

KERNEL_FLOOR = "sdpa against eager"
CHANNEL_FLOOR = "channels permuted against not, both sdpa"

_BACKENDS = (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION)
"""Those that take grouped heads without a copy of every key, in half precision."""

_FLOAT32_BACKENDS = (SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)
"""Those that CUDA has for float32; the second forms all scores."""

_NO_KERNEL = re.compile(r"No (viable backend|available kernel)|No execution plans|cuDNN", re.I)
"""What torch and cuDNN say where a backend cannot take a dtype, a width of heads, a length."""

_PLAIN_TOKENS = 4096
"""About as many positions on which RoPE without scaling is run: later ones are only further off."""


def measure_floors(
    model: Any,
    compared: Float[Tensor, "pos d_model"],
    tokens: Int[Tensor, "1 pos"],
    forward: Forward,
    job: ReferenceJob,
    told: Callable[[str], OnLayer | None],
    watch: Stopwatch,
) -> ReferenceMetrics:
    """The floors and the power at one context, with no forward that takes more memory than planned.

    Args:
        model: from `load_reference`; the same again when this returns.
        compared: the reference's final hidden states, of `job.attention`, as subjects are compared
            with them.
        tokens: token ids.
        forward: how the context is run.
        job: what the worker runs.
        told: given what begins, returns who is told of its layers.
        watch: counts the forwards as `floor`, and as `compare` what their logits take.
    """
    n_tokens = tokens.shape[1]

    def run(attention: str, what: str, stop: int) -> Float[Tensor, "pos d_model"]:
        on_layer = told(f"{n_tokens} {what}") or (lambda *_: None)
        # Holes that the last forward left would be added to what this one needs.
        return_freed_memory()
        with watch.timing("floor"):
            if attention == EAGER and forward.eager_prefill < n_tokens:
                return eager_by_rows(model, tokens, forward.eager_prefill, on_layer)
            return final_hidden(model, tokens[:, :stop], attention, on_layer)

    head = linear(model.lm_head.weight)
    other = EAGER if job.attention == SDPA else SDPA
    # The first is the one whose bits are kept.
    streams: dict[str, Stream] = {job.attention: Stream(compared, head)}
    streams[other] = Stream(run(other, f"floor, {other}", n_tokens), head)
    backends: dict[str, Stream] = {}
    if job.device.startswith("cuda"):
        pair = backends_of(job.dtype, scores_fit=forward.eager_prefill >= n_tokens)
        found = on_backends(pair, lambda name: run(SDPA, f"floor, {name}", n_tokens))
        backends = {name: Stream(hidden, head) for name, hidden in found.items()}
    with plain_rope(model, job.rope_theta):
        # Whole chunks: the heads of a pair are always fed the same shape.
        stop = min(n_tokens, max(job.chunk, _PLAIN_TOKENS // job.chunk * job.chunk))
        streams["plain"] = Stream(run(SDPA, "floor, plain RoPE", stop), head)
    with permuted_channels(model, job.seed):
        permuted = run(SDPA, "floor, permuted", n_tokens)
        permuted_head = linear(model.lm_head.weight.detach().clone())
    streams["permuted"] = Stream(permuted, permuted_head)
    pairs = {
        KERNEL_FLOOR: (EAGER, SDPA),
        CHANNEL_FLOOR: (SDPA, "permuted"),
        "plain": (SDPA, "plain"),
    }
    if backends:
        streams |= backends
        one, another = backends
        pairs[BACKEND_FLOOR] = (one, another)
    with watch.timing("compare"):
        errors, bits = stream_errors(streams, pairs, job.chunk)
    plain = errors.pop("plain")
    return ReferenceMetrics(floors=errors, plain=plain, bits=bits)


def measure_bits(
    model: Any, compared: Float[Tensor, "pos d_model"], job: ReferenceJob, watch: Stopwatch
) -> ReferenceMetrics:
    """`measure_floors` without a floor: what one needs to see that not one logit differs."""
    streams: dict[str, Stream] = {job.attention: Stream(compared, linear(model.lm_head.weight))}
    with watch.timing("compare"):
        _, bits = stream_errors(streams, {}, job.chunk)
    return ReferenceMetrics(floors={}, plain=None, bits=bits)


def backends_of(dtype: DtypeName, *, scores_fit: bool) -> tuple[SDPBackend, ...]:
    """Two of CUDA's backends of sdpa that take the dtype, or none.

    Args:
        dtype: of queries, keys and values.
        scores_fit: all scores of a layer fit the memory, as eager attention holds them.
    """
    if dtype != "float32":
        return _BACKENDS
    return _FLOAT32_BACKENDS if scores_fit else ()


def on_backends(
    backends: tuple[SDPBackend, ...],
    run: Callable[[str], Float[Tensor, "pos d_model"]],
) -> dict[str, Float[Tensor, "pos d_model"]]:
    """What a forward gives on each backend of sdpa, by their names.

    Args:
        backends: which.
        run: the forward, given the backend's name. If one has no kernel for it there is nothing to
            compare, and nothing is returned.
    """
    found = {}
    for backend in backends:
        try:
            with sdpa_kernel(backend):
                found[backend.name] = run(backend.name)
        except RuntimeError as error:
            if exhausted(error) or not _NO_KERNEL.search(str(error)):
                raise
            return {}
    return found


def eager_by_rows(
    model: Any, tokens: Int[Tensor, "1 pos"], rows: int, on_layer: OnLayer
) -> Float[Tensor, "pos d_model"]:
    """Eager attention for `rows` queries at a time, or fewer if so many do not fit after all."""
    from accelerate.utils import find_executable_batch_size

    def attempt(batch_size: int) -> Float[Tensor, "pos d_model"]:
        return final_hidden(model, tokens, eager_in_rows(batch_size), on_layer)

    hidden: Float[Tensor, "pos d_model"] = find_executable_batch_size(attempt, rows)()
    return hidden


def linear(weight: Float[Tensor, "vocab d_model"]) -> Head:
    """The reference's unembedding."""

    def head(hidden: Float[Tensor, "1 chunk d_model"]) -> Float[Tensor, "1 chunk vocab"]:
        # Where the model is spread over devices, its last norm may be elsewhere.
        return F.linear(hidden.to(weight.device), weight)

    return head
