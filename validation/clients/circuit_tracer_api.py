"""circuit-tracer's public API, with its TransformerLens backend, on small models.

Its replacement model puts its own modules around MLPs and unembedding, hooks every attention
pattern, and replaces masks and rotary tables of every layer by those of the last.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

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

_FEATURES = 64


def exercise_import(seen: Seen, folder: Path) -> None:
    """As it is published, on a transformers that its pins exclude."""
    del folder
    from circuit_tracer import ReplacementModel

    seen.value("imported", ReplacementModel.__name__)


def exercise_gpt2(seen: Seen, folder: Path) -> None:
    """Activations, an attribution graph, interventions with and without frozen attention."""
    del folder
    _put_old_name_back()
    from circuit_tracer import attribute

    model = _with_transcoders(gpt2_like(_replacement_class()))
    model.tokenizer = _Tokenizer()
    tokens = torch.cat([torch.zeros(1, dtype=torch.long), draw_tokens(model.cfg.d_vocab, 11)])
    logits, activations = model.get_activations(tokens)
    seen.value("logits", logits)
    seen.value("activations", activations)
    graph = attribute(tokens, model, max_n_logits=3, batch_size=64)
    seen.value("graph: adjacency matrix", graph.adjacency_matrix)
    seen.value("graph: active features", graph.active_features)
    seen.value("graph: logit probabilities", graph.logit_probabilities)
    layer, position, feature = (int(index) for index in graph.active_features[-1])
    for frozen in (False, True):
        what = f"intervention, attention {'frozen' if frozen else 'free'}"
        changed, after = model.feature_intervention(
            tokens, [(layer, position, feature, 10.0)], freeze_attention=frozen
        )
        seen.value(f"{what}: logits", changed)
        seen.value(f"{what}: activations", after)


def exercise_llama(seen: Seen, folder: Path) -> None:
    """Logits and activations of a replacement model, which computes what the model does."""
    _put_old_name_back()
    checkpoint = llama_checkpoint(folder)
    model = _with_transcoders(llama(_replacement_class(), checkpoint))
    tokens = draw_tokens(model.cfg.d_vocab, 1, LLAMA_TOKENS)
    _, expected = layer_inputs(checkpoint, tokens)
    logits, _ = model.get_activations(tokens[0])
    seen.value("logits", logits, expected)


def _put_old_name_back() -> None:
    """A switch that huggingface_hub has dropped: whether downloads go through hf_transfer."""
    from huggingface_hub import constants

    vars(constants)["HF_HUB_ENABLE_HF_TRANSFER"] = False


class _Tokenizer:
    """What circuit-tracer asks of one where prompts are tensors and begin with a special token."""

    all_special_ids = (0,)
    bos_token_id = 0
    vocab_size = 256
    padding_side = "right"

    def decode(self, tokens: Any) -> str:
        """The ids themselves."""
        return str(tokens)


def _replacement_class() -> Any:
    """circuit-tracer's own HookedTransformer."""
    from circuit_tracer.replacement_model.replacement_model_transformerlens import (
        TransformerLensReplacementModel,
    )

    return TransformerLensReplacementModel


def _with_transcoders(model: Any) -> Any:
    """The model with seeded transcoders in every layer, as its `from_pretrained` leaves it."""
    from circuit_tracer.transcoder import SingleLayerTranscoder, TranscoderSet

    transcoders = {}
    for layer in range(model.cfg.n_layers):
        transcoder = SingleLayerTranscoder(
            *(model.cfg.d_model, _FEATURES, F.relu, layer),
            device=torch.device("cpu"),
            dtype=model.cfg.dtype,
        )
        draw_weights(transcoder, model.cfg.d_model**-0.5)
        transcoders[layer] = transcoder
    model._configure_replacement_model(TranscoderSet(transcoders, "mlp.hook_in", "mlp.hook_out"))
    return model
