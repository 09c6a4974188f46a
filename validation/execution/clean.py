"""Correct computations that sum in another order than the reference: what must never fail.

Imported only in a process that imports one tree in its life.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any
from unittest.mock import patch

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from validation.execution.floors import linear
from validation.execution.jobs import SubjectJob
from validation.judgement.metrics import Head, Stream
from validation.models.reference import SDPA, final_hidden
from validation.models.reordering import channel_orders, permuted_channels
from validation.models.subject import Subject

_RAGGED = 100
"""Tokens of a chunk that divides no context: the last chunk is cut short."""

_LARGEST_BATCHED = 1024
"""Tokens beyond which two prompts at once would take more memory than everything else."""

_OTHER_SEED = 1
"""Added to the seed of the floor's permutation: a clean deviation is not the floor itself."""


class Clean(Enum):
    """A kind of clean deviation; the value says what is done in another order."""

    WHOLE = "fork: nothing, which must be identical"
    CHUNKS = "fork: a quarter of the prompt at a time through its KV cache"
    RAGGED_CHUNKS = "fork: 100 tokens at a time through its KV cache, a last chunk cut short"
    BATCH = "fork: beside another prompt in a batch of two"
    PER_HEAD = "fork: heads projected one by one, then summed (use_attn_result)"
    DIVISIONS = "fork: stock's arithmetic, divisions by RMS and scale, softmax as it is"
    FOLDED = "fork: norms' weights folded into the matrices behind them (from_pretrained)"
    PERMUTED = "fork: every channel permuted"
    EVERYTHING = "fork: permuted, per head, divisions and ragged chunks at once"
    HF_CHUNKS = "transformers: sdpa, a quarter of the prompt at a time through its cache"
    HF_UNFUSED = "transformers: sdpa's unfused kernel"
    HF_PERMUTED = "transformers: sdpa and every channel permuted"

    def is_reordering(self, dtype: str) -> bool:
        """Whether the weights stay what they are.

        Folding rounds every product of two weights to the dtype. In half precision that is an
        error of the size of the dtype's own, in weights that all positions share: another function,
        shown beside the clean ones and not counted among them.
        """
        return self is not Clean.FOLDED or dtype == "float32"


