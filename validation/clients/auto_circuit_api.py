"""auto-circuit's public API on a small model: it needs two names that release 3 has renamed."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from validation.clients.observations import Seen
from validation.clients.tiny import draw_tokens, gpt2_like

_PROMPTS = 4
_LENGTH = 10


def exercise_import(seen: Seen, folder: Path) -> None:
    """As it is published."""
    del folder
    from auto_circuit.utils.graph_utils import patchable_model

    seen.value("imported", patchable_model.__name__)


def exercise_gpt2(seen: Seen, folder: Path) -> None:
    """Edges, attribution patching, integrated gradients, circuits of so many edges."""
    del folder
    _put_old_names_back()
    from auto_circuit.prune import run_circuits
    from auto_circuit.prune_algos.edge_attribution_patching import (
        edge_attribution_patching_prune_scores,
    )
    from auto_circuit.prune_algos.mask_gradient import mask_gradient_prune_scores
    from auto_circuit.types import AblationType
    from auto_circuit.utils.graph_utils import patchable_model
    from transformer_lens import HookedTransformer

    inner = gpt2_like(
        HookedTransformer,
        use_attn_result=True,
        use_attn_in=True,
        use_split_qkv_input=True,
        use_hook_mlp_in=True,
    )
    for parameter in inner.parameters():
        parameter.requires_grad = False
    loader = _load(inner.cfg.d_vocab)
    model = patchable_model(
        inner, factorized=True, slice_output="last_seq", separate_qkv=True, seq_len=_LENGTH
    )
    seen.value("edges", "\n".join(sorted(edge.name for edge in model.edges)))
    seen.value("logits", model(next(iter(loader)).clean))
    scores = edge_attribution_patching_prune_scores(model, loader, None)
    _see_scores(seen, "edge attribution patching", scores)
    gradients = mask_gradient_prune_scores(
        model, loader, None, "logprob", "avg_diff", integrated_grad_samples=3
    )
    _see_scores(seen, "integrated gradients", gradients)
    for ablation in (AblationType.RESAMPLE, AblationType.ZERO):
        circuits = run_circuits(model, loader, [10, 100], scores, ablation_type=ablation)
        for n_edges, batches in circuits.items():
            for logits in batches.values():
                seen.value(f"circuit of {n_edges} edges, {ablation.name}", logits)


def _put_old_names_back() -> None:
    """`HookedTransformerKeyValueCache` and its module, as release 2 has them."""
    import transformer_lens
    from transformer_lens import TransformerLensKeyValueCache

    module = ModuleType("transformer_lens.past_key_value_caching")
    for place in (transformer_lens, module):
        vars(place)["HookedTransformerKeyValueCache"] = TransformerLensKeyValueCache
    sys.modules[module.__name__] = module


def _load(vocabulary: int) -> Any:
    from auto_circuit.data import PromptDataLoader, PromptDataset

    tokens = draw_tokens(vocabulary, _PROMPTS, 2 * _LENGTH + 2)
    clean, corrupt = tokens[:, :_LENGTH], tokens[:, _LENGTH : 2 * _LENGTH]
    right, wrong = tokens[:, -2:-1], tokens[:, -1:]
    dataset = PromptDataset(clean, corrupt, list(right), list(wrong))
    return PromptDataLoader(dataset, _LENGTH, 0, batch_size=2)


def _see_scores(seen: Seen, what: str, scores: dict[str, torch.Tensor]) -> None:
    for name, score in sorted(scores.items()):
        seen.value(f"{what}: {name}", score)
