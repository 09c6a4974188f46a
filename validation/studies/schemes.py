"""Position encodings by name: each as a configuration of `transformers`, and its frequencies.

Plain `torch` and `transformers`, to be copied from.
"""

import copy
from math import gcd, log, sqrt
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

SCHEMES = ("plain", "linear", "dynamic", "yarn", "longrope", "llama3", "p-rope")
"""All that `transformers` computes for a Llama: its default, and `ROPE_INIT_FUNCTIONS`."""

ROTATING_SHARE = 0.75
"""Of the pairs, the fastest, that p-RoPE still rotates; Barbero et al. 2024 found it best."""

NO_ROTATION = 1e-30
"""Radians a token: cos is 1, and what sin adds is far below half a unit in the last place."""

_PUBLISHED = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
"""Llama 3.1's, for a checkpoint that has none of its own."""


def trained_positions(config: Any) -> int:
    """Tokens of the longest text that the checkpoint was trained on before it was scaled."""
    rope = config.rope_parameters
    return int(rope.get("original_max_position_embeddings", config.max_position_embeddings))


def covering_factor(config: Any, context: int) -> float:
    """How many times the trained length a context is: 1 for those that are no longer."""
    return max(1.0, context / trained_positions(config))


def scheme_config(name: str, config: Any, context: int) -> Any:
    """The checkpoint's configuration under another scheme, without fine-tuning.

    Linear interpolation (Chen et al. 2023), YaRN (Peng et al. 2023) and LongRoPE (Ding et al. 2024)
    take the factor that just covers the context; dynamic NTK finds it from the length itself, for
    which its own factor must be 1. Llama 3.1 takes the checkpoint's own, whatever the context is.
    LongRoPE's factors are searched for each model and none are published for this one: they are
    declared to be NTK's, so that it differs from dynamic NTK by its attention scaling alone.

    Args:
        name: one of `SCHEMES`.
        config: the checkpoint's, of a Llama.
        context: tokens that are to be covered.

    Returns:
        A copy, whose `rope_parameters` say it as a `config.json` would.
    """
    trained, factor = trained_positions(config), covering_factor(config, context)
    theta = config.rope_parameters["rope_theta"]
    parameters: dict[str, Any] = {"rope_type": name, "rope_theta": theta}
    changed = copy.deepcopy(config)
    if name == "plain":
        parameters["rope_type"] = "default"
    elif name == "linear":
        parameters["factor"] = factor
    elif name == "dynamic":
        parameters["factor"] = 1.0
        changed.max_position_embeddings = trained
    elif name == "yarn":
        parameters |= {"factor": factor, "original_max_position_embeddings": trained}
        changed.max_position_embeddings = round(factor * trained)
    elif name == "longrope":
        parameters |= {
            "factor": factor,
            "original_max_position_embeddings": trained,
            # As it follows from the lengths, written out: `shrink` changes them.
            "attention_factor": sqrt(1 + log(factor) / log(trained)),
            "short_factor": [1.0] * _pairs(config),
            "long_factor": _ntk_factors(_pairs(config), factor),
        }
    elif name == "llama3":
        own = {key: config.rope_parameters.get(key, _PUBLISHED[key]) for key in _PUBLISHED}
        parameters |= own | {"original_max_position_embeddings": trained}
    elif name == "p-rope":
        parameters |= {"rope_type": "proportional", "partial_rotary_factor": ROTATING_SHARE}
    else:
        raise ValueError(f"{name!r} is none of {', '.join(SCHEMES)}")
    changed.rope_parameters = parameters
    return changed


def frequencies(config: Any, context: int) -> tuple[Float[Tensor, "pair"], float]:
    """Frequencies as `transformers` has them in a text of `context` tokens, in radians a token.

    Args:
        config: of a Llama, such as `scheme_config` returns.
        context: tokens; dynamic NTK and LongRoPE ask for it.

    Returns:
        Frequencies, from the fastest to the slowest, and what multiplies cosines and sines.
    """
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    name = config.rope_parameters["rope_type"]
    if name == "default":
        return LlamaRotaryEmbedding.compute_default_rope_parameters(config)  # type: ignore[no-any-return]  # transformers is not typed
    # A tensor, as its own forward passes it: a Python number would be rounded elsewhere.
    found, scaling = ROPE_INIT_FUNCTIONS[name](config, seq_len=torch.tensor(context))
    return found, float(scaling)


def positive(inv_freq: Float[Tensor, "pair"]) -> list[float]:
    """Frequencies for `rotary_inv_freq`, which takes no zeros: in their place a vanishing one."""
    found: list[float] = inv_freq.clamp(min=NO_ROTATION).tolist()
    return found


def shrink(config: Any, context: int, tokens: int) -> tuple[Any, int]:
    """A configuration that has the same frequencies in a shorter text.

    Dynamic NTK and LongRoPE compare the length with the trained one: both become smaller, by the
    same factor, and so they are what they are at `context`.

    Args:
        config: such as `scheme_config` returns for `context`.
        context: tokens that the frequencies are for.
        tokens: that the shorter text may have.

    Returns:
        The configuration, and how many tokens have those frequencies, `tokens` or a few less.
    """
    tokens = min(tokens, context)
    name, changed = config.rope_parameters["rope_type"], copy.deepcopy(config)
    if name == "dynamic":
        trained = changed.max_position_embeddings
    elif name == "longrope":
        trained = changed.rope_parameters["original_max_position_embeddings"]
    else:
        return changed, tokens
    if context <= trained:
        return changed, tokens
    common = gcd(trained, context)
    times = max(1, tokens * common // context)
    trained, tokens = times * trained // common, times * context // common
    if name == "dynamic":
        changed.max_position_embeddings = trained
    else:
        changed.rope_parameters["original_max_position_embeddings"] = trained
    return changed, tokens


def _pairs(config: Any) -> int:
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(head_dim) // 2


def _ntk_factors(pairs: int, factor: float) -> list[float]:
    # A base of theta * factor ** (d / (d - 2)): 1 for the fastest pair, `factor` for the slowest.
    return [factor ** (pair / max(1, pairs - 1)) for pair in range(pairs)]
