"""Where a study works: the fork's model of the checkpoint, and windows of real text."""

import gc
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from validation.execution.cases import Request
from validation.models.subject import import_from

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


class Laboratory:
    """One checkpoint in the fork, and the text that it reads.

    Imports the fork: once in the life of a process.

    Attributes:
        request: checkpoint, tree, contexts, dtype and device that were asked for.
        dtype: of weights and activations.
    """

    def __init__(self, request: Request) -> None:
        """Imports the tree.

        Args:
            request: what was asked for; its prompt is the whole text that windows are cut from.
        """
        import_from(request.trees[0].path)
        self.request = request
        self.dtype: torch.dtype = getattr(torch, request.dtypes[0])
        self._model: HookedTransformer | None = None
        self._loaded_with: dict[str, Any] | None = None

    def model(self, **config: Any) -> "HookedTransformer":
        """The checkpoint with fused attention, its own configuration but for `config`.

        One model is in memory at a time; one that is asked for again is not loaded again. Whoever
        hooks or edits it puts it back as it was.

        Args:
            config: arguments of `from_pretrained_no_processing`, such as `rotary_inv_freq`.
        """
        if self._model is None or not _are_same(self._loaded_with, config):
            from transformer_lens import HookedTransformer

            self.release()
            self._model = HookedTransformer.from_pretrained_no_processing(
                str(self.request.checkpoint.path),
                dtype=self.dtype,
                device=self.request.device,
                **({"attn_implementation": "sdpa"} | config),
            )
            self._loaded_with = config
        return self._model.eval()

    def release(self) -> None:
        """Forgets the model: for another one that takes its memory."""
        self._model = None
        gc.collect()

    def tokens(self, context: int, seed: int) -> Int[Tensor, "1 pos"]:
        """The window of `context` tokens that `seed` draws from the text, on the device."""
        return torch.from_numpy(self.window(context, seed))[None].to(self.request.device)

    def window(self, context: int, seed: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        """The ids of that window, shape [context]; windows of one seed start at the same place."""
        start = self.start(seed)
        return self.request.prompt.tokens[start : start + context].copy()

    def start(self, seed: int) -> int:
        """Where the windows of that seed begin in the text."""
        # Of the longest context: shorter windows are then the beginning of longer ones.
        room = len(self.request.prompt.tokens) - self.request.contexts[-1]
        return int(np.random.default_rng(seed).integers(room + 1))

    def text_beside(self, context: int, seed: int) -> tuple[int, int]:
        """The longest part of the text that has nothing of that window: its start and its end."""
        start = self.start(seed)
        parts = ((0, start), (start + context, len(self.request.prompt.tokens)))
        return max(parts, key=lambda part: part[1] - part[0])


def _are_same(one: dict[str, Any] | None, other: dict[str, Any]) -> bool:
    """Whether two sets of arguments load the same model; a tensor is the same if it is itself."""
    if one is None or one.keys() != other.keys():
        return False
    pairs = ((one[name], other[name]) for name in one)
    return all(
        a is b if isinstance(a, Tensor) or isinstance(b, Tensor) else a == b for a, b in pairs
    )
