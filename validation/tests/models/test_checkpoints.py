"""Every checkpoint that cannot be judged is refused in one sentence, before a model loads."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from transformer_lens_fork.errors import InputError
from validation.models.checkpoints import resolve_checkpoint
from validation.models.shapes import Shape
from validation.tests.conftest import ROPE


def _ignore(_: str) -> None:
    """Reports nothing."""


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint that a test may damage."""
    return Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))


def _edit(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(config | changes), encoding="utf-8")


def _refusal(spec: Path | str) -> str:
    with pytest.raises(InputError) as refusal:
        resolve_checkpoint(str(spec), _ignore)
    message = str(refusal.value)
    assert message.startswith("--checkpoint: ")
    assert "\n" not in message
    return message


def test_a_sound_checkpoint(checkpoint: Path) -> None:
    """What is found is what was saved."""
    found = resolve_checkpoint(str(checkpoint), _ignore)
    assert found.positions == 65536
    assert found.shape == Shape(2, 144, 192, 6, 2, 48, 320, is_tied=False)
    assert not found.has_tokenizer
    assert found.rope.theta == ROPE["rope_theta"]
    assert found.rope.original_positions == ROPE["original_max_position_embeddings"]


@pytest.mark.parametrize("key", ["rope_type", "type"])
def test_the_older_form_is_the_same_rope(copy: Path, checkpoint: Path, key: str) -> None:
    """rope_theta and rope_scaling, as transformers 4 writes them, are read alike."""
    scaling = {
        name: value for name, value in ROPE.items() if name not in ("rope_theta", "rope_type")
    }
    file = copy / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    del config["rope_parameters"]
    config |= {"rope_theta": ROPE["rope_theta"], "rope_scaling": {key: "llama3", **scaling}}
    file.write_text(json.dumps(config), encoding="utf-8")
    found = resolve_checkpoint(str(copy), _ignore)
    assert found.rope == resolve_checkpoint(str(checkpoint), _ignore).rope


def test_the_hash_follows_weights_and_configuration(copy: Path) -> None:
    """Another weight or another setting is another checkpoint."""
    before = resolve_checkpoint(str(copy), _ignore).sha256
    weights = load_file(copy / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    changed = resolve_checkpoint(str(copy), _ignore).sha256
    _edit(copy, rms_norm_eps=1e-6)
    assert len({before, changed, resolve_checkpoint(str(copy), _ignore).sha256}) == 3


@pytest.mark.parametrize("spec", ["no-such-folder", "./no/such/folder", "a/b/c"])
def test_missing_folder(spec: str) -> None:
    """What is neither there nor a hub id."""
    assert "'smollm2', a folder" in _refusal(spec)


def test_no_configuration(copy: Path) -> None:
    """A folder with weights alone."""
    (copy / "config.json").unlink()
    assert "has no config.json" in _refusal(copy)


def test_damaged_configuration(copy: Path) -> None:
    """No JSON."""
    (copy / "config.json").write_text("{", encoding="utf-8")
    assert "config.json" in _refusal(copy)


def test_another_architecture(copy: Path) -> None:
    """Only Llama is judged."""
    _edit(copy, model_type="gpt2", architectures=["GPT2LMHeadModel"])
    assert "model_type" in _refusal(copy)


@pytest.mark.parametrize("rope_type", ["default", "linear", "yarn"])
def test_another_rope_type(copy: Path, rope_type: str) -> None:
    """The message names the type that is there and the one that is accepted."""
    rope = {"rope_type": rope_type, "rope_theta": 1e6, "factor": 4.0}
    if rope_type == "yarn":
        rope["original_max_position_embeddings"] = 4096
    _edit(copy, rope_parameters=rope)
    message = _refusal(copy)
    assert f"'{rope_type}'" in message
    assert "'llama3' is accepted" in message


def test_missing_weights(copy: Path) -> None:
    """config.json alone is no checkpoint."""
    (copy / "model.safetensors").unlink()
    assert "safetensors weights are needed" in _refusal(copy)


@pytest.mark.parametrize("kept", [0, 7, 300, -1])
def test_truncated_weights(copy: Path, kept: int) -> None:
    """A download that stopped, in the header or one byte before the end."""
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    assert "corrupt or truncated" in _refusal(copy)


def test_missing_shard(copy: Path) -> None:
    """The index names a file that is not there."""
    (copy / "model.safetensors").unlink()
    weight_map = {"model.embed_tokens.weight": "model-00001-of-00002.safetensors"}
    index = {"metadata": {}, "weight_map": weight_map}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert "model-00001-of-00002.safetensors' is missing" in _refusal(copy)


def test_vocabulary_mismatch(copy: Path) -> None:
    """The embedding has other rows than config.json says."""
    _edit(copy, vocab_size=321)
    message = _refusal(copy)
    assert "vocabulary of 320" in message
    assert "vocab_size 321" in message


def test_missing_tensor(copy: Path) -> None:
    """Filled with the same random numbers on both sides it would be IDENTICAL."""
    weights = load_file(copy / "model.safetensors")
    del weights["model.layers.1.mlp.down_proj.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    message = _refusal(copy)
    assert "model.layers.1.mlp.down_proj.weight" in message
    assert "has shape none" in message


def test_tensor_of_another_shape(copy: Path) -> None:
    """Weights of another configuration."""
    _edit(copy, intermediate_size=191)
    assert "has shape [192, 144]; its config.json asks for [191, 144]" in _refusal(copy)


def test_index_that_is_no_index(copy: Path) -> None:
    """A list where a table of tensors should be."""
    (copy / "model.safetensors.index.json").write_text('{"weight_map": ["a"]}', encoding="utf-8")
    resolve_checkpoint(str(copy), _ignore)  # transformers prefers the single file, so do we
    (copy / "model.safetensors").unlink()
    assert "is damaged" in _refusal(copy)


@pytest.mark.parametrize(
    "spec",
    [
        "~nobody-of-that-name/x",
        "a" * 5000,
        "a/" + "b" * 5000,
        "a/" * 3000,
        "a\0b",
        "a/b\0c",
        "a\nb",
        "nobody/a--b",
        "nobody/a..b",
        "nobody/b.git",
        "nobody./b",
        "nobody/-b",
        "nobody/" + "b" * 97,
        "/dev/null",
        "/proc/self/mem",
    ],
)
def test_odd_names(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the system nor the hub takes these names; each is one short sentence."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert len(_refusal(spec)) < 700