@dataclass(frozen=True)
class Bench:
    """Both models on one prompt.

    Attributes:
        job: how the fork was loaded.
        reference: the reference's model.
        fork: the fork, which has run the whole prompt.
        tokens: the prompt.
    """

    job: SubjectJob
    reference: Any
    fork: Subject
    tokens: Int[Tensor, "1 pos"]

    @property
    def quarter(self) -> int:
        """Tokens of a chunk where a prompt goes through in four."""
        return -(-self.tokens.shape[1] // 4)

    @property
    def seed(self) -> int:
        """Of permutations that are not the floor's."""
        return self.job.seed + _OTHER_SEED


def kinds_at(context: int) -> tuple[Clean, ...]:
    """The kinds that are run on so many tokens."""
    return tuple(k for k in Clean if k is not Clean.BATCH or context <= _LARGEST_BATCHED)


def run_clean(kind: Clean, bench: Bench) -> Stream:
    """The logits of a correct computation of that kind."""
    return _RUNS[kind](bench)


def run_chunks(subject: Subject, bench: Bench) -> Stream:
    """A subject's logits, a quarter of the prompt at a time."""
    return Stream(subject.final_hidden(bench.tokens, _ignore, bench.quarter), subject.head)


def _ignore(_done: int, _total: int) -> None:
    """Nobody is told of single layers."""


def _fork(bench: Bench, prefill: int | None = None) -> Stream:
    return Stream(bench.fork.final_hidden(bench.tokens, _ignore, prefill), bench.fork.head)


def _batch(bench: Bench) -> Stream:
    both = torch.cat([bench.tokens, bench.tokens.flip(1)])
    return Stream(bench.fork.final_hidden(both, _ignore), bench.fork.head)


def _per_head(bench: Bench) -> Stream:
    with _heads_apart(bench.fork):
        return _fork(bench)


def _divisions(bench: Bench) -> Stream:
    with _stock_arithmetic():
        return _fork(bench)


def _folded(bench: Bench) -> Stream:
    from transformer_lens import HookedTransformer

    model = HookedTransformer.from_pretrained(
        str(bench.job.checkpoint),
        dtype=getattr(torch, bench.job.dtype),
        device="cpu",
        fold_ln=True,
        # These move all logits of a position alike: no error, but a difference.
        center_writing_weights=False,
        center_unembed=False,
        fold_value_biases=False,
    )
    subject = Subject(model.eval(), ())
    return Stream(subject.final_hidden(bench.tokens, _ignore), subject.head)


def _permuted(bench: Bench) -> Stream:
    subject = _permuted_fork(bench)
    return Stream(subject.final_hidden(bench.tokens, _ignore), subject.head)


def _everything(bench: Bench) -> Stream:
    subject = _permuted_fork(bench)
    with _heads_apart(subject), _stock_arithmetic():
        return Stream(subject.final_hidden(bench.tokens, _ignore, _RAGGED), subject.head)


def _permuted_fork(bench: Bench) -> Subject:
    """The fork given the reference's permuted weights, and its own tables permuted alike."""
    from transformer_lens import HookedTransformer

    with permuted_channels(bench.reference, bench.seed):
        model = HookedTransformer.from_pretrained_no_processing(
            str(bench.job.checkpoint),
            hf_model=bench.reference,
            dtype=getattr(torch, bench.job.dtype),
            device="cpu",
        )
    with torch.no_grad():
        model(bench.tokens[:, :1])  # moved models build their tables when they first run
    columns = channel_orders(bench.reference.config, bench.seed)["pair"]
    for block, sound in zip(model.blocks, bench.fork.model.blocks, strict=True):
        block.attn.rotary_cos = sound.attn.rotary_cos[:, columns]
        block.attn.rotary_sin = sound.attn.rotary_sin[:, columns]
    return Subject(model.eval(), ())


@contextmanager
def _heads_apart(subject: Subject) -> Iterator[None]:
    subject.model.set_use_attn_result(True)
    try:
        yield
    finally:
        subject.model.set_use_attn_result(False)


@contextmanager
def _stock_arithmetic() -> Iterator[None]:
    """What the fork's third patch changed, as it was."""
    from transformer_lens.components import abstract_attention, rms_norm

    attention = abstract_attention.AbstractAttention
    never = property(lambda _: False)
    with (
        patch.object(rms_norm, "divide_by_rms", lambda x, scale, _: x / scale),
        patch.object(attention, "_rounds_as_rms_models_do", never),
    ):
        yield


def _reference(bench: Bench, prefill: int | None = None, head: Head | None = None) -> Stream:
    hidden: Float[Tensor, "pos d_model"] = final_hidden(
        bench.reference, bench.tokens, SDPA, _ignore, prefill
    )
    return Stream(hidden, head or linear(bench.reference.lm_head.weight))


def _unfused_reference(bench: Bench) -> Stream:
    with sdpa_kernel(SDPBackend.MATH):
        return _reference(bench)


def _permuted_reference(bench: Bench) -> Stream:
    with permuted_channels(bench.reference, bench.seed):
        return _reference(bench, head=linear(bench.reference.lm_head.weight.detach().clone()))


_RUNS: dict[Clean, Callable[[Bench], Stream]] = {
    Clean.WHOLE: _fork,
    Clean.CHUNKS: lambda bench: _fork(bench, bench.quarter),
    Clean.RAGGED_CHUNKS: lambda bench: _fork(bench, _RAGGED),
    Clean.BATCH: _batch,
    Clean.PER_HEAD: _per_head,
    Clean.DIVISIONS: _divisions,
    Clean.FOLDED: _folded,
    Clean.PERMUTED: _permuted,
    Clean.EVERYTHING: _everything,
    Clean.HF_CHUNKS: lambda bench: _reference(bench, bench.quarter),
    Clean.HF_UNFUSED: _unfused_reference,
    Clean.HF_PERMUTED: _permuted_reference,
}
