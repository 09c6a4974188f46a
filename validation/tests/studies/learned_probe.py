"""A script, for it imports the fork: what the parts of the study of learned frequencies compute."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig

from validation.models.subject import import_from
from validation.studies.excerpts import Excerpt, Plan, loss_of_excerpt, remember
from validation.studies.learned import LearnedFrequencies, MixedFrequencies, fit
from validation.studies.schemes import frequencies, positive, scheme_config

POSITIONS, QUERIES = 192, 32

COVERED = 4 * 4096
"""Tokens, four times those that the checkpoint says it was trained on."""


def load(folder: Path, inv_freq: object) -> Any:
    """The checkpoint in float64, where what is equal but for rounding differs by 1e-12."""
    from transformer_lens import HookedTransformer

    return HookedTransformer.from_pretrained_no_processing(
        str(folder), dtype=torch.float64, attn_implementation="sdpa", rotary_inv_freq=inv_freq
    )


def losses(model: Any, tokens: Tensor) -> Tensor:
    """Of the whole text, position by position."""
    with torch.no_grad():
        residual = model(tokens, stop_at_layer=model.cfg.n_layers)
        found: Tensor = model.loss_from_residual(residual, tokens, per_token=True)[0]
    return found


def main(folder: Path) -> dict[str, object]:
    """Numbers by name."""
    config = AutoConfig.from_pretrained(folder)
    given = [
        frequencies(scheme_config(name, config, COVERED), COVERED)[0].double()
        for name in ("plain", "linear")
    ]
    tokens = torch.randint(320, (1, POSITIONS), generator=torch.Generator().manual_seed(0))
    parameter = nn.Parameter(given[0].clone())
    model = load(folder, parameter)
    memory = remember(model, tokens, POSITIONS, 0)
    pieces = [remember(model, tokens, POSITIONS // 3, lead) for lead in (0, 48)]
    learned = LearnedFrequencies(model, POSITIONS)
    start = POSITIONS - QUERIES
    every = Excerpt(torch.arange(start), torch.zeros(start, dtype=torch.float64), start, POSITIONS)

    def loss(excerpt: Excerpt) -> Tensor:
        return loss_of_excerpt(model, memory, excerpt, learned.turns)

    twice = torch.tensor([3, 3, 90, 90])
    doubled = Excerpt(twice, torch.zeros(4, dtype=torch.float64), start, POSITIONS)
    weights = torch.full((2,), 2.0, dtype=torch.float64).log()
    weighted = Excerpt(twice[::2], weights, start, POSITIONS)
    found: dict[str, object] = {
        "keys_by_layer": [
            [(kept - key).abs().max().item() for kept, key in zip(p.keys, memory.keys, strict=True)]
            for p in pieces
        ],
        "excerpt": loss(every).item(),
        "whole": losses(model, tokens)[start:].mean().item(),
        "doubled": loss(doubled).item(),
        "weighted": loss(weighted).item(),
        "without": loss(Excerpt(twice[::2], 0 * weights, start, POSITIONS)).item(),
    }
    loss(every).backward()  # type: ignore[no-untyped-call]  # torch has it so
    learned.gather()
    assert learned.fitted.grad is not None
    found["gradient"] = learned.fitted.grad.tolist()
    shifted = []
    for sign in (1, -1):
        with torch.no_grad():
            learned.fitted[-1] = sign * 1e-5
            learned.apply()
            shifted.append(loss(every).item())
            learned.fitted[-1] = 0
            learned.apply()
    found["slope"] = (shifted[0] - shifted[1]) / 2e-5

    before = {name: each.clone() for name, each in model.state_dict().items()}
    steps = fit(model, memory, learned, Plan(steps=4, queries=8), seed=0)
    changed = [n for n, each in model.state_dict().items() if not torch.equal(each, before[n])]
    found |= {"steps": steps, "changed": changed, "fitted": learned.values().tolist()}

    other = load(folder, positive(given[0]))
    mixed = MixedFrequencies(other, torch.stack(given), 0.9)
    with torch.no_grad():
        mixed.fitted.copy_(torch.tensor([-80.0, 80.0]))
    with mixed.reading(other, POSITIONS):
        found["mixture"] = losses(other, tokens).tolist()
    found["linear"] = losses(load(folder, positive(given[1])), tokens).tolist()
    found["plain"] = losses(other, tokens).tolist()
    steps = fit(other, memory, mixed, Plan(steps=4, queries=8, rate=0.1), seed=0)
    found["mixed_steps"] = steps
    return found


if __name__ == "__main__":
    import_from(Path(sys.argv[1]))
    print(json.dumps(main(Path(sys.argv[2]))))
