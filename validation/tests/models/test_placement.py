"""Where the reference's modules go, and that it is the same model there, as far as a CPU shows."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from transformer_lens_fork.bases import REPOSITORY
from validation.models.placement import place_layers, spread
from validation.models.random_weights import parse_random, random_folder
from validation.models.reference import SDPA, empty_reference, final_hidden, load_reference

GIB = 2**30


def _folder(shape: str) -> Path:
    drawn = parse_random(f"random:{shape}")
    assert drawn is not None
    return random_folder(drawn, lambda _: None)


@pytest.mark.parametrize("shape", ["llama-3.2-1b", "llama-3.1-8b"])
def test_layers_are_spread_whole_and_in_order(shape: str) -> None:
    """On as many GPUs as there are, about the same on each."""
    model = empty_reference(_folder(shape), torch.bfloat16)
    placed = place_layers(model, dict.fromkeys(range(4), 12 * GIB))
    n_layers = model.config.num_hidden_layers
    devices = [placed[f"model.layers.{index}"] for index in range(n_layers)]
    assert devices == sorted(devices, key=str)
    counts = [devices.count(device) for device in range(4)]
    assert sum(counts) == n_layers
    assert min(counts) > 0
    assert placed["model.embed_tokens"] == 0


def test_what_does_not_fit_is_refused() -> None:
    """It is not put on the host or the disk, where nobody asked for it."""
    model = empty_reference(_folder("llama-3.1-70b"), torch.bfloat16)
    with pytest.raises(ValueError, match="do not fit 2 devices"):
        place_layers(model, dict.fromkeys(range(2), 12 * GIB))


@pytest.mark.parametrize("seed", [None, 5])
def test_a_placed_model_is_the_same(seed: int | None, checkpoint: Path) -> None:
    """From files and from a seed, through accelerate's own loading, bit for bit."""
    folder = checkpoint if seed is None else _folder("tiny-llama-3.2-1b")
    model = empty_reference(folder, torch.float32)
    placed = spread(model, folder, torch.float32, seed, {"": "cpu"}).eval()
    whole = load_reference(folder, torch.float32, "cpu", seed)
    tokens = torch.arange(100)[None]
    found, expected = (
        final_hidden(each, tokens, SDPA, lambda *_: None) for each in (placed, whole)
    )
    assert torch.equal(found, expected)
    assert torch.equal(placed.lm_head.weight, whole.lm_head.weight)
    assert placed.model.rotary_emb.inv_freq.dtype == torch.float32


_PLACED = """
import sys
import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig
from validation.models.subject import place_modules

model = HookedTransformer(HookedTransformerConfig(
    n_layers=4, d_model=8, n_ctx=4, d_head=4, n_heads=2, d_vocab=5, act_fn="relu", device="cpu"
))
forward = sys.modules[HookedTransformer.__module__]
forward.get_device_for_block_index = lambda index, cfg: torch.device("meta" if index > 1 else "cpu")
place_modules(model)
for name, parameter in model.named_parameters():
    print(name, parameter.device.type)
"""


def test_a_subject_s_modules_are_where_its_forward_looks() -> None:
    """Not where memory was free at loading. Without GPUs `meta` stands for the second.

    In a process of its own: what is imported there is the release, and other tests import the fork.
    """
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PLACED],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )
    assert process.returncode == 0, process.stderr
    places = dict(line.split() for line in process.stdout.splitlines())
    assert len(places) > 20
    for name, place in places.items():
        second = ("blocks.2.", "blocks.3.", "ln_final.", "unembed.")
        assert place == ("meta" if name.startswith(second) else "cpu"), name
