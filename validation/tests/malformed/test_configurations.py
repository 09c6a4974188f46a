"""config.json with wrong fields, wrong values, or no JSON at all."""

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from validation.models.checkpoints import resolve_checkpoint
from validation.tests.malformed.conftest import SEED, Refused, flip, ignore

WRONG: tuple[Any, ...] = (
    "8",
    True,
    [8],
    {"value": 8},
    -1,
    0,
    float("nan"),
    float("inf"),
    float("-inf"),
    10**400,
)
COUNTS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
)
ROPE_NUMBERS = (
    "rope_theta",
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
)
OPTIONAL = {"num_key_value_heads", "head_dim"}
DEFAULTED = {"rope_theta"}
"""transformers has a value for it."""


def _wrong_configurations(sound: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Each with the word that its refusal has to contain."""

    def edited(name: str, value: object, *, inside: str | None = None) -> tuple[str, bytes]:
        config = copy.deepcopy(sound)
        (config[inside] if inside else config)[name] = value
        return name, json.dumps(config).encode()

    for name in COUNTS:
        for value in (*WRONG, 2.5, 2**40, *(() if name in OPTIONAL else (None,))):
            yield edited(name, value)
    for name in ROPE_NUMBERS:
        for value in (*WRONG, None):
            yield edited(name, value, inside="rope_parameters")
        config = copy.deepcopy(sound)
        del config["rope_parameters"][name]
        if name not in DEFAULTED:
            yield name, json.dumps(config).encode()
    for value in (*WRONG, None):
        yield edited("rms_norm_eps", value)
    for name in ("tie_word_embeddings", "attention_bias", "mlp_bias"):
        for value in ("no", 1, None, [], 0.5):
            yield edited(name, value)
    for value in ("llama3", [], ["llama3"], 8, True, "", {}):
        yield (
            edited("rope_parameters", value)
            if value not in ({}, [])
            else (
                "rope_",
                json.dumps(sound | {"rope_parameters": value}).encode(),
            )
        )
    for value in (None, "yarn", "LLAMA3", 3, ["llama3"], {"a": 1}):
        yield edited("rope_type", value, inside="rope_parameters")
        yield edited("type", value, inside="rope_parameters")
    for value in (0.5, 0, -1, "1", None, True, float("nan")):
        yield edited("partial_rotary_factor", value, inside="rope_parameters")
    for name in ("attention_factor", "beta_fast", "mrope_section", "facter"):
        yield edited(name, 1.0, inside="rope_parameters")
    for value in (None, "gpt2", 1, ["llama"], ""):
        yield edited("model_type", value)
    for value in ("no-such-activation", None, 3, ["silu"]):
        yield (
            edited("hidden_act", value)
            if value != "no-such-activation"
            else (
                "config.json",
                json.dumps(sound | {"hidden_act": value}).encode(),
            )
        )
    yield edited("quantization_config", {"quant_method": "bitsandbytes"})
    yield edited("original_max_position_embeddings", 1234)
    yield edited("rope_scaling", {"rope_type": "llama3", "factor": 3.0})
    same = dict(sound["rope_parameters"])
    same["high_freq_factor"] = same["low_freq_factor"]
    yield "high_freq_factor", json.dumps(sound | {"rope_parameters": same}).encode()
    tiny = sound["rope_parameters"] | {"factor": 1e-45}
    yield "fp32", json.dumps(sound | {"rope_parameters": tiny}).encode()
    text = json.dumps(sound)
    for content in (b"", b"[]", b"null", b"7", b'"llama"', b"\xff\xfe", b"\xef\xbb\xbf{}", b"{"):
        yield "config.json", content
    for content in (b"[" * 100_000, text.encode("utf-16"), b"\0" * 64, text[:-1].encode()):
        yield "config.json", content


def test_configurations(checkpoint: Path, tmp_path: Path, refusal: Refused) -> None:
    """Every wrong field is refused by its name, whatever is wrong with it."""
    sound = json.loads((checkpoint / "config.json").read_bytes())
    (tmp_path / "model.safetensors").symlink_to(checkpoint / "model.safetensors")
    cases = list(_wrong_configurations(sound))
    assert len(cases) > 200
    for name, content in cases:
        (tmp_path / "config.json").write_bytes(content)
        sentence = refusal(lambda: resolve_checkpoint(str(tmp_path), ignore))
        assert sentence, content[-600:]
        assert sentence.startswith("error: --checkpoint: ")
        assert name in sentence


def test_flipped_bits_of_a_configuration(
    checkpoint: Path, tmp_path: Path, refusal: Refused
) -> None:
    """Where a flip leaves a legal file, it is another checkpoint; else it is refused."""
    sound = (checkpoint / "config.json").read_bytes()
    (tmp_path / "model.safetensors").symlink_to(checkpoint / "model.safetensors")
    original = resolve_checkpoint(str(checkpoint), ignore).sha256
    random_ = random.Random(SEED)
    found: list[str] = []
    refused = 0
    for _ in range(80):
        (tmp_path / "config.json").write_bytes(flip(sound, random_, 0, len(sound)))
        sentence = refusal(lambda: found.append(resolve_checkpoint(str(tmp_path), ignore).sha256))
        refused += sentence is not None
    assert refused > 20
    assert len(found) == 80 - refused
    assert original not in found
