"""RoPE mistakes to plant in a copy of a tree: what one is, and how it is planted.

The mistakes themselves are in `validation/rope/catalogue/`.
"""

import os
import shutil
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

BASE = "v3.9.0"
"""The fork whose sources the edits fit."""

ATTENTION = Path("transformer_lens/components/abstract_attention.py")
GROUPED_ATTENTION = Path("transformer_lens/components/grouped_query_attention.py")
TENSORS = Path("transformer_lens/utilities/tensors.py")

LLAMA_THETA = 500_000.0
"""`rope_theta` of every Llama 3.x."""


class Need(Enum):
    """What a run must have, beside enough positions, for a fault to change anything in it."""

    CHUNKS = "prefill in chunks through the KV cache"
    PADDING = "a batch padded on the left"
    HALF = "bfloat16 or float16"
    NOT_BFLOAT16 = "another dtype than bfloat16"
    NOT_FLOAT16 = "another dtype than float16"
    BOUNDARY = "a wavelength exactly on a boundary of the bands"
    EAGER = "eager attention"
    FUSED = "fused attention"
    MASK = "a mask that is formed: eager attention, chunks or padding"
    ANOTHER_THETA = "another rope_theta than 500,000"
    KEY_HEADS = "more than one key head"


@dataclass(frozen=True)
class Fault:
    """A mistake as an edit of one source file.

    Attributes:
        name: what it is called in reports.
        mistake: one sentence on what is wrong.
        edits: pairs of a text that stands there once and its replacement, in turn.
        file: which source, relative to the tree.
        family: what kind of mistake it is.
        hidden_up_to: contexts of up to this many tokens are as without it.
        needs: what else must be there for logits to change.
        equivalent: why it is the same function, bit for bit; None if it is not.
    """

    name: str
    mistake: str
    edits: tuple[tuple[str, str], ...]
    file: Path = ATTENTION
    family: str = "other"
    hidden_up_to: int = 0
    needs: frozenset[Need] = frozenset()
    equivalent: str | None = None

    def is_visible(self, context: int, present: frozenset[Need] = frozenset()) -> bool:
        """Whether it can change logits of `context` tokens in a run that has `present`."""
        return self.equivalent is None and context > self.hidden_up_to and self.needs <= present


def needs_met_by(dtype: str, attention: str) -> frozenset[Need]:
    """What a fault finds wherever weights and activations are of `dtype`, and `attention` runs."""
    met = {
        Need.HALF: dtype != "float32",
        Need.NOT_BFLOAT16: dtype != "bfloat16",
        Need.NOT_FLOAT16: dtype != "float16",
        Need.EAGER: attention == "eager",
        Need.FUSED: attention == "sdpa",
        Need.MASK: attention == "eager",
    }
    return frozenset(need for need, is_met in met.items() if is_met)


def needs_met_by_checkpoint(theta: float, key_heads: int) -> frozenset[Need]:
    """What a fault finds in every run of a checkpoint.

    Args:
        theta: its `rope_theta`.
        key_heads: its `num_key_value_heads`.
    """
    met = {Need.ANOTHER_THETA: theta != LLAMA_THETA, Need.KEY_HEADS: key_heads > 1}
    return frozenset(need for need, is_met in met.items() if is_met)


def in_family(family: str, *faults: Fault) -> tuple[Fault, ...]:
    """The same faults, of that family."""
    return tuple(replace(fault, family=family) for fault in faults)


def edited_source(fault: Fault, tree: Path) -> str:
    """The text of the fault's file in `tree`, with the mistake in it.

    Raises:
        ValueError: the source does not have the text to edit exactly once.
    """
    text = (tree / fault.file).read_text(encoding="utf-8")
    for wanted, replacement in fault.edits:
        if (count := text.count(wanted)) != 1:
            raise ValueError(f"{fault.name}: {fault.file} has {wanted!r} {count} times, not once")
        text = text.replace(wanted, replacement)
    return text


def plant(fault: Fault, tree: Path, folder: Path, *, is_linked: bool = False) -> Path:
    """Copies the package in `tree` into the new folder `folder`, with the mistake in it.

    Args:
        fault: the mistake.
        tree: folder that contains `transformer_lens/`.
        folder: where the copy is made.
        is_linked: make hard links, on the same disk, of all files but the edited one. Whoever
            edits such a copy further edits the fork.

    Returns:
        `folder`, which can be a subject.

    Raises:
        ValueError: the source does not have the text to edit exactly once.
    """
    text = edited_source(fault, tree)
    shutil.copytree(
        tree / "transformer_lens",
        folder / "transformer_lens",
        ignore=shutil.ignore_patterns("__pycache__"),
        copy_function=_link if is_linked else shutil.copy2,
    )
    (folder / fault.file).unlink()
    (folder / fault.file).write_text(text, encoding="utf-8")
    return folder


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)
