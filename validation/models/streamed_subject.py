"""A `HookedTransformer` whose blocks get their weights while they run.

Each is converted by the tree's own converter, from a `transformers` model of one layer.
"""

from copy import copy
from typing import Any

import torch

from validation.execution.jobs import SubjectJob
from validation.models.reference import empty_reference, move_storage
from validation.models.streaming import LAYERS, Weights, fill, open_source, stream

_BLOCK = "blocks.0."
"""What the names of a converted layer begin with where it is the only one."""


def streamed_subject(job: SubjectJob, dtype: torch.dtype, cfg: Any) -> Any:
    """The model of `cfg`, with its embeddings and its last norm, and blocks that are streamed.

    Args:
        job: which checkpoint, on which device.
        dtype: of the weights.
        cfg: the tree's configuration of the checkpoint.
    """
    from accelerate import init_empty_weights
    from transformer_lens import HookedTransformer

    with init_empty_weights(include_buffers=False):
        model = HookedTransformer(cfg, move_to_device=False)
    converter = _OneLayer(job, dtype, cfg)
    model.load_state_dict(converter.convert_rest(), assign=True, strict=False)
    move_storage(model, job.device)
    stream(model, model.blocks, lambda index, _: converter.convert(index), job.device)
    return model


class _OneLayer:
    """Converts one layer of a checkpoint at a time, with the tree's own converter."""

    def __init__(self, job: SubjectJob, dtype: torch.dtype, cfg: Any) -> None:
        self._source = open_source(job.checkpoint, job.weights_seed, dtype, job.device)
        self._model = empty_reference(job.checkpoint, dtype, num_hidden_layers=1)
        self._cfg = copy(cfg)
        self._cfg.n_layers = 1

    def convert_rest(self) -> Weights:
        """All that is no layer's."""
        # With its first layer: converters may copy a layer's weights, which `meta` cannot.
        fill(self._model, "", self._source)
        self._model.tie_weights()
        converted = self._convert()
        self._model.to("meta")
        return {n: w.contiguous() for n, w in converted.items() if not n.startswith(_BLOCK)}

    def convert(self, index: int) -> Weights:
        """Those of one layer, by their names in a block."""
        layer = self._model.model.layers[0]
        fill(layer, f"{LAYERS}{index}.", self._source)
        converted = self._convert()
        layer.to("meta")
        # As a model that copies them into its parameters has them: products depend on strides.
        return {
            name.removeprefix(_BLOCK): weight.contiguous()
            for name, weight in converted.items()
            if name.startswith(_BLOCK)
        }

    def _convert(self) -> Weights:
        from transformer_lens.pretrained.weight_conversions import convert_llama_weights

        weights: Weights = convert_llama_weights(self._model, self._cfg)
        return {name: weight.detach() for name, weight in weights.items()}
