"""The work of the bench, the same in both libraries."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from validation.execution.bench_messages import Piece
from validation.models.subject import Subject


class Worked(Protocol):
    """A loaded model that can do each work."""

    def forward(self, tokens: Int[Tensor, "1 pos"]) -> Int[Tensor, "1 1"]:
        """Hidden states of all positions after the last norm; the token after the last."""

    def hooks(self, tokens: Int[Tensor, "1 pos"]) -> Int[Tensor, "1 1"]:
        """The same with the mean of the residual stream kept after every layer."""

    def generate(self, tokens: Int[Tensor, "1 pos"], count: int) -> Int[Tensor, "1 count"]:
        """So many tokens after the prompt, each the most probable, without an early end."""


def do_piece(model: Worked, tokens: Int[Tensor, "1 pos"], piece: Piece) -> tuple[int, ...]:
    """Does the work and returns the ids it chose, which waits for a GPU."""
    with torch.no_grad():
        if piece.workload == "generate":
            chosen = model.generate(tokens, piece.generated)
        else:
            chosen = getattr(model, piece.workload)(tokens)
        return tuple(chosen[0].tolist())


class _Means:
    """Keeps the mean over positions of every residual stream that it is shown."""

    def __init__(self) -> None:
        self.kept: list[Float[Tensor, " hidden"]] = []

    def keep(self, residual: Float[Tensor, "1 pos hidden"]) -> None:
        self.kept.append(residual[0].mean(dim=0))

    def require(self, layers: int) -> None:
        """Raises RuntimeError unless every layer was seen: it would be less work."""
        if len(self.kept) != layers:
            raise RuntimeError(f"hooks saw {len(self.kept)} of {layers} layers")


@dataclass(frozen=True)
class Transformers:
    """Hugging Face's `LlamaForCausalLM`."""

    model: Any

    def forward(self, tokens: Int[Tensor, "1 pos"]) -> Int[Tensor, "1 1"]:
        """See `Worked`."""
        return _choose(self.model(tokens, use_cache=False, logits_to_keep=1).logits)

    def hooks(self, tokens: Int[Tensor, "1 pos"]) -> Int[Tensor, "1 1"]:
        """See `Worked`; forward hooks of torch on the decoder layers."""
        means = _Means()
        layers = self.model.model.layers
        handles = [
            layer.register_forward_hook(lambda _module, _inputs, output: means.keep(output))
            for layer in layers
        ]
        try:
            chosen = self.forward(tokens)
        finally:
            for handle in handles:
                handle.remove()
        means.require(len(layers))
        return chosen

    def generate(self, tokens: Int[Tensor, "1 pos"], count: int) -> Int[Tensor, "1 count"]:
        """See `Worked`; through a `DynamicCache`."""
        from transformers import DynamicCache

        cache = DynamicCache(config=self.model.config)
        rows, chosen = tokens, []
        for _ in range(count):
            output = self.model(rows, past_key_values=cache, use_cache=True, logits_to_keep=1)
            rows = _choose(output.logits)
            chosen.append(rows)
        return torch.cat(chosen, dim=1)


@dataclass(frozen=True)
class Hooked:
    """TransformerLens' `HookedTransformer`."""

    subject: Subject

    def forward(self, tokens: Int[Tensor, "1 pos"]) -> Int[Tensor, "1 1"]:
        """See `Worked`."""
        return self._choose(self._model(tokens, stop_at_layer=self._layers))

    def hooks(self, tokens: Int[Tensor, "1 pos"]) -> Int[Tensor, "1 1"]:
        """See `Worked`; `hook_resid_post` of every block."""
        means = _Means()
        points = [
            (f"blocks.{layer}.hook_resid_post", lambda residual, hook: means.keep(residual))
            for layer in range(self._layers)
        ]
        residual = self._model.run_with_hooks(tokens, stop_at_layer=self._layers, fwd_hooks=points)
        means.require(self._layers)
        return self._choose(residual)

    def generate(self, tokens: Int[Tensor, "1 pos"], count: int) -> Int[Tensor, "1 count"]:
        """See `Worked`; `generate()` itself would form the logits of the whole prompt."""
        cache = self.subject.new_cache()
        rows, chosen = tokens, []
        for _ in range(count):
            residual = self._model(
                rows,
                stop_at_layer=self._layers,
                past_kv_cache=cache,
                # With a cache and without a tokenizer the mask must be given.
                attention_mask=torch.ones_like(rows),
            )
            rows = self._choose(residual)
            chosen.append(rows)
        return torch.cat(chosen, dim=1)

    @property
    def _model(self) -> Any:
        return self.subject.model

    @property
    def _layers(self) -> int:
        return int(self.subject.model.cfg.n_layers)

    def _choose(self, residual: Float[Tensor, "1 pos hidden"]) -> Int[Tensor, "1 1"]:
        # All positions are normed, as in transformers.
        return _choose(self.subject.head(self._model.ln_final(residual)[:, -1:]))


def _choose(logits: Float[Tensor, "1 1 vocab"]) -> Int[Tensor, "1 1"]:
    return logits[:, -1].argmax(dim=-1, keepdim=True)
