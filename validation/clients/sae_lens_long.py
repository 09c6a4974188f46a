"""An SAE on a Llama 3.x at 16k tokens, through sae-lens: a script to copy.

python sae_lens_long.py CHECKPOINT SAE_FOLDER, where the fork of TransformerLens 3.9.0 and sae-lens
are installed. CHECKPOINT is a local folder; the SAE is a random one, saved and loaded as any other.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from sae_lens import SAE, HookedSAETransformer, StandardSAE, StandardSAEConfig
from torch import Tensor
from transformers import AutoModelForCausalLM

HOOK = "blocks.1.hook_resid_pre"
TOKENS = 16384
WIDTH = 1024
_ROWS = 1024
"""Positions whose logits exist at once: those of all would take 3 GB."""


def main(checkpoint: str, folder: Path, n_tokens: int = TOKENS) -> dict[str, float]:
    """Runs the SAE in one forward of all tokens and checks what it did.

    Returns:
        What was measured: counts of values that differ, and largest differences.
    """
    model = HookedSAETransformer.from_pretrained_no_processing(
        checkpoint, attn_implementation="sdpa"
    )
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.cfg.d_vocab, (1, n_tokens), generator=generator)
    sae = random_sae(model.cfg.d_model, folder, generator)
    features = f"{HOOK}.hook_sae_acts_post"
    measured: dict[str, float] = {"tokens in one forward": n_tokens}

    with torch.no_grad():
        # Without the SAE, and what it will see.
        plain, cache = model.run_with_cache(
            tokens, stop_at_layer=model.cfg.n_layers, names_filter=HOOK
        )
        # With its error put back: the model must not notice it.
        kept, seen = model.run_with_cache_with_saes(
            tokens,
            saes=[sae],
            use_error_term=True,
            stop_at_layer=model.cfg.n_layers,
            names_filter=features,
        )
        # In the model's place, both ways that sae-lens has.
        put, again = model.run_with_cache_with_saes(
            tokens, saes=[sae], stop_at_layer=model.cfg.n_layers, names_filter=features
        )
        with model.saes([sae]):
            context = model(tokens, stop_at_layer=model.cfg.n_layers)
        called = model.run_with_saes(tokens, saes=[sae], stop_at_layer=model.cfg.n_layers)

        by_hand = torch.relu((cache[HOOK] - sae.b_dec) @ sae.W_enc + sae.b_enc)
        measured["features that fire, %"] = 100 * float((by_hand > 0).double().mean())
        for name, found in (("kept", seen), ("put", again)):
            differing = differ(found[features], by_hand)
            measured[f"features unlike those by hand, error {name}"] = differing
        measured["residuals: saes() unlike run_with_saes()"] = differ(context, called)
        measured["residuals: cached unlike not cached"] = differ(put, called)
        measured["values at the hook unlike transformers'"] = differ(
            cache[HOOK], hidden_state(checkpoint, tokens, 1)
        )
        measured |= compare_logits(model, plain, {"error kept": kept, "error left out": put})
    return measured


def random_sae(width: int, folder: Path, generator: torch.Generator) -> Any:
    """One with seeded weights, through a folder as sae-lens keeps them."""
    sae = StandardSAE(StandardSAEConfig(d_in=width, d_sae=WIDTH))
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.normal_(std=width**-0.5, generator=generator)
    sae.cfg.metadata.hook_name = HOOK
    sae.save_model(folder)
    return SAE.load_from_disk(folder)


def hidden_state(
    checkpoint: str, tokens: Int[Tensor, "1 pos"], layer: int
) -> Float[Tensor, "1 pos d_model"]:
    """What enters the layer in transformers."""
    reference = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation="sdpa"
    )
    states = reference.model(tokens, output_hidden_states=True, use_cache=False).hidden_states
    state: Tensor = states[layer]
    return state


def differ(a: Tensor, b: Tensor) -> int:
    """How many values of two tensors are not the same."""
    return int((a != b).sum())


def compare_logits(
    model: Any, plain: Float[Tensor, "1 pos d_model"], others: dict[str, Tensor]
) -> dict[str, float]:
    """The largest difference of logits from those without the SAE, and of all logits the largest.

    Rounding: the error term is x - SAE(x), and SAE(x) + (x - SAE(x)) is x but for its rounding.
    """
    found = dict.fromkeys(others, 0.0)
    largest = 0.0
    for start in range(0, plain.shape[1], _ROWS):
        rows = slice(start, start + _ROWS)
        expected = model.unembed(model.ln_final(plain[:, rows]))
        largest = max(largest, float(expected.abs().max()))
        for name, residual in others.items():
            logits = model.unembed(model.ln_final(residual[:, rows]))
            found[name] = max(found[name], float((logits - expected).abs().max()))
    measured = {f"logits: largest difference, {name}": value for name, value in found.items()}
    return measured | {"logits: largest": largest}


if __name__ == "__main__":
    for what, value in main(sys.argv[1], Path(sys.argv[2])).items():
        print(f"{what}: {value:.6g}")
