"""Probes a TransformerLens tree between loading and the contexts: what it computes at every stage.

Whatever the tree's code is: its angles are what it takes the sine and cosine of, its tables what
it rotates with. A tree may raise anything; what it raised is noted in the file, and what is missing
there counts as different. The model is left as it was found.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from textwrap import shorten
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from validation.execution.accidents import exhausted
from validation.execution.graft import measure_graft
from validation.execution.jobs import SubjectJob
from validation.execution.probe_files import (
    PADDED,
    PARAMETER_SETS,
    ROPE,
    ROTATION,
    SET_POSITIONS,
    WHOLE,
    PaddedBatch,
    ProbeFiles,
    chunk_edges,
    hidden_name,
    initial_name,
    prompt_parts,
    same_bits,
    trouble_name,
)
from validation.judgement.metrics import Head
from validation.models.rope_parameters import Llama3Rope
from validation.models.streaming import kept_layer
from validation.models.subject import Subject
from validation.rope.angles import ObservedAngles
from validation.rope.parameter_sets import parameter_sets

_T = TypeVar("_T")
_Vectors = Float[Tensor, "pos head_dim"]


def probe_subject(
    subject: Subject, tokens: Int[Tensor, "1 pos"], reference_head: Head, job: SubjectJob
) -> None:
    """Writes what the tree computes at every stage, on the reference's inputs.

    Args:
        subject: the loaded tree.
        tokens: the prompt on which layers and logits are compared.
        reference_head: the reference's unembedding.
        job: what the worker runs; its scratch folder has the reference's files.
    """
    model, scratch = subject.model, job.scratch
    reference, files = ProbeFiles.of_reference(scratch), ProbeFiles.of_subject(scratch)
    files.clear()
    with torch.no_grad():
        # The number of positions of the stock release was chosen for it: tables that do not reach
        # far enough are built anew by its own code and not held against it.
        _probe_rope(model, reference, files, may_rebuild=job.is_stock)
        _probe_parameter_sets(model.blocks[0].attn, files)
        _probe_layers(subject, PaddedBatch.of(tokens), reference, files)
        measure_graft(subject, tokens, reference_head, scratch, job.chunk)


def _probe_rope(model: Any, reference: ProbeFiles, files: ProbeFiles, may_rebuild: bool) -> None:
    attentions = [block.attn for block in model.blocks]
    first = attentions[0]
    initial = {"cos": first.rotary_cos, "sin": first.rotary_sin}
    positions, head_dim = reference.shapes(ROTATION)["q"]
    with _restored(model, first):
        if may_rebuild:
            model.cfg.n_ctx = max(model.cfg.n_ctx, positions)
        trouble: list[str] = []
        with ObservedAngles(head_dim) as observed:
            rotated = _rotate(first, reference, trouble)
            if len(first.rotary_cos) < positions and may_rebuild:
                first.rotary_sin, first.rotary_cos = rebuild_tables(first, positions)
                trouble.clear()
                rotated = _rotate(first, reference, trouble)
            elif observed.sin is None or len(observed.sin) < positions:
                _attempt(
                    trouble, "rebuilding the tables", partial(rebuild_tables, first, positions)
                )
        tables = {"cos": first.rotary_cos[:positions], "sin": first.rotary_sin[:positions]}
        angles = _angles(observed, positions)
        files.write(ROPE, tables | angles, trouble="; ".join(trouble))
        files.write(ROTATION, rotated, trouble="; ".join(trouble))
        grown = {name: table[: len(initial[name])] for name, table in tables.items()}
    for layer, attention in enumerate(attentions):
        own = {"cos": attention.rotary_cos, "sin": attention.rotary_sin}
        limit = min(len(own["cos"]), positions, 4096)
        if not all(same_bits(own[name][:limit], grown[name][:limit]) for name in own):
            cut = {name: table[:limit] for name, table in own.items()}
            files.write(initial_name(layer), cut)


def _probe_parameter_sets(attention: Any, files: ProbeFiles) -> None:
    """Tables at other RoPE parameters, through the tree's configuration."""
    tables: dict[str, Tensor] = {}
    trouble: list[str] = []
    for name, rope in parameter_sets(attention.cfg.d_head).items():
        with _configured(attention.cfg, rope):
            what = f"computing the tables at {name} parameters"
            built = _attempt(trouble, what, partial(rebuild_tables, attention, SET_POSITIONS))
        if built is not None:
            tables |= {f"{name}/sin": built[0], f"{name}/cos": built[1]}
    files.write(PARAMETER_SETS, tables, trouble="; ".join(trouble))


@contextmanager
def _configured(cfg: Any, rope: Llama3Rope) -> Iterator[None]:
    """A configuration with other RoPE parameters, as far as it has fields for them."""
    wanted = {
        "rotary_base": rope.theta,
        "NTK_by_parts_factor": rope.factor,
        "NTK_by_parts_low_freq_factor": rope.low_freq_factor,
        "NTK_by_parts_high_freq_factor": rope.high_freq_factor,
        "NTK_original_ctx_len": rope.original_positions,
    }
    own = {name: getattr(cfg, name) for name in wanted if hasattr(cfg, name)}
    try:
        for name in own:
            setattr(cfg, name, wanted[name])
        yield
    finally:
        for name, value in own.items():
            setattr(cfg, name, value)


