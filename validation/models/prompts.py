"""The tokens that are run: real text where there is a tokenizer, else seeded random ids."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transformer_lens_fork.bases import get_base
from transformer_lens_fork.errors import InputError
from transformer_lens_fork.sdist import pristine_tree
from validation.models.checkpoints import Checkpoint

TEXT_BASE = "v3.9.0"
"""The release whose Markdown files, and then Python files, are the text."""

_CHARACTERS_PER_TOKEN = 8
"""More than any tokenizer takes on this text, so that little more than needed is tokenised."""


@dataclass(frozen=True)
class Prompt:
    """Token ids, of which each context takes a prefix.

    Attributes:
        tokens: ids, shape [positions].
        source: where they come from, for people.
    """

    tokens: NDArray[np.int64]
    source: str

    def sha256(self, context: int) -> str:
        """Over the first `context` ids as little-endian int64."""
        return hashlib.sha256(self.tokens[:context].astype("<i8").tobytes()).hexdigest()


def build_prompt(checkpoint: Checkpoint, n_tokens: int, seed: int) -> Prompt:
    """The first `n_tokens` tokens of the text, or random ones if there is no tokenizer.

    Raises:
        InputError: the tokenizer gives ids outside the model's vocabulary.
    """
    if checkpoint.has_tokenizer:
        tokens = _tokenise(checkpoint, n_tokens)
        source = f"text of TransformerLens {TEXT_BASE.removeprefix('v')}'s sdist"
    else:
        tokens = np.random.default_rng(seed).integers(checkpoint.vocab_size, size=n_tokens)
        source = f"random ids, seed {seed} (no tokenizer)"
    return Prompt(tokens, source)


def _tokenise(checkpoint: Checkpoint, n_tokens: int) -> NDArray[np.int64]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint.path, local_files_only=True)
    text = "\n\n".join(_text())[: _CHARACTERS_PER_TOKEN * n_tokens]
    # verbose: it would warn of a text longer than the model's context.
    tokens = tokenizer(text, verbose=False).input_ids
    if len(tokens) < n_tokens:
        raise InputError(f"--contexts: the text has {len(tokens)} tokens, not {n_tokens}.")
    if max(tokens[:n_tokens]) >= checkpoint.vocab_size:
        raise InputError(
            f"--checkpoint: the tokenizer of {checkpoint.name!r} gives {max(tokens[:n_tokens])}, "
            f"its vocabulary ends at {checkpoint.vocab_size - 1}; they must match."
        )
    return np.asarray(tokens[:n_tokens])


def _text() -> Iterator[str]:
    tree = pristine_tree(get_base(TEXT_BASE))
    for pattern in ("*.md", "*.py"):
        for path in sorted(tree.rglob(pattern), key=lambda path: _name(tree, path)):
            yield path.read_text(encoding="utf-8")


def _name(tree: Path, path: Path) -> str:
    return path.relative_to(tree).as_posix()
