"""Seeded weights: the same wherever and however they are made, at the sizes that Meta published."""

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch

from transformer_lens_fork.errors import InputError
from validation.judgement.thresholds import MAX_RATIO
from validation.models import random_weights
from validation.models.checkpoints import resolve_checkpoint
from validation.models.random_weights import configuration, random_tensor, shape_names
from validation.models.reference import EAGER, SDPA, final_hidden, load_reference
from validation.models.reordering import plain_rope
from validation.models.rope_parameters import LLAMA_31, LLAMA_32
from validation.models.truncation import truncate

TINY = "random:tiny-llama-3.2-1b"

NAME = "model.layers.0.self_attn.q_proj.weight"

PARAMETERS = {
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.3-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
}
"""What the pages of the models on the hub count in their safetensors."""

HUB = {
    "llama-3.2-1b": "meta-llama/Llama-3.2-1B",
    "llama-3.2-3b": "meta-llama/Llama-3.2-3B",
    "llama-3.1-8b": "meta-llama/Llama-3.1-8B",
    "llama-3.1-70b": "meta-llama/Llama-3.1-70B",
    "llama-3.3-70b": "meta-llama/Llama-3.3-70B-Instruct",
    "llama-3.1-405b": "meta-llama/Llama-3.1-405B",
}


