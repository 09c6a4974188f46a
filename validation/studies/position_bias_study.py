"""The study `position-bias`: what is measured in which unit, and what a record keeps of it."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from transformer_lens_fork.errors import InputError
from validation.studies.contrasts import stored
from validation.studies.laboratory import Laboratory
from validation.studies.position_bias import (
    ask,
    divide_attention,
    hide_needle,
    octave_ranges,
    spread_queries,
)
from validation.studies.position_bias_page import ATTENTION, NEEDLE, QUESTION, compose
from validation.studies.records import Unit, Values
from validation.studies.study import Study

CONTEXTS = (1024, 4096, 8192, 16384)

DEPTHS = (0.05, 0.35, 0.65, 0.95)
"""Two near the ends, two in the middle; not the ends themselves, where text is on one side only."""

ROWS = 32
"""Queries in each octave of positions."""

_LEAST_QUERY = 512
_LEAST_CONTEXT = 256
"""Needle and question take about 60 tokens: there has to be some text around them."""


def units(contexts: tuple[int, ...], seeds: Sequence[int]) -> list[Unit]:
    """A passkey at every length and depth; then attention at the longest context.

    The longest of several contexts has no passkeys: its forwards would take longer than all others
    together.

    Raises:
        InputError: a context is too short for a passkey in a text.
    """
    if contexts[0] < _LEAST_CONTEXT:
        raise InputError(
            f"--contexts: {contexts[0]} is too short for a passkey in a text; {_LEAST_CONTEXT} "
            "tokens or more are accepted."
        )
    needles: list[Unit] = [
        {"part": NEEDLE, "length": length, "depth": depth, "seed": seed}
        for seed in seeds
        for length in contexts[:-1] or contexts
        for depth in DEPTHS
    ]
    attention: list[Unit] = [
        {"part": ATTENTION, "context": contexts[-1], "seed": seed} for seed in seeds
    ]
    return needles + attention


def measure(laboratory: Laboratory, unit: Unit) -> Values:
    """One unit.

    Raises:
        InputError: the checkpoint has no tokenizer.
    """
    if not laboratory.request.checkpoint.has_tokenizer:
        raise InputError(
            f"--checkpoint: {laboratory.request.checkpoint.name!r} has no tokenizer; this study "
            "asks questions in words, and accepts one that has."
        )
    return (_measure_needle if unit["part"] == NEEDLE else _measure_attention)(laboratory, unit)


def _measure_needle(laboratory: Laboratory, unit: Unit) -> Values:
    length, depth, seed = int(unit["length"]), float(unit["depth"]), int(unit["seed"])
    text = laboratory.window(length, seed).tolist()
    drawn_by = (seed, length, round(100 * depth))
    encode = _encoder(laboratory.request.checkpoint.path)
    needle = hide_needle(encode, text, length, depth, drawn_by)
    answer = ask(laboratory.model(), needle)
    return {
        "log_probabilities_nats": stored(answer.log_probabilities),
        "log_probability_of_rivals_nats": stored(answer.of_rivals),
        "copied_tokens_of_heads": stored(answer.copies.sum(-1)),
        "needle_position": needle.needle[0],
    }


def _measure_attention(laboratory: Laboratory, unit: Unit) -> Values:
    context, seed = int(unit["context"]), int(unit["seed"])
    groups = spread_queries(context, ROWS, _LEAST_QUERY)
    queries = [query for group in groups for query in group]
    found = divide_attention(laboratory.model(), laboratory.tokens(context, seed), queries)
    whole = found.first + found.by_distance.sum(-1)
    last = slice(-len(groups[-1]), None)
    starts = np.cumsum([0, *map(len, groups)])
    # Keys that at least the last octave of queries sees.
    shares, sinks = found.by_key[:, 1 : context // 2].max(-1)
    decode = _tokenizer(laboratory.request.checkpoint.path).decode
    text = laboratory.window(context, seed)
    return {
        "octaves": [list(each) for each in octave_ranges(context)],
        "groups": [[group.start, group.stop, group.step] for group in groups],
        "first_of_rows": stored(found.first.mean((0, 1))),
        "by_distance_of_rows": stored(found.by_distance.mean((0, 1))),
        "by_position_of_rows": stored(found.by_position.mean((0, 1))),
        "first_of_heads_by_group": [
            stored(found.first[..., start : start + len(group)].mean(-1))
            for start, group in zip(starts, groups, strict=False)
        ],
        # Of the last octave of queries alone, which has most to look at.
        "by_distance_of_heads": stored(found.by_distance[:, :, last].mean(2)),
        "by_distance_of_heads_error": stored(_standard_error(found.by_distance[:, :, last])),
        "by_position_of_heads": stored(found.by_position[:, :, last].mean(2)),
        "by_position_of_heads_error": stored(_standard_error(found.by_position[:, :, last])),
        "first_by_layer": stored(found.by_key[:, 0]),
        "other_sink_by_layer": stored(shares),
        "other_sink_positions": stored(sinks + 1),
        "other_sink_tokens": [decode([int(text[sink + 1])]) for sink in sinks.tolist()],
        "largest_error_of_sum": float((whole - 1).abs().max()),
    }


def _standard_error(
    values: Float[Tensor, "layer head row octave"],
) -> Float[Tensor, "layer head octave"]:
    """Of the mean over rows."""
    error: Tensor = values.std(2) / values.shape[2] ** 0.5
    return error


def _encoder(path: Path) -> Callable[[str], list[int]]:
    def encode(text: str) -> list[int]:
        ids: list[int] = _tokenizer(path)(text, add_special_tokens=False).input_ids
        return ids

    return encode


@cache
def _tokenizer(path: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)


_FOLDER = Path(__file__).parent

STUDY = Study(
    name="position-bias",
    question=QUESTION,
    contexts=CONTEXTS,
    dtypes=("float32", "bfloat16"),
    files=(_FOLDER / "position_bias.py", _FOLDER / "position_bias_study.py"),
    units=units,
    measure=measure,
    compose=compose,
)
