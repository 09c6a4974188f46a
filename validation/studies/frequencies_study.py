"""The study `frequencies`: what is measured in which unit, and what a record keeps of it."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from pydantic import JsonValue
from torch import Tensor

from transformer_lens_fork.errors import InputError
from validation.studies.contrasts import stored
from validation.studies.frequencies import (
    BANDS,
    FIRST,
    LOOK_UP,
    OTHER_SINK,
    PREVIOUS,
    Decomposition,
    bands_of,
    decompose,
    wavelengths,
)
from validation.studies.frequencies_page import QUESTION, compose
from validation.studies.laboratory import Laboratory
from validation.studies.position_bias import octave_ranges, spread_queries
from validation.studies.records import Unit, Values
from validation.studies.study import Study

CONTEXTS = (4096, 16384)

ROWS = 64
"""Queries, in the later half of the context: each has keys at all distances up to half of it."""

LEAST = {FIRST: 0.5, OTHER_SINK: 0.1, PREVIOUS: 0.2, LOOK_UP: 0.05}
"""Attention, mean of queries, from which on a head is one of a landmark's. The first token is most
of what many heads attend to, and a single far key never is."""

_LEAST_CONTEXT = 256


def units(contexts: tuple[int, ...], seeds: Sequence[int]) -> list[Unit]:
    """Every context and seed.

    Raises:
        InputError: a context is too short for queries in its later half.
    """
    if contexts[0] < _LEAST_CONTEXT:
        raise InputError(
            f"--contexts: {contexts[0]} is too short to tell distances apart; {_LEAST_CONTEXT} "
            "tokens or more are accepted."
        )
    return [{"context": context, "seed": seed} for seed in seeds for context in contexts]


def measure(laboratory: Laboratory, unit: Unit) -> Values:
    """One unit."""
    context, seed = int(unit["context"]), int(unit["seed"])
    queries = spread_queries(context, ROWS, context)[-1]
    model = laboratory.model()
    rope = laboratory.request.checkpoint.rope
    lengths = wavelengths(model)
    bands = bands_of(lengths, rope.original_positions, rope.low_freq_factor, rope.high_freq_factor)
    found = decompose(model, laboratory.tokens(context, seed), queries)
    in_band = torch.tensor([[band == name for band in bands] for name in BANDS]).float()
    octaves = octave_ranges(context // 2)
    # The pairs of a band differ in number: means, so that bands compare.
    deviation = (found.deviation[..., : len(octaves), :] @ in_band.T) / in_band.sum(1).clamp(min=1)
    return {
        "wavelengths_tokens": stored(lengths),
        "bands": list(bands),
        "landmarks": list(found.landmarks),
        "queries": [queries.start, queries.stop, queries.step],
        "octaves": [list(each) for each in octaves],
        "attention_of_heads": stored(found.attention.mean(-1)),
        "other_sink_positions": stored(found.positions[1, ..., 0]),
        "selectivity_of_heads_by_band": stored(found.selectivity.mean(3) @ in_band.T),
        "heads": {name: _members(found, name).tolist() for name in found.landmarks},
        "selectivity_of_rows": {name: _of_rows(found, name) for name in found.landmarks},
        "deviation_of_heads_by_pair": stored(found.deviation[..., : len(octaves), :].mean((1, 3))),
        "deviation_of_heads_by_octave_and_band": stored(deviation.mean(1)),
        "deviation_of_rows": stored(deviation.mean((0, 2))),
        "residual": found.residual,
        "spread_of_scores": found.spread,
    }


def _members(found: Decomposition, landmark: str) -> Int[Tensor, "member 2"]:
    """Layer and head of those that give a landmark enough attention."""
    attention = found.attention[found.landmarks.index(landmark)].mean(-1)
    return (attention >= LEAST[landmark]).nonzero()


def _of_rows(found: Decomposition, landmark: str) -> JsonValue:
    """Selectivity for a landmark, mean of its heads, as [row][pair]; empty without heads."""
    members = _members(found, landmark)
    if not len(members):
        return []
    selectivity = found.selectivity[found.landmarks.index(landmark)]
    return stored(selectivity[members[:, 0], members[:, 1]].mean(0))


_FOLDER = Path(__file__).parent

STUDY = Study(
    name="frequencies",
    question=QUESTION,
    contexts=CONTEXTS,
    dtypes=("float32", "bfloat16"),
    files=(
        _FOLDER / "position_bias.py",
        _FOLDER / "frequencies.py",
        _FOLDER / "frequencies_study.py",
    ),
    units=units,
    measure=measure,
    compose=compose,
)
