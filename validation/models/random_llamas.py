"""Tiny seeded Llamas with sharp attention, on which many comparisons cost little."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from validation.models.rope_parameters import LLAMA_31, LLAMA_32, Llama3Rope
from validation.models.shapes import Shape

POSITIONS = 131072

_EMBEDDING_STD = 0.3
"""Well below the layers' outputs, which are of order 1: logits depend on attention."""

_SHORT = Llama3Rope(100000.0, 4.0, 1.0, 8.0, 1024)


@dataclass(frozen=True)
class RandomLlama:
    """A kind of tiny Llama.

    Attributes:
        name: what it is called in reports.
        shape: its sizes.
        rope: its position encoding.
        sharpness: standard deviation of the entries of queries and keys: 1 is flat attention.
    """

    name: str
    shape: Shape
    rope: Llama3Rope
    sharpness: float


# At most four heads: a pattern of 4k x 4k in fp32 is 256 MiB. No MLP is as wide as its residual
# stream: TransformerLens 3.9.0 folds a norm into the wrong axis of a square matrix.
RANDOM_LLAMAS = (
    RandomLlama("gqa-32", Shape(2, 128, 192, 4, 2, 32, 512, is_tied=False), LLAMA_31, 2.5),
    RandomLlama("mha-64", Shape(2, 192, 320, 4, 4, 64, 1024, is_tied=True), LLAMA_32, 2.0),
    RandomLlama("mqa-128", Shape(1, 160, 256, 4, 1, 128, 512, is_tied=False), LLAMA_31, 2.5),
    RandomLlama("gqa-96", Shape(3, 144, 224, 4, 2, 96, 768, is_tied=False), _SHORT, 1.75),
    RandomLlama("mha-32", Shape(4, 128, 256, 4, 4, 32, 1024, is_tied=True), LLAMA_31, 2.0),
    RandomLlama("mqa-64", Shape(4, 192, 320, 3, 1, 64, 512, is_tied=False), LLAMA_32, 2.0),
    RandomLlama("gqa-128", Shape(2, 256, 384, 4, 2, 128, 2048, is_tied=True), LLAMA_31, 2.0),
    RandomLlama("mha-96", Shape(1, 160, 288, 2, 2, 96, 1536, is_tied=False), _SHORT, 3.0),
)


def save_random_llama(llama: RandomLlama, seed: int, folder: Path) -> None:
    """Writes the checkpoint to `folder`: every weight, norms included, is drawn from `seed`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape, rope = llama.shape, asdict(llama.rope)
    config = LlamaConfig(
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        vocab_size=shape.vocab,
        tie_word_embeddings=shape.is_tied,
        max_position_embeddings=POSITIONS,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": rope.pop("theta"),
            "original_max_position_embeddings": rope.pop("original_positions"),
            **rope,
        },
    )
    model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:  # not all ones, or folding them would change nothing
                parameter.uniform_(0.5, 1.5, generator=generator)
            elif "embed_tokens" in name:
                parameter.normal_(std=_EMBEDDING_STD, generator=generator)
            else:
                gain = llama.sharpness if "q_proj" in name or "k_proj" in name else 1.0
                parameter.normal_(std=gain * parameter.shape[1] ** -0.5, generator=generator)
    model.save_pretrained(folder)
