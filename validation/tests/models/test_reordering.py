"""Permuted channels are the same function in another order; plain RoPE is another function."""

from pathlib import Path
from typing import Any

import pytest
import torch

from validation.models.reference import load_reference
from validation.models.reordering import permuted_channels, plain_rope
from validation.tests.conftest import ROPE, save_checkpoint

TOKENS = torch.arange(200)[None]


@pytest.fixture(params=[{}, {"tie_word_embeddings": True}, {"attention_bias": True}])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """GQA, tied or not, with biases; every one-dimensional weight random, as trained ones are."""
    model = load_reference(save_checkpoint(tmp_path / "c", **request.param), torch.float32, "cpu")
    torch.manual_seed(3)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter)
    return model


def logits(model: Any) -> torch.Tensor:
    """Of one forward."""
    with torch.no_grad():
        found: torch.Tensor = model(TOKENS, use_cache=False).logits
    return found


def test_a_permuted_model_is_the_same_function(model: Any) -> None:
    """Its logits differ in their last bits, nearly all of them, and by no more."""
    before = logits(model)
    with permuted_channels(model, seed=0):
        permuted = logits(model)
    error = (permuted - before).abs()
    assert (permuted != before).float().mean() > 0.5
    assert error.max() < 1e-4 * before.abs().max()


def test_a_permuted_model_is_restored(model: Any) -> None:
    """Every weight and every frequency has its bits again, also after an error."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    inv_freq = model.model.rotary_emb.inv_freq.clone()
    with pytest.raises(KeyError), permuted_channels(model, seed=0):
        raise KeyError
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(model.model.rotary_emb.inv_freq, inv_freq)


def test_another_seed_is_another_order(model: Any) -> None:
    """The permutation is drawn from the seed, and the same again."""
    found = []
    for seed in (0, 0, 1):
        with permuted_channels(model, seed):
            found.append(logits(model))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_plain_rope_is_that_of_an_unscaled_model(tmp_path: Path) -> None:
    """Bit for bit the logits of the same weights with rope_type default; restored afterwards."""
    scaled = load_reference(save_checkpoint(tmp_path / "scaled"), torch.float32, "cpu")
    default = {"rope_type": "default", "rope_theta": ROPE["rope_theta"]}
    folder = save_checkpoint(tmp_path / "plain", rope_parameters=default)
    plain = load_reference(folder, torch.float32, "cpu")
    before = logits(scaled)
    with plain_rope(scaled, ROPE["rope_theta"]):
        assert torch.equal(logits(scaled), logits(plain))
    assert torch.equal(logits(scaled), before)
    assert not torch.equal(before, logits(plain))
