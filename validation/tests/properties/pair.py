"""One random checkpoint in both models, and the ways of running it that must agree."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from validation.models.reference import load_reference
from validation.rope.faults import Fault
from validation.rope.swapping import swapped_code
from validation.tests.conftest import save_checkpoint

VOCAB = 64
POSITIONS = 131_072

_SHAPE = {
    "hidden_size": 48,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "vocab_size": VOCAB,
    "max_position_embeddings": POSITIONS,
}

Tokens = Int[Tensor, "batch pos"]
Logits = Float[Tensor, "batch pos vocab"]


@dataclass(frozen=True)
class Both:
    """The same from the fork and from Hugging Face."""

    ours: Logits
    theirs: Logits

    def __getitem__(self, rows: Any) -> "Both":
        """The same rows of both."""
        return Both(self.ours[rows], self.theirs[rows])

    def differing(self) -> int:
        """Entries that differ; all of them if the shapes do."""
        if self.ours.shape != self.theirs.shape:
            return self.theirs.numel()
        return int((self.ours != self.theirs).sum())


def random_tokens(batch: int, length: int) -> Tokens:
    """Seeded token ids."""
    return torch.randint(VOCAB, (batch, length), generator=torch.manual_seed(length))


def save_pair(folder: Path) -> Path:
    """A small checkpoint with sharp attention and a head_dim that is no power of two."""
    return save_checkpoint(folder, **_SHAPE)


@dataclass(frozen=True)
class Pair:
    """Both models of one checkpoint.

    Attributes:
        ours: the fork's `HookedTransformer`.
        theirs: `LlamaForCausalLM` with eager attention.
    """

    ours: Any
    theirs: Any

    @classmethod
    def load(cls, checkpoint: Path, dtype: torch.dtype) -> "Pair":
        """Loads it in both; the fork's tables are those of a new model."""
        from transformer_lens import HookedTransformer

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the class is upstream's past
            ours = HookedTransformer.from_pretrained_no_processing(str(checkpoint), dtype=dtype)
        theirs = load_reference(checkpoint, dtype, "cpu")
        for weight in theirs.parameters():
            # In a mapped file they begin at any multiple of 8, and MKL sums the product with a
            # single token in another order where they are not aligned: HF then differs from itself.
            weight.data = weight.data.clone()
        return cls(ours, theirs)

    def whole(self, tokens: Tokens) -> Both:
        """All tokens in one forward, without a cache."""
        with torch.no_grad():
            return Both(self.ours(tokens), self.theirs(tokens, use_cache=False).logits)

    def in_chunks(self, tokens: Tokens, sizes: Iterable[int], mask: Tokens | None = None) -> Both:
        """The tokens in chunks of these sizes, each model through its own KV cache.

        Args:
            tokens: token ids.
            sizes: of the chunks; together all tokens.
            mask: 0 for padding, which is on the left; none if None.
        """
        from transformers import DynamicCache

        mask = torch.ones_like(tokens) if mask is None else mask
        caches = self.new_cache(len(tokens)), DynamicCache(config=self.theirs.config)
        edges = [0]
        for size in sizes:
            edges.append(edges[-1] + size)
        parts = [self.step(tokens, mask, span, *caches) for span in pairwise(edges)]
        return Both(
            torch.cat([part.ours for part in parts], 1),
            torch.cat([part.theirs for part in parts], 1),
        )

    def padded(self, tokens: Tokens, mask: Tokens) -> Both:
        """All tokens in one forward, some of them padding."""
        with torch.no_grad():
            theirs = self.theirs(
                tokens, attention_mask=mask, position_ids=positions_of(mask), use_cache=False
            )
            return Both(self.ours(tokens, attention_mask=mask), theirs.logits)

    def step(
        self, tokens: Tokens, mask: Tokens, span: tuple[int, int], ours: Any, theirs: Any
    ) -> Both:
        """The tokens of one span, after those that both caches hold."""
        start, stop = span
        rows = slice(None), slice(start, stop)
        with torch.no_grad():
            logits = self.theirs(
                tokens[rows],
                attention_mask=mask[:, :stop],
                position_ids=positions_of(mask)[rows],
                past_key_values=theirs,
            ).logits
            return Both(
                self.ours(tokens[rows], attention_mask=mask[rows], past_kv_cache=ours), logits
            )

    def new_cache(self, batch: int) -> Any:
        """An empty KV cache of TransformerLens'."""
        from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

        return TransformerLensKeyValueCache.init_cache(self.ours.cfg, "cpu", batch)


def positions_of(mask: Tokens) -> Tokens:
    """Positions as TransformerLens counts them: padding on the left takes up none."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def refutations(transformed: Both, plain: Both, most: float) -> list[str]:
    """What contradicts that a transformation leaves logits as unchanged as it leaves HF's.

    Args:
        transformed: logits from the other way of running it.
        plain: logits of the same tokens from the plain way.
        most: by how much the logits may move; only the order of sums may move them.
    """
    found = []
    for name, both in (("transformed", transformed), ("plain", plain)):
        if count := both.differing():
            found.append(f"{name}: {count} of {both.theirs.numel()} logits differ from HF's")
    moved = float((transformed.ours - plain.ours).abs().max())
    if not moved <= most:
        found.append(f"moved: by {moved:.3g}, {most:g} is allowed")
    return found


@contextmanager
def planted(fault: Fault, fork: Path, checkpoint: Path, dtype: torch.dtype) -> Iterator[Pair]:
    """Both models, the fork's with the mistake in it from before it is loaded."""
    with swapped_code(fault, fork):
        yield Pair.load(checkpoint, dtype)