def _angles(observed: ObservedAngles, positions: int) -> dict[str, Tensor]:
    if observed.sin is None or observed.cos is None:
        return {}
    angles = {"angles": observed.cos[:positions]}
    if not same_bits(observed.sin, observed.cos):
        angles["angles_of_sin"] = observed.sin[:positions]
    return angles


def _rotate(attention: Any, reference: ProbeFiles, trouble: list[str]) -> dict[str, _Vectors]:
    """Rotates as the model does: from the start, and at offsets, where its tables may grow."""
    device = attention.rotary_cos.device
    rotated = {}
    for name in ("q", "k"):
        vectors = reference.rows(ROTATION, name)
        x = vectors.to(device)[None, :, None]
        empty = x[0, :0, 0]
        # The cache holds keys as they were before: all of them are rotated each time.
        edges = chunk_edges(x.shape[1]) if name == "q" else [0, x.shape[1]]
        parts = [empty]
        for start, stop in pairwise(edges):
            what = f"apply_rotary of {name} at positions {start}-{stop - 1}"
            part = _attempt(trouble, what, partial(_at, attention, x, start, stop))
            if part is None:
                break
            parts.append(part)
        rotated[f"chunked_{name}"] = torch.cat(parts)
        del parts
        what = f"apply_rotary of {name} at once"
        whole = _attempt(trouble, what, partial(attention.apply_rotary, x, 0))
        rotated[f"rotated_{name}"] = empty if whole is None else whole[0, :, 0]
    return rotated


def _at(attention: Any, x: Tensor, start: int, stop: int) -> _Vectors:
    """With an attention mask, as a forward through the cache has one."""
    mask = torch.ones(1, stop, dtype=torch.int64, device=x.device)
    rotated: Tensor = attention.apply_rotary(x[:, start:stop], start, mask)
    return rotated[0, :, 0]


def rebuild_tables(attention: Any, positions: int) -> tuple[Tensor, Tensor]:
    """Sine and cosine, as the tree computes them for this layer."""
    compute, cfg = attention.calculate_sin_cos_rotary, attention.cfg
    base = attention._rotary_base() if hasattr(attention, "_rotary_base") else cfg.rotary_base
    where = {"device": attention.rotary_cos.device}
    accepted = inspect.signature(compute).parameters
    where = {name: device for name, device in where.items() if name in accepted}
    sin, cos = compute(cfg.rotary_dim, positions, base=base, dtype=cfg.dtype, **where)
    device = attention.rotary_cos.device
    return sin.to(device), cos.to(device)


def _probe_layers(
    subject: Subject, batch: PaddedBatch, reference: ProbeFiles, files: ProbeFiles
) -> None:
    """Each layer on what enters the reference's: whole, in two chunks through its cache, padded."""
    model = subject.model
    shape = reference.shapes(hidden_name(WHOLE, 0))["hidden"]
    parts = prompt_parts(shape[0])
    masks = {name: _mask_until(span.stop, model) for name, span in parts.items() if name != WHOLE}
    for layer in range(model.cfg.n_layers):
        trouble: list[str] = []
        cache = subject.new_cache()
        with kept_layer(model, layer):
            for name in (*parts, PADDED):
                hidden = reference.rows(hidden_name(name, layer), "hidden").to(model.cfg.device)
                rows = hidden.view(2 if name == PADDED else 1, -1, hidden.shape[-1])
                options: dict[str, Any] = {"start_at_layer": layer, "stop_at_layer": layer + 1}
                if name in masks:
                    options |= {"past_kv_cache": cache, "attention_mask": masks[name]}
                elif name == PADDED:
                    options |= {"attention_mask": batch.mask}
                forward = partial(model, rows, **options)
                leaving = _attempt(trouble, f"layer {layer}, {name}", forward)
                if leaving is not None:
                    files.write(hidden_name(name, layer), {"hidden": leaving.flatten(0, 1)})
        if trouble:
            files.write(trouble_name(layer), {}, trouble="; ".join(trouble))


def _mask_until(stop: int, model: Any) -> Int[Tensor, "1 pos"]:
    """Of all positions so far: without a tokenizer a forward through the cache needs it."""
    return torch.ones(1, stop, dtype=torch.int64, device=model.cfg.device)


def _attempt(trouble: list[str], what: str, compute: Callable[[], _T]) -> _T | None:
    try:
        return compute()
    except Exception as error:  # a foreign tree may raise anything
        if exhausted(error):
            raise
        line = f"{what} raised {type(error).__name__}: {error}"
        trouble.append(shorten(line, 160, placeholder=" ..."))
        return None


@contextmanager
def _restored(model: Any, attention: Any) -> Iterator[None]:
    """Puts the tables and the number of positions back: contexts must start from there."""
    cos, sin, n_ctx = attention.rotary_cos, attention.rotary_sin, model.cfg.n_ctx
    try:
        yield
    finally:
        attention.rotary_cos, attention.rotary_sin = cos, sin
        model.cfg.n_ctx = n_ctx
