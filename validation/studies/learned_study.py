"""The study of learned frequencies: which units it has, and how each is measured."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import JsonValue
from torch import Tensor, nn

from validation.studies.excerpts import Memory, Plan, remember
from validation.studies.laboratory import Laboratory
from validation.studies.learned import LearnedFrequencies, MixedFrequencies, fit
from validation.studies.learned_page import compose
from validation.studies.losses import block_means
from validation.studies.records import Unit, Values
from validation.studies.schemes import frequencies, positive, scheme_config, trained_positions
from validation.studies.study import Study

LEARNED_PLAN = Plan()
MIXED_PLAN = Plan(rate=0.1)

MIXED = ("plain", "linear", "dynamic", "yarn", "llama3")
"""Schemes whose frequencies a mixture may take; the first is what the model has."""

_FIRST_SHARE = 0.9
"""Of plain RoPE before the fit: that starts close to where the other one does."""


def plan_units(contexts: tuple[int, ...], seeds: Sequence[int]) -> list[Unit]:
    """Seed by seed: before, Llama 3.1, and after each of the two fits."""
    return [
        {"frequencies": name, "context": context, "seed": seed}
        for context in contexts
        for seed in seeds
        for name in ("plain", "llama3", "learned", "mixture")
    ]


def measure(laboratory: Laboratory, unit: Unit) -> Values:
    """Fits, if there is anything to be fitted, and reads a window that the fit did not see."""
    name, context, seed = str(unit["frequencies"]), int(unit["context"]), int(unit["seed"])
    given = {scheme: _frequencies(laboratory, scheme, context) for scheme in MIXED}
    values: Values = {
        "trained_tokens": trained_positions(_config(laboratory)),
        "evaluation_text": [laboratory.start(seed), laboratory.start(seed) + context],
        "inv_freq_radians_of_schemes": {each: [*positive(f)] for each, f in given.items()},
    }
    tokens = laboratory.tokens(context, seed)
    if name in given:
        model = laboratory.model(rotary_inv_freq=positive(given[name]))
        return values | {"loss_nats_by_block": _read(model, tokens)}
    start, stop = _training_text(laboratory, context, seed)
    text = torch.from_numpy(laboratory.request.prompt.tokens[start:stop].copy())[None]
    fitted = _fit(laboratory, name, given, text.to(laboratory.request.device), seed, tokens)
    return values | {"training_text": [start, stop]} | fitted


def _fit(
    laboratory: Laboratory,
    name: str,
    given: dict[str, Float[Tensor, "pair"]],
    text: Int[Tensor, "1 pos"],
    seed: int,
    tokens: Int[Tensor, "1 pos"],
) -> Values:
    plan = LEARNED_PLAN if name == "learned" else MIXED_PLAN
    plain = given[MIXED[0]]
    # A parameter of its own for each fit: the model is edited by it.
    start = nn.Parameter(plain.clone()) if name == "learned" else positive(plain)
    model = laboratory.model(rotary_inv_freq=start)
    memory: Memory = remember(model, text, plan.piece, plan.lead)
    fitted: LearnedFrequencies | MixedFrequencies
    if name == "learned":
        fitted = LearnedFrequencies(model, text.shape[1])
    else:
        fitted = MixedFrequencies(model, torch.stack([given[each] for each in MIXED]), _FIRST_SHARE)
    losses = fit(model, memory, fitted, plan, seed)
    with fitted.reading(model, tokens.shape[1]):
        values: Values = {"loss_nats_by_block": _read(model, tokens)}
    values |= {
        "steps": plan.steps,
        "rate": plan.rate,
        "queries_per_step": plan.queries,
        "keys_per_step": plan.first + plan.sampled + plan.near,
        "piece_tokens": plan.piece,
        "lead_tokens": plan.lead,
        "loss_nats_by_step": [round(loss, 5) for loss in losses],
    }
    if isinstance(fitted, LearnedFrequencies):
        values["inv_freq_radians"] = fitted.values().tolist()
    else:
        values["shares_by_layer_and_kv_head"] = fitted.shares().tolist()
    return values


def _training_text(laboratory: Laboratory, context: int, seed: int) -> tuple[int, int]:
    """A window as long as the one that is read, from the text that has nothing of it."""
    first, last = laboratory.text_beside(context, seed)
    length = min(context, last - first)
    # Not the generator that drew the window: the two places must not depend on each other.
    start = first + int(np.random.default_rng((seed, 1)).integers(last - first - length + 1))
    return start, start + length


def _read(model: object, tokens: Int[Tensor, "1 pos"]) -> list[JsonValue]:
    with torch.no_grad():
        residual = model(tokens, stop_at_layer=model.cfg.n_layers)  # type: ignore[operator, attr-defined]
        losses = model.loss_from_residual(residual, tokens, per_token=True)[0]  # type: ignore[attr-defined]
    return [*block_means(losses.double().cpu().numpy())]


def _frequencies(laboratory: Laboratory, scheme: str, context: int) -> Float[Tensor, "pair"]:
    return frequencies(scheme_config(scheme, _config(laboratory), context), context)[0]


def _config(laboratory: Laboratory) -> object:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(laboratory.request.checkpoint.path, local_files_only=True)


STUDY = Study(
    name="learned",
    question="Can rotary frequencies alone, fitted with all weights frozen, extend a model beyond "
    "its trained length, and do they become what Llama 3.1's fixed smoothing is?",
    contexts=(12_288,),
    dtypes=("float32",),
    files=tuple(
        Path(__file__).parent / f"{name}.py"
        for name in (
            "excerpts",
            "learned",
            "learned_study",
            "estimates",
            "losses",
            "schemes",
            "scores",
        )
    ),
    units=plan_units,
    measure=measure,
    compose=compose,
)
