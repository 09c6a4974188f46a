"""Safetensors and tokenizers that are cut, flipped or never were any."""

import json
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from validation.models import prompts
from validation.models.checkpoints import resolve_checkpoint
from validation.tests.malformed.conftest import SEED, Refused, flip, ignore


@pytest.fixture
def weights(checkpoint: Path, tmp_path: Path) -> Callable[[bytes], Path]:
    """Makes a checkpoint with these bytes as its weights."""
    (tmp_path / "config.json").write_bytes((checkpoint / "config.json").read_bytes())

    def make(content: bytes) -> Path:
        (tmp_path / "model.safetensors").write_bytes(content)
        return tmp_path

    return make


def test_truncated_weights(
    checkpoint: Path, weights: Callable[[bytes], Path], refusal: Refused
) -> None:
    """Cut anywhere, or with bytes too many, a file is refused by its name."""
    sound = (checkpoint / "model.safetensors").read_bytes()
    random_ = random.Random(SEED)
    header = 8 + int.from_bytes(sound[:8], "little")
    lengths = [0, 1, 7, 8, 9, header - 1, header, header + 1, len(sound) - 1]
    lengths += [random_.randrange(len(sound)) for _ in range(21)]
    for content in (*(sound[:length] for length in lengths), sound + b"\0", sound * 2):
        folder = weights(content)
        sentence = refusal(partial(resolve_checkpoint, str(folder), ignore))
        assert sentence
        assert "model.safetensors' is corrupt or truncated" in sentence


def test_flipped_bits_of_weights(
    checkpoint: Path, weights: Callable[[bytes], Path], refusal: Refused
) -> None:
    """In the header nearly all is refused; among the numbers it is another checkpoint."""
    sound = (checkpoint / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(sound[:8], "little")
    original = resolve_checkpoint(str(checkpoint), ignore).sha256
    random_ = random.Random(SEED)
    found: list[str] = []

    def resolve(start: int, stop: int) -> str | None:
        folder = weights(flip(sound, random_, start, stop))
        return refusal(lambda: found.append(resolve_checkpoint(str(folder), ignore).sha256))

    assert sum(resolve(0, header) is not None for _ in range(60)) > 50
    assert sum(resolve(header, len(sound)) is not None for _ in range(10)) == 0
    assert original not in found


TOKENIZER: dict[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"the": 0, "a": 1, "?": 2}, "unk_token": "?"},
}


def _wrong_tokenizers() -> Iterator[dict[str, bytes]]:
    sound = json.dumps(TOKENIZER).encode()
    for content in (b"", b"{}", b"[]", b"null", b"\xff\xfe", b"{", sound[:-1], b"[" * 100_000):
        yield {"tokenizer.json": content}
    for name in ("model", "pre_tokenizer"):
        yield {"tokenizer.json": json.dumps(TOKENIZER | {name: {"type": "Nonsense"}}).encode()}
    special = {"SpecialToken": {"id": "x", "type_id": 0}}
    for change in (  # the first three make tokenizers panic in Rust
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "CAAAAP////8AAAAAYQBi"}},
        {
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [special],
                "pair": [],
                "special_tokens": {},
            }
        },
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "("}, "content": ""}},
    ):
        yield {"tokenizer.json": json.dumps(TOKENIZER | change).encode()}
    for model in (
        {"type": "WordLevel", "vocab": {}, "unk_token": "?"},
        {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"},
        {"type": "WordLevel", "vocab": {"the": 0, "?": 10**6}, "unk_token": "?"},
        {"type": "WordLevel", "vocab": {"the": -1, "?": 0}, "unk_token": "?"},
        {"type": "WordLevel", "vocab": {"the": "0", "?": 0}, "unk_token": "?"},
        {"type": "WordLevel", "vocab": {"the": 0}, "unk_token": "?"},
        {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]},
        {"type": "BPE", "vocab": {}, "merges": []},
        {"type": "Unigram", "vocab": [], "unk_id": 0},
    ):
        yield {"tokenizer.json": json.dumps(TOKENIZER | {"model": model}).encode()}
    for settings in (b"[]", b"{", b"", b"\xff", b'{"tokenizer_class": 3}', b'{"bos_token": 3}'):
        yield {"tokenizer.json": sound, "tokenizer_config.json": settings}
    for content in (b"", b"\x0a\xff\xff", b"no model"):
        yield {"tokenizer.model": content}


def test_tokenizers(
    checkpoint: Path, tmp_path: Path, refusal: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tokenizer that is damaged, or tells no words apart, is refused; a sound one is not."""
    text = "the a the cat " * 50
    monkeypatch.setattr(prompts, "_text", lambda: iter([text]))

    def build(files: dict[str, bytes]) -> str | None:
        for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model"):
            (tmp_path / name).unlink(missing_ok=True)
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        return refusal(
            lambda: prompts.build_prompt(resolve_checkpoint(str(tmp_path), ignore), 8, 0)
        )

    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(checkpoint / name)
    assert build({"tokenizer.json": json.dumps(TOKENIZER).encode()}) is None
    for files in _wrong_tokenizers():
        sentence = build(files)
        assert sentence, files
        assert "tokenizer of" in sentence
