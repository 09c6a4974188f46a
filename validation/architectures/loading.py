"""Loads a tiny model as a tree does, by an official name and `hf_model=`, without a hub.

Two things come from elsewhere. What a name's `AutoConfig` is on the hub is the tiny model's own
configuration; and where the release has sizes written beside a name, they are the tiny model's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isclose
from typing import Any

import torch
from torch import Tensor

from validation.architectures.catalogue import Architecture
from validation.architectures.stand_ins import stand_in

BY_CONFIGURATION = "from_pretrained, with the tiny configuration in place of the hub's"
BY_NAME = "from_pretrained, with the name's configuration in the tiny model's sizes"
BY_ITSELF = "HookedTransformer of a configuration, with random weights"

_SHARPER = 8.0
"""Than upstream's initial weights, whose attention is flat."""


@dataclass(frozen=True)
class Loaded:
    """A `HookedTransformer` and what it was made of.

    Attributes:
        model: the model.
        converted: HF's weights under TransformerLens' names, before anything is folded.
        way: how its configuration came about.
    """

    model: Any
    converted: dict[str, Tensor]
    way: str


def load(
    architecture: Architecture, reference: Any, dtype: torch.dtype, *, is_processed: bool
) -> Loaded:
    """Has the tree that is imported load `reference`.

    Args:
        architecture: which it is.
        reference: the model of `transformers`.
        dtype: of both.
        is_processed: fold and centre the weights, which is upstream's default.
    """
    from transformer_lens import HookedTransformer

    source = reference
    if architecture.stands_for is not None:
        source = stand_in(architecture.stands_for, reference)
    kind = HookedTransformer
    load_model = kind.from_pretrained if is_processed else kind.from_pretrained_no_processing
    with _without_hub(architecture, source) as seen:
        model = load_model(architecture.official, hf_model=source, device="cpu", dtype=dtype)
    return Loaded(model.eval(), seen["converted"], _tell(architecture))


def _tell(architecture: Architecture) -> str:
    way = BY_NAME if architecture.is_by_name else BY_CONFIGURATION
    given = ", ".join(f"{name} {value}" for name, value in architecture.given.items())
    return f"{way}, {given} put into it" if given else way


def initialise(architecture: Architecture, seed: int, dtype: torch.dtype) -> Loaded:
    """A model that `transformers` has not, with weights that the tree draws from `seed`."""
    from transformer_lens import HookedTransformer

    model = HookedTransformer({**architecture.fields, "seed": seed, "dtype": dtype})
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("W_Q", "W_K")):
                parameter.mul_(_SHARPER)
    return Loaded(model.eval(), {}, BY_ITSELF)


@contextmanager
def _without_hub(architecture: Architecture, source: Any) -> Iterator[dict[str, dict[str, Tensor]]]:
    """Puts the tiny configuration where the hub would be asked; keeps the converted weights."""
    from transformer_lens import loading_from_pretrained as loading

    configure, convert = loading.get_pretrained_model_config, loading.get_pretrained_state_dict
    asked = loading.AutoConfig
    seen: dict[str, dict[str, Tensor]] = {}

    class Hub:
        @staticmethod
        def from_pretrained(*_: Any, **__: Any) -> Any:
            return source.config

    def get_pretrained_model_config(*arguments: Any, **options: Any) -> Any:
        cfg = configure(*arguments, **options)
        cfg.tokenizer_name = None  # there is none
        return _in_tiny_sizes(cfg, source.config) if architecture.is_by_name else cfg

    def get_pretrained_state_dict(*arguments: Any, **options: Any) -> dict[str, Tensor]:
        converted: dict[str, Tensor] = convert(*arguments, **options)
        seen["converted"] = dict(converted)
        return converted

    try:
        loading.AutoConfig = Hub
        loading.get_pretrained_model_config = get_pretrained_model_config
        loading.get_pretrained_state_dict = get_pretrained_state_dict
        yield seen
    finally:
        loading.AutoConfig = asked
        loading.get_pretrained_model_config = configure
        loading.get_pretrained_state_dict = convert


def _in_tiny_sizes(cfg: Any, config: Any) -> Any:
    """The same configuration with the sizes of HF's `config`, and nothing else of it."""
    text = getattr(config, "text_config", config)
    d_head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    sizes = {
        "d_model": text.hidden_size,
        "n_heads": text.num_attention_heads,
        "d_head": d_head,
        "d_mlp": text.intermediate_size,
        "n_layers": text.num_hidden_layers,
        "n_ctx": text.max_position_embeddings,
        "d_vocab": text.vocab_size,
        # What follows from them.
        "rotary_dim": d_head,
        "d_vocab_out": -1,
        "attn_scale": -1.0,
    }
    if isclose(cfg.initializer_range, 0.8 * cfg.d_model**-0.5):  # what follows from the width
        sizes["initializer_range"] = -1.0
    if cfg.n_key_value_heads is not None:
        sizes["n_key_value_heads"] = text.num_key_value_heads
    if cfg.window_size is not None:
        sizes["window_size"] = text.sliding_window
    if cfg.attn_types is not None:
        kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
        sizes["attn_types"] = ["local" if "sliding" in kind else "global" for kind in kinds]
    return type(cfg).from_dict({**cfg.to_dict(), **sizes})
