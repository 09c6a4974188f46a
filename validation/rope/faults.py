"""RoPE mistakes to plant in a copy of a tree: what the harness must catch."""

import shutil
from dataclasses import dataclass
from pathlib import Path

ATTENTION = Path("transformer_lens/components/abstract_attention.py")


@dataclass(frozen=True)
class Fault:
    """A mistake as an edit of one source file.

    Attributes:
        name: what it is called in reports.
        mistake: one sentence on what is wrong.
        edits: pairs of a text that stands there once and its replacement, in turn.
        file: which source, relative to the tree.
    """

    name: str
    mistake: str
    edits: tuple[tuple[str, str], ...]
    file: Path = ATTENTION


FAULTS = (
    Fault(
        "factor-ignored",
        "Low frequencies are not divided by the scaling factor: plain RoPE.",
        (("factor = self.cfg.NTK_by_parts_factor", "factor = 1.0"),),
    ),
    Fault(
        "original-is-n-ctx",
        "n_ctx stands in for original_max_position_embeddings (TransformerLens 2.8.1-2.15.0).",
        (("old_context_len = self.cfg.NTK_original_ctx_len", "old_context_len = self.cfg.n_ctx"),),
    ),
    Fault(
        "low-high-swapped",
        "low_freq_factor and high_freq_factor are exchanged.",
        (
            ("low_freq_factor = self.cfg.NTK_by_parts_low_freq_factor", "low_freq_factor = HIGH"),
            ("high_freq_factor = self.cfg.NTK_by_parts_high_freq_factor", "high_freq_factor = LOW"),
            ("= HIGH", "= self.cfg.NTK_by_parts_high_freq_factor"),
            ("= LOW", "= self.cfg.NTK_by_parts_low_freq_factor"),
        ),
    ),
)


def plant(fault: Fault, tree: Path, folder: Path) -> Path:
    """Copies the package in `tree` into the new folder `folder`, with the mistake in it.

    Returns:
        `folder`, which can be a subject.

    Raises:
        ValueError: the source does not have the text to edit exactly once.
    """
    shutil.copytree(
        tree / "transformer_lens",
        folder / "transformer_lens",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    source = folder / fault.file
    text = source.read_text(encoding="utf-8")
    for wanted, replacement in fault.edits:
        if (count := text.count(wanted)) != 1:
            raise ValueError(f"{fault.name}: {fault.file} has {wanted!r} {count} times, not once")
        text = text.replace(wanted, replacement)
    source.write_text(text, encoding="utf-8")
    return folder
