"""The prompt is the same whoever asks, and a prefix of itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from transformer_lens_fork.errors import InputError
from validation.models.checkpoints import Checkpoint, resolve_checkpoint
from validation.models.prompts import build_prompt
from validation.models.smollm2 import CONFIG, smollm2_folder


def _ignore(_: str) -> None:
    """Reports nothing."""


@pytest.fixture(scope="module")
def smollm2() -> Checkpoint:
    """The real checkpoint, with its tokenizer."""
    return resolve_checkpoint("smollm2", _ignore)


def test_text_is_pinned(smollm2: Checkpoint) -> None:
    """The first tokens of the sdist's first Markdown file, and the hash of 4k of them."""
    prompt = build_prompt(smollm2, 4096, seed=0)
    assert prompt.tokens.shape == (4096,)
    assert prompt.sha256(4096) == TEXT_SHA256
    assert "text of TransformerLens" in prompt.source


def test_a_longer_prompt_starts_with_the_shorter_one(smollm2: Checkpoint) -> None:
    """Results at 1k are those of any ladder that has 1k."""
    short, long = build_prompt(smollm2, 1024, seed=0), build_prompt(smollm2, 8192, seed=0)
    np.testing.assert_array_equal(short.tokens, long.tokens[:1024])
    assert short.sha256(1024) == long.sha256(1024)
    assert long.sha256(1024) != long.sha256(2048)


def test_without_tokenizer_ids_are_seeded(checkpoint: Path) -> None:
    """Random ids, the same for the same seed, inside the vocabulary."""
    found = resolve_checkpoint(str(checkpoint), _ignore)
    prompt = build_prompt(found, 500, seed=3)
    assert prompt.sha256(500) == build_prompt(found, 500, seed=3).sha256(500)
    assert prompt.sha256(500) != build_prompt(found, 500, seed=4).sha256(500)
    assert prompt.tokens.max() < 320
    assert "random ids, seed 3" in prompt.source


def test_tokens_outside_the_vocabulary_are_refused(smollm2: Checkpoint) -> None:
    """A tokenizer of another model."""
    small = replace(smollm2, shape=replace(smollm2.shape, vocab=100))
    with pytest.raises(InputError, match="its vocabulary ends at 99; they must match"):
        build_prompt(small, 64, seed=0)


def test_more_tokens_than_text_are_refused(smollm2: Checkpoint) -> None:
    """The text is long, not endless."""
    with pytest.raises(InputError, match=r"the text has .* tokens, not 100000000"):
        build_prompt(smollm2, 100_000_000, seed=0)


def test_smollm2_is_a_stand_in_with_llama31_rope() -> None:
    """SmolLM2's shape and theta with Llama 3.1's scaling, verified by hash at each call."""
    folder = smollm2_folder(_ignore)
    assert (folder / "model.safetensors").is_file()
    assert CONFIG["rope_theta"] == 100000.0
    assert CONFIG["rope_scaling"] == {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }


TEXT_SHA256 = "11b9f4c2c0be86ba534d746c303b29aae992c323ea5f9d863e5c55091e24c9e0"
