"""The first layers of a checkpoint are its own, bit for bit."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from transformer_lens_fork.errors import InputError
from validation.models.checkpoints import resolve_checkpoint
from validation.models.truncation import truncate
from validation.tests.conftest import save_checkpoint


def _ignore(_: str) -> None:
    """Reports nothing."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is built in the user's own cache."""
    monkeypatch.setenv("LLAMA31_PARITY_CACHE", str(tmp_path / "cache"))


def _sharded(folder: Path) -> Path:
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(save_checkpoint(folder / "whole"))
    model.save_pretrained(folder / "sharded", max_shard_size="200KB")
    assert (folder / "sharded" / "model.safetensors.index.json").exists()
    return folder / "sharded"


def _single(folder: Path) -> Path:
    return save_checkpoint(folder / "single")


@pytest.mark.parametrize("build", [_single, _sharded])
def test_kept_tensors_have_the_same_bits(build: Callable[[Path], Path], tmp_path: Path) -> None:
    """Those of the kept layers and all outside layers; the configuration says one layer."""
    whole = resolve_checkpoint(str(build(tmp_path)), _ignore)
    first = truncate(whole, 1, _ignore)
    tensors = {
        name: tensor
        for file in whole.path.glob("*.safetensors")
        for name, tensor in load_file(file).items()
    }
    kept = {
        name: tensor
        for file in first.path.glob("*.safetensors")
        for name, tensor in load_file(file).items()
    }
    assert kept.keys() == {name for name in tensors if not name.startswith("model.layers.1.")}
    assert all(torch.equal(tensors[name], tensor) for name, tensor in kept.items())
    config = json.loads((first.path / "config.json").read_text(encoding="utf-8"))
    assert config["num_hidden_layers"] == first.shape.layers == 1
    assert first.name.endswith("[1 of 2 layers]")
    assert resolve_checkpoint(str(first.path), _ignore).rope == whole.rope


def test_it_is_built_once(tmp_path: Path) -> None:
    """The second call finds the first one's; other weights get a folder of their own."""
    whole = resolve_checkpoint(str(_single(tmp_path)), _ignore)
    said: list[str] = []
    assert truncate(whole, 1, said.append) == truncate(whole, 1, said.append)
    assert len(said) == 1
    other = resolve_checkpoint(str(save_checkpoint(tmp_path / "other", std=0.3)), _ignore)
    assert truncate(other, 1, said.append).path != truncate(whole, 1, said.append).path


def test_all_layers_are_the_checkpoint_itself(tmp_path: Path) -> None:
    """Nothing is copied."""
    whole = resolve_checkpoint(str(_single(tmp_path)), _ignore)
    assert truncate(whole, 2, _ignore) is whole


@pytest.mark.parametrize("layers", [0, 3])
def test_other_numbers_are_refused(layers: int, tmp_path: Path) -> None:
    """The sentence says how many there are."""
    whole = resolve_checkpoint(str(_single(tmp_path)), _ignore)
    with pytest.raises(InputError, match=f"--layers: {layers} is not accepted; .* 1 to 2 are"):
        truncate(whole, layers, _ignore)
