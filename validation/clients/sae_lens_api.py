"""sae-lens' public API on small models: what its own, unpublished, tests are about."""

from pathlib import Path
from typing import Any

import torch
from sae_lens import (
    SAE,
    HookedSAETransformer,
    StandardSAE,
    StandardSAEConfig,
    TopKSAE,
    TopKSAEConfig,
    Transcoder,
    TranscoderConfig,
)

from validation.clients.observations import Seen
from validation.clients.tiny import (
    LLAMA_TOKENS,
    draw_tokens,
    draw_weights,
    gpt2_like,
    layer_inputs,
    llama,
    llama_checkpoint,
)

_HOOK = "blocks.1.hook_resid_pre"
_FEATURES = "hook_sae_acts_post"


def exercise_gpt2(seen: Seen, folder: Path) -> None:
    """SAEs of three kinds at every kind of hook, runs, hooks, gradients, on a GPT-2."""
    model = gpt2_like(HookedSAETransformer)
    tokens = draw_tokens(model.cfg.d_vocab, 2, 64)
    seen.value("logits", model(tokens))
    for hook, reshape in (
        (_HOOK, "none"),
        ("blocks.0.hook_mlp_out", "none"),
        ("blocks.0.hook_attn_out", "none"),
        ("blocks.1.attn.hook_z", "hook_z"),
    ):
        # Two heads of 64 dimensions are as wide as the model.
        sae = _saved_and_loaded(
            *(folder / hook, StandardSAE, StandardSAEConfig, model.cfg.d_model, hook),
            reshape_activations=reshape,
        )
        _see_runs(seen, model, tokens, sae, f"standard at {hook}")
    topk = _saved_and_loaded(
        folder / "topk", TopKSAE, TopKSAEConfig, model.cfg.d_model, "blocks.1.hook_resid_post", k=8
    )
    _see_runs(seen, model, tokens, topk, "top-k at blocks.1.hook_resid_post")
    _see_transcoder(seen, model, tokens)
    _see_intervention(seen, model, tokens, topk)
    seen.value("logits, all SAEs gone", model(tokens))


def exercise_llama(seen: Seen, folder: Path) -> None:
    """The same runs on a Llama 3.1, beside what transformers computes."""
    checkpoint = llama_checkpoint(folder)
    model = llama(HookedSAETransformer, checkpoint)
    tokens = draw_tokens(model.cfg.d_vocab, 1, LLAMA_TOKENS)
    states, logits = layer_inputs(checkpoint, tokens)
    sae = _saved_and_loaded(
        folder / "sae", StandardSAE, StandardSAEConfig, model.cfg.d_model, _HOOK
    )
    with torch.no_grad():
        seen.value("logits", model(tokens), logits)
        _, cache = model.run_with_cache(tokens, names_filter=_HOOK)
        seen.value("at the hook", cache[_HOOK], states[1])
        _, cache = model.run_with_cache_with_saes(tokens, saes=[sae], use_error_term=True)
        features = cache[f"{_HOOK}.{_FEATURES}"]
        seen.value("features", features, sae.encode(states[1]))
        seen.value("after the SAE", cache[f"{_HOOK}.hook_sae_output"], _restored(sae, states[1]))


def _restored(sae: Any, state: torch.Tensor) -> torch.Tensor:
    decoded = sae.decode(sae.encode(state))
    return torch.as_tensor(decoded + (state - decoded))


def _saved_and_loaded(
    folder: Path, kind: Any, configuration: Any, width: int, hook: str, **more: Any
) -> Any:
    sae = kind(configuration(d_in=width, d_sae=256, **more))
    draw_weights(sae, width**-0.5)
    sae.cfg.metadata.hook_name = hook
    sae.save_model(folder)
    return SAE.load_from_disk(folder)


def _see_runs(seen: Seen, model: Any, tokens: torch.Tensor, sae: Any, name: str) -> None:
    """Every way to run with an SAE, with its error term and without."""
    for with_error in (False, True):
        what = f"{name}, error {'kept' if with_error else 'left out'}"
        options = {"saes": [sae], "use_error_term": with_error}
        seen.value(f"{what}: run_with_saes", model.run_with_saes(tokens, **options))
        logits, cache = model.run_with_cache_with_saes(tokens, **options)
        seen.value(f"{what}: cached logits", logits)
        for key in sorted(key for key in cache if sae.cfg.metadata.hook_name in key):
            seen.value(f"{what}: {key}", cache[key])
        with model.saes(**options):
            seen.value(f"{what}: loss in saes()", model(tokens, return_type="loss"))
    model.add_sae(sae)
    seen.value(f"{name}: add_sae", model(tokens))
    model.reset_saes()


def _see_transcoder(seen: Seen, model: Any, tokens: torch.Tensor) -> None:
    """An MLP's output made of its input, through the hook that sae-lens adds to every MLP."""
    width = model.cfg.d_model
    sizes = {"d_in": width, "d_out": width, "d_sae": 256}
    transcoder = Transcoder(TranscoderConfig(**sizes, apply_b_dec_to_input=False))
    draw_weights(transcoder, width**-0.5)
    transcoder.cfg.metadata.hook_name = "blocks.0.mlp.hook_in"
    transcoder.cfg.metadata.hook_name_out = "blocks.0.hook_mlp_out"
    for with_error in (False, True):
        logits = model.run_with_saes(tokens, saes=[transcoder], use_error_term=with_error)
        seen.value(f"transcoder, error {'kept' if with_error else 'left out'}", logits)


def _see_intervention(seen: Seen, model: Any, tokens: torch.Tensor, sae: Any) -> None:
    """A feature switched off, and the gradients of the features."""
    hook = f"{sae.cfg.metadata.hook_name}.{_FEATURES}"

    def switch_off(features: torch.Tensor, hook: Any) -> torch.Tensor:
        return features * (torch.arange(features.shape[-1]) != 3)

    logits = model.run_with_hooks_with_saes(tokens, saes=[sae], fwd_hooks=[(hook, switch_off)])
    seen.value("feature 3 off", logits)
    gradients: dict[str, torch.Tensor] = {}
    with model.saes([sae]), model.hooks(bwd_hooks=[(hook, lambda g, hook: gradients.update(f=g))]):
        model(tokens, return_type="loss").backward()
    model.zero_grad()
    seen.value("gradient of features", gradients["f"])
