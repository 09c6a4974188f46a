"""Probes `transformers` between loading and the contexts: what it computes at every stage.

The files say what is computed; `validation.judgement.stages` compares.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from validation.execution.floors import measure_floors
from validation.execution.jobs import Forward, ReferenceJob
from validation.execution.meter import Stopwatch
from validation.execution.probe_files import (
    CHUNKS,
    FINAL,
    FLOOR,
    LAYER_FLOOR,
    PADDED,
    PARAMETER_SETS,
    POSITIONS,
    ROPE,
    ROTATION,
    SET_POSITIONS,
    WHOLE,
    PaddedBatch,
    ProbeFiles,
    hidden_name,
    prompt_parts,
)
from validation.models.reference import EAGER, SDPA
from validation.rope.angles import ObservedAngles
from validation.rope.oracles import TransformersOracle
from validation.rope.parameter_sets import parameter_sets

_Hidden = Float[Tensor, "row pos d_model"]


def probe_reference(model: Any, tokens: Int[Tensor, "1 pos"], job: ReferenceJob) -> None:
    """Writes what `transformers` computes at every stage, and its floor.

    Args:
        model: from `load_reference`.
        tokens: the prompt on which layers and logits are compared.
        job: what the worker runs.

    Raises:
        ValueError: the floor's logits are not finite.
    """
    files = ProbeFiles.of_reference(job.scratch)
    model.set_attn_implementation(job.attention)
    with torch.no_grad():
        _probe_rope(model, files, job.seed)
        with _layer_inputs(model, _writer(files, WHOLE)):
            final = model.model(tokens, use_cache=False).last_hidden_state[0]
        files.write(FINAL, {"hidden": final})
        _probe_chunks(model, tokens, files)
        _probe_padded(model, PaddedBatch.of(tokens), files)
        model.set_attn_implementation(SDPA if job.attention == EAGER else EAGER)
        _probe_layer_floor(model, tokens, files)
    n_tokens = tokens.shape[1]
    forward = Forward(context=n_tokens, prefill=n_tokens, eager_prefill=n_tokens)
    watch = Stopwatch(*job.devices)
    floors = measure_floors(model, final, tokens, forward, job, lambda *_: None, watch)
    floors.save(files.metrics_path(FLOOR))


def _probe_rope(model: Any, files: ProbeFiles, seed: int) -> None:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    rotary = model.model.rotary_emb
    positions = min(POSITIONS, model.config.max_position_embeddings)
    like = next(model.parameters())
    with ObservedAngles(2 * len(rotary.inv_freq)) as observed:
        cos, sin = rotary(like, torch.arange(positions, device=like.device)[None])
    assert observed.cos is not None
    tables = {"cos": cos[0], "sin": sin[0]}
    files.write(ROPE, {"inv_freq": rotary.inv_freq, "angles": observed.cos, **tables})
    files.write(PARAMETER_SETS, _tables_of_sets(2 * len(rotary.inv_freq), like))
    generator = torch.Generator().manual_seed(seed)
    q, k = (
        torch.randn(cos.shape[1:], generator=generator).to(like.device, like.dtype)
        for _ in range(2)
    )
    rotated_q, rotated_k = apply_rotary_pos_emb(q[None, None], k[None, None], cos, sin)
    rotated = {"rotated_q": rotated_q[0, 0], "rotated_k": rotated_k[0, 0]}
    files.write(ROTATION, {"q": q, "k": k, **rotated})


def _tables_of_sets(head_dim: int, like: Tensor) -> dict[str, Tensor]:
    tables: dict[str, Tensor] = {}
    for name, rope in parameter_sets(head_dim).items():
        oracle = TransformersOracle(rope, head_dim, like.device)
        cos, sin = oracle.tables(range(SET_POSITIONS), like.dtype)
        tables |= {f"{name}/cos": cos, f"{name}/sin": sin}
    return tables


def _probe_chunks(model: Any, tokens: Int[Tensor, "1 pos"], files: ProbeFiles) -> None:
    parts = prompt_parts(tokens.shape[1])
    cache = None
    for name in CHUNKS:
        if name in parts:
            chunk = tokens[:, parts[name].start : parts[name].stop]
            with _layer_inputs(model, _writer(files, name)):
                cache = model.model(chunk, past_key_values=cache, use_cache=True).past_key_values


def _probe_padded(model: Any, batch: PaddedBatch, files: ProbeFiles) -> None:
    with _layer_inputs(model, _writer(files, PADDED)):
        model.model(
            batch.tokens,
            attention_mask=batch.mask,
            position_ids=batch.position_ids,
            use_cache=False,
        )


def _probe_layer_floor(model: Any, tokens: Int[Tensor, "1 pos"], files: ProbeFiles) -> None:
    """Each layer given the same input as in `WHOLE`, its attention in another order."""
    n_layers = len(model.model.layers)
    mean_square = torch.zeros(n_layers, tokens.shape[1], dtype=torch.float64)

    def compare(layer: int, hidden: _Hidden) -> _Hidden | None:
        compared = files.rows(hidden_name(WHOLE, layer), "hidden")
        if layer:
            error = hidden[0].cpu().double() - compared.double()
            mean_square[layer - 1] = error.square().mean(-1)
        return compared.to(hidden.device)[None] if layer < n_layers else None

    with _layer_inputs(model, compare):
        model.model(tokens, use_cache=False)
    files.write(LAYER_FLOOR, {"mean_square": mean_square})


def _writer(files: ProbeFiles, part: str) -> Callable[[int, _Hidden], None]:
    def write(layer: int, hidden: _Hidden) -> None:
        files.write(hidden_name(part, layer), {"hidden": hidden.flatten(0, 1)})

    return write


@contextmanager
def _layer_inputs(model: Any, visit: Callable[[int, _Hidden], _Hidden | None]) -> Iterator[None]:
    """Shows `visit` what enters each layer, and what leaves the last.

    What `visit` returns enters the layer instead.
    """
    layers = model.model.layers

    def entering(layer: int) -> Callable[..., tuple[Any, Any] | None]:
        def hook(_module: Any, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
            instead = visit(layer, args[0] if args else kwargs["hidden_states"])
            if instead is None:
                return None
            if args:
                return (instead, *args[1:]), kwargs
            return args, kwargs | {"hidden_states": instead}

        return hook

    def leaving(_module: Any, _args: Any, output: Any) -> None:
        # transformers 4 returned tuples.
        visit(len(layers), output[0] if isinstance(output, tuple) else output)

    handles = [
        layer.register_forward_pre_hook(entering(i), with_kwargs=True)
        for i, layer in enumerate(layers)
    ]
    handles.append(layers[-1].register_forward_hook(leaving))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
