"""Tiny seeded checkpoints, and the trees under test."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from transformer_lens_fork.bases import REPOSITORY, get_base
from transformer_lens_fork.series import ensure_checkout

os.environ.setdefault("HF_HUB_OFFLINE", "1")

ROPE: dict[str, Any] = {
    "rope_type": "llama3",
    "rope_theta": 1e6,
    "factor": 4.0,
    "low_freq_factor": 2.0,
    "high_freq_factor": 8.0,
    "original_max_position_embeddings": 4096,
}
"""As far from the official parameters as a legal configuration is: nothing may be hard-coded."""

SMALLEST = {
    "hidden_size": 64,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 64,
}
"""Changes to `save_checkpoint` for tests that run very often."""


def save_checkpoint(folder: Path, *, std: float = 0.35, **changes: Any) -> Path:
    """A random Llama with attention sharp enough that RoPE matters (GQA, head_dim != d/heads)."""
    config = LlamaConfig(
        **{
            "hidden_size": 144,
            "intermediate_size": 192,
            "num_hidden_layers": 2,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 48,
            "vocab_size": 320,
            "max_position_embeddings": 65536,
            "tie_word_embeddings": False,
            "rope_parameters": dict(ROPE),
            **changes,
        }
    )
    torch.manual_seed(7)
    model = LlamaForCausalLM(config)
    for layer in model.model.layers:
        torch.nn.init.normal_(layer.self_attn.q_proj.weight, std=std)
        torch.nn.init.normal_(layer.self_attn.k_proj.weight, std=std)
    model.save_pretrained(folder)
    return folder


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """`python -m validation` with these arguments, as a person would start it."""
    return subprocess.run(
        [sys.executable, "-m", "validation", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "200"},
    )


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random checkpoint in a folder whose path has 'llama' in it, as people's have."""
    return save_checkpoint(tmp_path_factory.mktemp("my-llama") / "Llama-3.1-8B-like")


@pytest.fixture(scope="session")
def fork() -> Path:
    """The materialised fork of v3.9.0."""
    return ensure_checkout(get_base("v3.9.0"))
