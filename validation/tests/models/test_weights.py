"""Weights that do not fit the configuration, or cannot be read, are refused by their headers."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from transformer_lens_fork.errors import InputError
from validation.models.checkpoints import resolve_checkpoint
from validation.models.weights import INDEX, SINGLE
from validation.tests.conftest import save_checkpoint

EMBEDDING = "model.embed_tokens.weight"


def _ignore(_: str) -> None:
    """Reports nothing."""


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint that a test may damage."""
    return Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))


@pytest.fixture
def shards(folder: Path) -> Path:
    """The same in two files."""
    weights = load_file(folder / SINGLE)
    (folder / SINGLE).unlink()
    names = sorted(weights)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: weights[name] for name in part}, folder / file, {"format": "pt"})
    weight_map = {name: file for file, part in parts.items() for name in part}
    _write_index(folder, {"metadata": {}, "weight_map": weight_map})
    return folder


def _write_index(folder: Path, content: object) -> None:
    (folder / INDEX).write_text(json.dumps(content), encoding="utf-8")


def _index(folder: Path) -> dict[str, Any]:
    index: dict[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    return index


def _refusal(folder: Path) -> str:
    with pytest.raises(InputError, match=r"^--checkpoint: ") as refusal:
        resolve_checkpoint(str(folder), _ignore)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_shards_are_one_checkpoint(shards: Path) -> None:
    """Each file counts for its hash."""
    before = resolve_checkpoint(str(shards), _ignore).sha256
    weights = load_file(shards / "b.safetensors")
    next(iter(weights.values())).flat[0] += 1
    save_file(weights, shards / "b.safetensors", {"format": "pt"})
    assert resolve_checkpoint(str(shards), _ignore).sha256 != before


@pytest.mark.parametrize(
    "content",
    [
        [1],
        "index",
        None,
        {},
        {"weight_map": None, "metadata": {}},
        {"weight_map": {}, "metadata": {}},
        {"weight_map": ["a.safetensors"], "metadata": {}},
        {"weight_map": {EMBEDDING: 1}, "metadata": {}},
        {"weight_map": {EMBEDDING: None}, "metadata": {}},
        {"weight_map": {EMBEDDING: ["a.safetensors"]}, "metadata": {}},
        {"weight_map": {EMBEDDING: ""}, "metadata": {}},
        {"weight_map": {EMBEDDING: "/etc/passwd"}, "metadata": {}},
        {"weight_map": {EMBEDDING: "../a.safetensors"}, "metadata": {}},
        {"weight_map": {EMBEDDING: ".."}, "metadata": {}},
        {"weight_map": {EMBEDDING: "x/a.safetensors"}, "metadata": {}},
        {"weight_map": {EMBEDDING: "n" * 5000}, "metadata": {}},
        {"weight_map": {EMBEDDING: "a\0b"}, "metadata": {}},
        {"weight_map": {EMBEDDING: "a.safetensors"}},
        {"weight_map": {EMBEDDING: "a.safetensors"}, "metadata": None},
    ],
)
def test_an_index_that_is_none(shards: Path, content: object) -> None:
    """What is wrong with it is named, and no file outside the folder is read."""
    _write_index(shards, content)
    assert INDEX in _refusal(shards)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_an_index_that_is_no_json(shards: Path, content: bytes) -> None:
    """Cut, or never text."""
    (shards / INDEX).write_bytes(content)
    assert "cannot be read as JSON" in _refusal(shards)


def test_a_shard_without_its_tensor(shards: Path) -> None:
    """The file is there, what the index promises is not in it."""
    index = _index(shards)
    index["weight_map"]["model.extra.weight"] = "a.safetensors"
    _write_index(shards, index)
    assert "'model.extra.weight' is not in" in _refusal(shards)


def test_a_tensor_in_two_shards(shards: Path) -> None:
    """Which of the two is loaded would be anybody's guess."""
    weights = load_file(shards / "b.safetensors")
    name = next(iter(load_file(shards / "a.safetensors")))
    weights[name] = np.zeros(3, dtype=np.float32)
    save_file(weights, shards / "b.safetensors", {"format": "pt"})
    assert f"{name} of" in _refusal(shards)
    assert "in more than one file" in _refusal(shards)


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (np.array(1.0, dtype=np.float32), "a vocabulary of no rows"),
        (np.zeros((0, 144), dtype=np.float32), "a vocabulary of 0"),
        (np.zeros(320, dtype=np.float32), r"has shape [320]; its config.json asks for [320, 144]"),
        (np.zeros((320, 144), dtype=np.int64), "has dtype I64; F16, BF16, F32, F64 are accepted"),
        (np.zeros((320, 144), dtype=np.uint8), "has dtype U8"),
        (np.zeros((320, 144), dtype=np.bool_), "has dtype BOOL"),
    ],
)
def test_an_embedding_of_another_kind(folder: Path, tensor: NDArray[Any], says: str) -> None:
    """No rows, one dimension, numbers that are no weights."""
    weights = load_file(folder / SINGLE)
    save_file(weights | {EMBEDDING: tensor}, folder / SINGLE, {"format": "pt"})
    message = _refusal(folder)
    assert EMBEDDING in message
    assert says in message


@pytest.mark.parametrize("name", [SINGLE, "config.json"])
def test_a_link_to_nothing(folder: Path, name: str) -> None:
    """As a cache leaves it whose files were removed."""
    (folder / name).unlink()
    (folder / name).symlink_to(folder / "nowhere")
    assert name in _refusal(folder)


@pytest.mark.parametrize("name", [SINGLE, "config.json"])
def test_a_folder_instead_of_a_file(folder: Path, name: str) -> None:
    """Is not read."""
    (folder / name).unlink()
    (folder / name).mkdir()
    assert name in _refusal(folder)


def test_a_tied_head_must_be_the_embedding(tmp_path: Path) -> None:
    """Where they differ transformers takes both, with a warning: the configuration lies."""
    folder = save_checkpoint(tmp_path / "c", tie_word_embeddings=True)
    tensors = load_file(folder / "model.safetensors")
    embedding = tensors["model.embed_tokens.weight"]
    for head, is_accepted in ((embedding.copy(), True), (2 * embedding, False)):
        both = tensors | {"lm_head.weight": head}
        save_file(both, folder / "model.safetensors", metadata={"format": "pt"})
        if is_accepted:
            resolve_checkpoint(str(folder), _ignore)
        else:
            with pytest.raises(InputError, match=r"lm_head\.weight of .* is not its embedding"):
                resolve_checkpoint(str(folder), _ignore)
