"""Schemes are what `transformers` has, at the trained length and beyond it."""

import copy
from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from validation.studies.schemes import (
    NO_ROTATION,
    SCHEMES,
    covering_factor,
    frequencies,
    positive,
    scheme_config,
    shrink,
)

TRAINED = 8192


def llama(**changes: Any) -> Any:
    """SmolLM2's configuration, as the harness has it: with Llama 3.1's scaling."""
    rope = {
        "rope_type": "llama3",
        "rope_theta": 1e5,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": TRAINED,
    }
    fields = {"hidden_size": 576, "num_attention_heads": 9, "head_dim": 64}
    return LlamaConfig(**fields, max_position_embeddings=131072, rope_parameters=rope | changes)


def of_module(config: Any, tokens: int) -> tuple[torch.Tensor, float]:
    """What Hugging Face's own module has after a forward of so many tokens."""
    module = LlamaRotaryEmbedding(config)
    module(torch.zeros(1, 1), torch.arange(tokens)[None])
    return module.inv_freq, module.attention_scaling


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("context", [1024, TRAINED, 12_288, 65_536])
def test_frequencies_are_those_of_the_module(name: str, context: int) -> None:
    """Bit for bit, for every scheme, also of those that look at the length."""
    config = scheme_config(name, llama(), context)
    found, scaling = frequencies(config, context)
    wanted, wanted_scaling = of_module(config, context)
    assert torch.equal(found, wanted)
    assert scaling == wanted_scaling


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("context", [512, 12_288, 20_000, 65_536])
def test_a_shorter_text_has_the_same_frequencies(name: str, context: int) -> None:
    """As Hugging Face's module has them there: otherwise the comparison would be of others."""
    config, tokens = shrink(scheme_config(name, llama(), context), context, 1024)
    assert 0 < tokens <= 1024
    found, scaling = of_module(config, tokens)
    wanted, wanted_scaling = frequencies(scheme_config(name, llama(), context), context)
    assert torch.equal(found, wanted)
    assert scaling == wanted_scaling


@pytest.mark.parametrize("name", ["linear", "dynamic", "yarn", "longrope"])
def test_the_factor_covers_the_context_and_no_more(name: str) -> None:
    """Up to the trained length these are plain RoPE; at 1.5 times it the slowest pair slows so."""
    plain, _ = frequencies(scheme_config("plain", llama(), 1024), 1024)
    within, scaling = frequencies(scheme_config(name, llama(), TRAINED), TRAINED)
    # Their functions order the same arithmetic otherwise: a unit in the last place, or two.
    torch.testing.assert_close(within, plain, rtol=3e-7, atol=0)
    assert scaling == 1.0
    assert covering_factor(llama(), 12_288) == 1.5
    beyond, _ = frequencies(scheme_config(name, llama(), 12_288), 12_288)
    assert float(plain[-1] / beyond[-1]) == pytest.approx(1.5, rel=1e-5)


def test_llama3_keeps_the_checkpoint_s_own_parameters() -> None:
    """Whatever the context; a checkpoint without any gets the published ones."""
    own = scheme_config("llama3", llama(factor=32.0), 12_288).rope_parameters
    assert own["factor"] == 32.0
    assert scheme_config("llama3", llama(), 1024).rope_parameters == llama().rope_parameters
    plain = copy.deepcopy(llama())
    plain.rope_parameters = {"rope_type": "default", "rope_theta": 1e5}
    assert scheme_config("llama3", plain, 1024).rope_parameters["factor"] == 8.0


def test_p_rope_stops_the_slowest_quarter() -> None:
    """Zeros, of which the fork is given what rotates nothing."""
    found, _ = frequencies(scheme_config("p-rope", llama(), 1024), 1024)
    plain, _ = frequencies(scheme_config("plain", llama(), 1024), 1024)
    assert torch.count_nonzero(found) == 24
    torch.testing.assert_close(found[:24], plain[:24], rtol=3e-7, atol=0)
    given = torch.tensor(positive(found))
    assert torch.equal(given[:24], found[:24])
    angles = 131_072 * given[24:]
    assert torch.all(angles.cos() == 1)
    assert torch.all(given[24:] == torch.tensor(NO_ROTATION))
    assert torch.all(1.0 + angles.sin() == 1.0)


def test_the_checkpoint_s_configuration_is_left_alone() -> None:
    """Every scheme is a copy."""
    config = llama()
    before = copy.deepcopy(config.to_dict())
    for name in SCHEMES:
        shrink(scheme_config(name, config, 12_288), 12_288, 1024)
    assert config.to_dict() == before


def test_an_unknown_scheme_is_refused() -> None:
    """By name."""
    with pytest.raises(ValueError, match="'xpos' is none of plain, linear"):
        scheme_config("xpos", llama(), 1024)
