"""The study of position encodings: which units it has, and how each is measured."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from pydantic import JsonValue

from validation.studies.encodings import (
    count_differing,
    final_hidden,
    final_hidden_of_transformers,
    position_by_alibi,
    read,
    spread_queries,
)
from validation.studies.encodings_page import compose
from validation.studies.estimates import octaves
from validation.studies.laboratory import Laboratory
from validation.studies.losses import block_means
from validation.studies.records import Unit, Values
from validation.studies.schemes import (
    NO_ROTATION,
    SCHEMES,
    covering_factor,
    frequencies,
    positive,
    scheme_config,
    shrink,
    trained_positions,
)
from validation.studies.study import Study

ALIBI = "alibi"

CHECKED_TOKENS = 1024
"""At most, of the text on which the fork is compared with Hugging Face."""

_EACH = 16
"""Queries of every range of positions whose attention is looked at."""


def plan_units(contexts: tuple[int, ...], seeds: Sequence[int]) -> list[Unit]:
    """Scheme by scheme, as a model is loaded for each: the comparison first, then the seeds."""
    units: list[Unit] = []
    for scheme in (*SCHEMES, ALIBI):
        for context in contexts:
            own: Unit = {"scheme": scheme, "context": context}
            if scheme != ALIBI:  # transformers has none for a Llama
                units.append(own | {"compared_with": "transformers"})
            units.extend(own | {"seed": seed} for seed in seeds)
    return units


def measure(laboratory: Laboratory, unit: Unit) -> Values:
    """One scheme on one text, or beside Hugging Face."""
    return _compare(laboratory, unit) if "compared_with" in unit else _read(laboratory, unit)


def _compare(laboratory: Laboratory, unit: Unit) -> Values:
    name, context = str(unit["scheme"]), int(unit["context"])
    whole = scheme_config(name, _config(laboratory), context)
    config, n_tokens = shrink(whole, context, CHECKED_TOKENS)
    tokens = laboratory.tokens(n_tokens, seed=0)
    laboratory.release()  # one model in memory at a time
    theirs = final_hidden_of_transformers(
        laboratory.request.checkpoint.path, config, tokens, laboratory.dtype
    )
    inv_freq, scaling = frequencies(whole, context)
    model = laboratory.model(rotary_inv_freq=positive(inv_freq), rotary_attention_scaling=scaling)
    ours = final_hidden(model, tokens)
    return {
        "checked_tokens": n_tokens,
        "rope_parameters": config.rope_parameters,
        "values": ours.numel(),
        "values_differing": count_differing(ours, theirs),
        "largest_difference": float((ours.float() - theirs.float()).abs().max()),
    }


def _read(laboratory: Laboratory, unit: Unit) -> Values:
    name, context, seed = str(unit["scheme"]), int(unit["context"]), int(unit["seed"])
    config = _config(laboratory)
    if name == ALIBI:
        inv_freq, scaling = [NO_ROTATION] * (laboratory.request.checkpoint.shape.head_dim // 2), 1.0
    else:
        found, scaling = frequencies(scheme_config(name, config, context), context)
        inv_freq = positive(found)
    model = laboratory.model(rotary_inv_freq=inv_freq, rotary_attention_scaling=scaling)
    ranges = octaves(context)
    queries = spread_queries(ranges, _EACH)
    with ExitStack() as stack:
        if name == ALIBI:
            stack.enter_context(position_by_alibi(model, context))
        reading = read(model, laboratory.tokens(context, seed), queries, ranges)
    last = [row for row, query in enumerate(queries) if query >= ranges[-1][0]]
    return {
        "trained_tokens": trained_positions(config),
        "factor": covering_factor(config, context),
        "attention_scaling": scaling,
        "inv_freq_radians": [*inv_freq],
        "loss_nats_by_block": [*block_means(reading.loss.double().numpy())],
        "ranges": [list(each) for each in ranges],
        "queries": [*queries],
        "entropy_nats_by_query": _rounded(reading.entropy.mean(0)),
        "entropy_nats_by_layer_of_last_range": _rounded(reading.entropy[:, last].mean(1)),
        "largest_score_by_range_and_query": [
            _rounded(each) for each in reading.largest.mean(0).unbind(1)
        ],
        "largest_score_by_layer_of_last_range": _rounded(reading.largest[:, last, -1].nanmean(1)),
        "largest_score_of_all": reading.largest_of_all,
    }


def _config(laboratory: Laboratory) -> object:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(laboratory.request.checkpoint.path, local_files_only=True)


def _rounded(values: torch.Tensor) -> list[JsonValue]:
    """Six digits are more than their uncertainty; None for NaN, which JSON does not have."""
    return [None if np.isnan(value) else float(f"{value:.6g}") for value in values.tolist()]


def _beside(names: Iterable[str]) -> tuple[Path, ...]:
    return tuple(Path(__file__).parent / f"{name}.py" for name in names)


STUDY = Study(
    name="encodings",
    question="What does a model that was trained with RoPE lose, and where, if its positions are "
    "encoded otherwise, without fine-tuning?",
    contexts=(12_288,),
    dtypes=("float32", "bfloat16"),
    files=_beside(("encodings", "encodings_study", "estimates", "losses", "schemes", "scores")),
    units=plan_units,
    measure=measure,
    compose=compose,
)
