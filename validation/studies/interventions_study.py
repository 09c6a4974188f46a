"""The study `interventions`: what edits of the position encoding cost, and where."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from transformer_lens_fork.errors import InputError
from validation.models.refusals import reason
from validation.studies.blocks import means_of_blocks
from validation.studies.interventions import (
    BANDS,
    Edit,
    Frequencies,
    hooks_of,
    llama3_frequencies,
    losses,
    moved,
    removed,
    rescaled,
    still,
    without_scaling,
)
from validation.studies.interventions_findings import MAIN, NONE, PATCH
from validation.studies.interventions_page import compose
from validation.studies.laboratory import Laboratory
from validation.studies.patching import Encode, passkeys, patch_position
from validation.studies.records import Unit, Values
from validation.studies.study import Study

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

_EDITS = (
    *(f"{band} band still" for band in BANDS),
    *(f"{band} band removed" for band in BANDS),
    "low band x 0.5",
    "low band x 2",
    "scaling undone",
    "first quarter moved by a quarter",
    "first token moved by a quarter",
)
_ALL_UP_TO = 8192
"""Tokens up to which every edit is made with every seed, and a position patched. Beyond, where a
forward takes a minute on two cores, one edit of each kind is made, with the first seed."""

_SHORTEST = 512
"""Tokens: eight blocks, and room for a passkey."""

_DEPTHS = (0.125, 0.25)
"""Where the passkey stands in each of the prompts, as a share of the text."""

_PATCHED_AT = (0.0, 1 / 2, 2 / 3, 3 / 4, 5 / 6, 11 / 12)
"""Before which layers, as shares of all: later ones are closer, since less is left to compute."""


def list_units(contexts: tuple[int, ...], seeds: Sequence[int]) -> list[Unit]:
    """Every edit, beside the unedited model, and the patches; at long contexts less of it."""
    units: list[Unit] = []
    for context in contexts:
        is_long = context > _ALL_UP_TO
        for seed in seeds[:1] if is_long else seeds:
            edits = (NONE, *(MAIN if is_long else _EDITS))
            units += [{"edit": edit, "context": context, "seed": seed} for edit in edits]
            units += [
                {"edit": PATCH, "prompt": prompt, "context": context, "seed": seed}
                for prompt in range(0 if is_long else len(_DEPTHS))
            ]
    return units


def measure(laboratory: Laboratory, unit: Unit) -> Values:
    """The loss of one window under one edit, or what one prompt expects as its passkey is patched.

    Raises:
        InputError: the checkpoint has no tokenizer, or the context is too short.
    """
    _refuse(laboratory, int(unit["context"]))
    model = laboratory.model()
    if unit["edit"] == PATCH:
        return _measure_patch(laboratory, model, unit)
    tokens = laboratory.tokens(int(unit["context"]), int(unit["seed"]))
    frequencies = llama3_frequencies(model)
    n_tokens = tokens.shape[1]
    edit = edit_of(str(unit["edit"]), frequencies, n_tokens)
    found = losses(model, tokens, hooks_of(model, edit, frequencies, n_tokens))
    return {"loss_nats_by_block": means_of_blocks(found.double().cpu().numpy()).tolist()}


def edit_of(name: str, frequencies: Frequencies, n_tokens: int) -> Edit:
    """The edit that is called so, for an input of so many tokens."""
    words = name.split()
    match words:
        case ["none"]:
            return Edit()
        case [band, "band", "still"]:
            return still(frequencies, band)
        case [band, "band", "removed"]:
            return removed(frequencies, band)
        case [band, "band", "x", factor]:
            return rescaled(frequencies, band, float(factor))
        case ["scaling", "undone"]:
            return without_scaling(frequencies)
    device = frequencies.scaled.device
    quarter = n_tokens // 4
    if words[1] == "token":
        # Its own query has no other key to see.
        return moved(range(1), -quarter, n_tokens, keys_only=True, device=device)
    return moved(range(quarter), -quarter, n_tokens, device=device)


def _measure_patch(laboratory: Laboratory, model: "HookedTransformer", unit: Unit) -> Values:
    context, seed, prompt = (int(unit[name]) for name in ("context", "seed", "prompt"))
    text = laboratory.tokens(context, seed)[0]
    generator = np.random.default_rng([seed, prompt])
    try:
        prompts = passkeys(_tokenizer(laboratory), text, context, _DEPTHS[prompt], generator)
    except ValueError as error:
        raise InputError(
            f"--checkpoint: no passkey can be asked of {laboratory.request.checkpoint.name!r} "
            f"({reason(error)}); a tokenizer that writes numbers of five digits alike is accepted."
        ) from None
    layers = sorted({int(share * model.cfg.n_layers) for share in _PATCHED_AT})
    patched = patch_position(model, prompts, layers)
    return {
        "tokens_before_the_end": context - 1 - prompts.position,
        "clean_log_probs_nats": list(patched.clean),
        "layers": list(layers),
        "patched_log_probs_nats": [list(patched.by_layer[layer]) for layer in layers],
    }


def _tokenizer(laboratory: Laboratory) -> Encode:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        laboratory.request.checkpoint.path, local_files_only=True, trust_remote_code=False
    )
    return lambda text: cast(list[int], tokenizer(text, add_special_tokens=False).input_ids)


def _refuse(laboratory: Laboratory, context: int) -> None:
    checkpoint = laboratory.request.checkpoint
    if not checkpoint.has_tokenizer:
        raise InputError(
            f"--checkpoint: {checkpoint.name!r} has no tokenizer, so that no passkey can be "
            "written into its text; a checkpoint with one is accepted."
        )
    if context < _SHORTEST:
        raise InputError(
            f"--contexts: {context} is too short; {_SHORTEST} tokens or more are accepted."
        )


_FOLDER = Path(__file__).parent

STUDY = Study(
    name="interventions",
    question=(
        "What does the loss of every token become if a band of Llama 3.1's rotary frequencies is "
        "knocked out or rescaled, or the first quarter of the text stands elsewhere; and before "
        "which layers does the activation of one far position decide an answer?"
    ),
    contexts=(4096, 16384),
    dtypes=("float32", "bfloat16"),
    files=tuple(
        _FOLDER / name
        for name in ("blocks.py", "interventions.py", "patching.py", "interventions_study.py")
    ),
    units=list_units,
    measure=measure,
    compose=compose,
)
