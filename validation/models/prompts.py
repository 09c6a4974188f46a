"""The tokens that are run: real text where there is a tokenizer, else seeded random ids."""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transformer_lens_fork.bases import get_base
from transformer_lens_fork.errors import InputError
from transformer_lens_fork.sdist import pristine_tree
from validation.models.checkpoints import Checkpoint
from validation.models.refusals import reason, shown

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
        tokens = np.random.default_rng(seed).integers(checkpoint.shape.vocab, size=n_tokens)
        source = f"random ids, seed {seed} (no tokenizer)"
    return Prompt(tokens, source)


def _tokenise(checkpoint: Checkpoint, n_tokens: int) -> NDArray[np.int64]:
    text = "\n\n".join(_text())[: _CHARACTERS_PER_TOKEN * n_tokens]
    tokens = _ids(checkpoint, text)
    if (n_different := len(set(tokens))) < 2:
        # Attention over copies of one token is blind to where they stand.
        raise InputError(
            f"--checkpoint: the tokenizer of {checkpoint.name!r} gives {n_different} different ids "
            "for the whole text; one that tells words apart is accepted."
        )
    if len(tokens) < n_tokens:
        raise InputError(f"--contexts: the text has {len(tokens)} tokens, not {n_tokens}.")
    if max(tokens[:n_tokens]) >= checkpoint.shape.vocab:
        raise InputError(
            f"--checkpoint: the tokenizer of {checkpoint.name!r} gives {max(tokens[:n_tokens])}, "
            f"its vocabulary ends at {checkpoint.shape.vocab - 1}; they must match."
        )
    return np.asarray(tokens[:n_tokens], dtype=np.int64)


def _ids(checkpoint: Checkpoint, text: str) -> list[int]:
    from transformers import AutoTokenizer

    try:
        with _without_stderr():
            tokenizer = AutoTokenizer.from_pretrained(
                checkpoint.path, local_files_only=True, trust_remote_code=False
            )
            # verbose: it would warn of a text longer than the model's context.
            ids = tokenizer(text, verbose=False).input_ids
    except BaseException as error:  # it raises whatever its files lead to
        if not (isinstance(error, Exception) or type(error).__name__ == "PanicException"):
            raise  # tokenizers panics in Rust, which Python is told as a BaseException
        raise InputError(
            f"--checkpoint: the tokenizer of {checkpoint.name!r} cannot be used "
            f"({reason(error)}); one that transformers can load is accepted."
        ) from None
    if not isinstance(ids, list) or not all(isinstance(i, int) and i >= 0 for i in ids):
        raise InputError(
            f"--checkpoint: the tokenizer of {checkpoint.name!r} gives {shown(ids)}; ids from 0 "
            "on are accepted."
        )
    return ids


@contextmanager
def _without_stderr() -> Iterator[None]:
    # A panic writes its backtrace there before it is an exception: people get one sentence.
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


def _text() -> Iterator[str]:
    tree = pristine_tree(get_base(TEXT_BASE))
    for pattern in ("*.md", "*.py"):
        for path in sorted(tree.rglob(pattern), key=lambda path: _name(tree, path)):
            yield path.read_text(encoding="utf-8")


def _name(tree: Path, path: Path) -> str:
    return path.relative_to(tree).as_posix()
