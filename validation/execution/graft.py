"""Puts Hugging Face's tables into a subject: the error that is left is not one of RoPE's tables."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from validation.execution.probe_files import (
    FINAL,
    GRAFT,
    GRAFTED,
    PLAIN,
    ROPE,
    ROTATION,
    ProbeFiles,
)
from validation.judgement.metrics import Head, Stream, stream_metrics
from validation.models.subject import Subject


def measure_graft(
    subject: Subject, tokens: Int[Tensor, "1 pos"], reference_head: Head, scratch: Path, chunk: int
) -> None:
    """Compares the subject's logits with the reference's, as it is and with HF's tables in it.

    Args:
        subject: the loaded tree.
        tokens: the prompt whose final hidden states the reference's probe left.
        reference_head: the reference's unembedding.
        scratch: folder with the reference's files, that gets the metrics.
        chunk: positions whose logits are compared at a time.
    """
    reference, files = ProbeFiles.of_reference(scratch), ProbeFiles.of_subject(scratch)
    final = reference.rows(FINAL, "hidden")
    final = final.to(tokens.device)

    def measure(who: str) -> None:
        hidden = subject.final_hidden(tokens, lambda *_: None)
        found = Stream(hidden, subject.head)
        stream_metrics(Stream(final, reference_head), found, chunk).save(files.metrics_path(who))

    measure(PLAIN)
    attentions = [block.attn for block in subject.model.blocks]
    cos, sin = (reference.rows(ROPE, name) for name in ("cos", "sin"))
    with grafted(attentions, cos, sin) as is_held:
        measure(GRAFTED)
        rotated = {}
        for name in ("q", "k"):
            vectors = reference.rows(ROTATION, name, range(len(final)))
            x = vectors.to(tokens.device)[None, :, None]
            rotated[f"rotated_{name}"] = attentions[0].apply_rotary(x, 0)[0, :, 0]
        held = torch.tensor([is_held(layer) for layer in range(len(attentions))])
    files.write(GRAFT, rotated | {"held": held})


@contextmanager
def grafted(attentions: list[Any], cos: Tensor, sin: Tensor) -> Iterator[Callable[[int], bool]]:
    """Tables of full length, so that no tree sees a reason to make its own, where each layer's are.

    Args:
        attentions: of all layers, which may be spread over several devices.
        cos: the table for all of them.
        sin: the same.

    Yields:
        Tells whether a layer still has these tables.
    """
    own = [(attention.rotary_cos, attention.rotary_sin) for attention in attentions]
    copies = {
        device: (cos.to(device), sin.to(device)) for device in {table.device for table, _ in own}
    }
    given = [copies[table.device] for table, _ in own]

    def put(tables: list[tuple[Tensor, Tensor]]) -> None:
        for attention, (its_cos, its_sin) in zip(attentions, tables, strict=True):
            attention.rotary_cos, attention.rotary_sin = its_cos, its_sin

    def is_held(layer: int) -> bool:
        its_cos, its_sin = given[layer]
        return attentions[layer].rotary_cos is its_cos and attentions[layer].rotary_sin is its_sin

    put(given)
    try:
        yield is_held
    finally:
        put(own)