def _ignore(_: str) -> None:
    """Reports nothing."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is built in the user's own cache."""
    monkeypatch.setenv("LLAMA31_PARITY_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("shape", PARAMETERS)
def test_real_sizes_have_as_many_weights_as_published(shape: str) -> None:
    """Counted by transformers, of a model without storage."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(LlamaConfig(**configuration(shape)))
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[shape]


@pytest.mark.parametrize("shape", shape_names())
def test_transformers_reads_every_figure_as_it_stands(shape: str) -> None:
    """No field is renamed, dropped or overruled; RoPE is Llama 3.1's or 3.2's."""
    from transformers import LlamaConfig

    wanted = configuration(shape)
    read = LlamaConfig(**wanted)
    rope = {**wanted.pop("rope_scaling"), "rope_theta": wanted.pop("rope_theta")}
    assert read.rope_parameters == rope
    assert str(read.dtype) == f"torch.{wanted.pop('dtype')}"
    assert {name: getattr(read, name) for name in wanted} == wanted
    found = resolve_checkpoint(f"random:{shape}", _ignore)
    assert found.rope == (LLAMA_32 if "3.2" in shape else LLAMA_31)
    assert found.positions == 131072


@pytest.mark.skipif(not os.environ.get("HF_TOKEN"), reason="HF_TOKEN is not set: gated")
@pytest.mark.parametrize("shape", HUB)
def test_real_sizes_are_those_on_the_hub(
    shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every figure of the table that the model's own config.json gives."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    try:
        path = hf_hub_download(HUB[shape], "config.json", cache_dir=tmp_path)
    except GatedRepoError:
        pytest.skip(f"{HUB[shape]} does not let the account of HF_TOKEN in")
    except LocalEntryNotFoundError:
        pytest.skip("the hub cannot be reached")
    theirs = json.loads(Path(path).read_text(encoding="utf-8"))
    ours = configuration(shape)
    shared = theirs.keys() & ours.keys() - {"dtype", "eos_token_id"}  # chat models have several
    assert {name: ours[name] for name in shared} == {name: theirs[name] for name in shared}


def _splitmix64(state: int) -> int:
    """Its output function, in Python's integers (Steele, Lea, Flood 2014, figure 16)."""
    mask = 2**64 - 1
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
    return state ^ (state >> 31)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_seed_gives_these_weights(dtype: torch.dtype) -> None:
    """Results name the seed alone: it must not come to mean other weights."""
    assert _splitmix64(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF  # published: the first of seed 0
    tensor = random_tensor(NAME, (64, 32), 7, dtype, "cpu").flatten()
    key = int.from_bytes(hashlib.sha256(f"7 {NAME}".encode()).digest()[:8])
    bound = torch.tensor(3**0.5 * 2.0 / 32**0.5 / 2**23)
    for place in (0, 1, 77, 2047):
        bits = _splitmix64((place * 0x9E3779B97F4A7C15 + key) % 2**64) >> 41
        assert tensor[place] == ((2 * bits + 1 - 2**23) * bound).to(dtype)


def test_weights_do_not_depend_on_how_many_are_made_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same of 100 at a time, the last ones fewer."""
    whole = random_tensor(NAME, (64, 33), 7, torch.float32, "cpu")
    monkeypatch.setattr(random_weights, "_AT_ONCE", 100)
    assert torch.equal(whole, random_tensor(NAME, (64, 33), 7, torch.float32, "cpu"))


def test_weights_spread_as_they_should() -> None:
    """Uniform: the mean, the deviation and the bounds; neighbours and other names unrelated."""
    one = random_tensor(NAME, (1024, 256), 7, torch.float32, "cpu")
    bound = 2.0 * 256**-0.5 * 3**0.5
    assert one.abs().max() <= bound
    assert one.abs().max() > 0.999 * bound
    assert abs(one.mean()) < 0.005 * bound
    assert one.std() == pytest.approx(2.0 / 16, rel=0.01)
    flat = one.flatten()
    others = {
        "neighbours": flat.roll(1),
        "another seed": random_tensor(NAME, (1024, 256), 8, torch.float32, "cpu").flatten(),
        "another name": random_tensor(
            NAME.replace(".0.", ".1."), (1024, 256), 7, torch.float32, "cpu"
        ).flatten(),
    }
    for what, other in others.items():
        assert abs(torch.corrcoef(torch.stack([flat, other]))[0, 1]) < 0.01, what


def test_the_model_is_what_from_pretrained_makes_of_the_same_weights(tmp_path: Path) -> None:
    """Saved and loaded again, bit for bit: tied embeddings, RoPE in fp32 beside weights in bf16."""
    found = resolve_checkpoint(TINY, _ignore)
    made = load_reference(found.path, torch.bfloat16, "cpu", found.weights_seed)
    assert made.lm_head.weight is made.model.embed_tokens.weight
    made.save_pretrained(tmp_path / "saved")
    read = load_reference(tmp_path / "saved", torch.bfloat16, "cpu")
    assert torch.equal(made.model.rotary_emb.inv_freq, read.model.rotary_emb.inv_freq)
    tokens = torch.arange(200)[None] * 7 % 4096
    with torch.no_grad():
        assert torch.equal(made(tokens).logits, read(tokens).logits)


def test_the_first_layers_are_those_of_the_whole() -> None:
    """`--layers` writes a configuration and draws the same weights."""
    whole = resolve_checkpoint("random:tiny-llama-3.1-70b@5", _ignore)
    first = truncate(whole, 2, _ignore)
    assert (first.weights_seed, first.shape.layers) == (5, 2)
    many, few = (load_reference(c.path, torch.float32, "cpu", 5) for c in (whole, first))
    kept = dict(few.named_parameters())
    assert len(few.model.layers) == 2
    assert all(torch.equal(kept[n], p) for n, p in many.named_parameters() if n in kept)


def test_a_seed_and_a_shape_are_another_checkpoint() -> None:
    """A finished case of one is no finished case of the other."""
    specs = (TINY, f"{TINY}@1", "random:tiny-llama-3.1-8b")
    assert (
        resolve_checkpoint(f"{TINY}@0", _ignore).sha256 == resolve_checkpoint(TINY, _ignore).sha256
    )
    assert len({resolve_checkpoint(spec, _ignore).sha256 for spec in specs}) == 3


@pytest.mark.parametrize(
    "spec",
    ["random:", "random:llama-9", f"{TINY}@", f"{TINY}@-1", f"{TINY}@x", f"{TINY}@{10**18}"],
)
def test_another_spec_is_refused(spec: str) -> None:
    """In one sentence that lists the shapes."""
    with pytest.raises(InputError, match=r"random:SHAPE@SEED are.*llama-3.1-405b") as refusal:
        resolve_checkpoint(spec, _ignore)
    assert spec in str(refusal.value)


@pytest.mark.parametrize("shape", [name for name in shape_names() if name.startswith("tiny")])
def test_every_shape_is_sensitive_to_position(shape: str) -> None:
    """RoPE without its scaling moves the states of 512 tokens far beyond the floor."""
    found = resolve_checkpoint(f"random:{shape}", _ignore)
    model = load_reference(found.path, torch.float32, "cpu", found.weights_seed)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(found.shape.vocab, (1, 512), generator=generator)
    hidden, floor = (final_hidden(model, tokens, a, lambda *_: None) for a in (SDPA, EAGER))
    with plain_rope(model, found.rope.theta):
        plain = final_hidden(model, tokens, SDPA, lambda *_: None)
    power = (plain - hidden).square().mean().sqrt() / (floor - hidden).square().mean().sqrt()
    assert power > 10 * MAX_RATIO
