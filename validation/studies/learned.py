"""Rotary frequencies that are learned, all else frozen, so that a model reads longer texts.

Plain `torch` and TransformerLens, to be copied from, with `excerpts.py`.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from math import pi
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from validation.studies.excerpts import (
    Memory,
    Plan,
    Turns,
    draw_excerpt,
    loss_of_excerpt,
    turned,
)

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


class LearnedFrequencies:
    """One set of frequencies for all heads: the `rotary_inv_freq` of a model, as a parameter.

    Fitted is u in f = f0 * exp(u * share), so that frequencies stay positive. The share of a pair
    is 1 if it turns no more than once in the text, and falls with its number of turns: a step then
    changes no angle by more than the rate times a turn, where a change of a fast pair by a
    hundredth would scramble all distances but the shortest.

    Attributes:
        fitted: u, one for each pair.
    """

    def __init__(self, model: "HookedTransformer", positions: int) -> None:
        """Takes the parameter that the model was loaded with; its values are what f0 is."""
        self._inv_freq: nn.Parameter = model.blocks[0].attn.rotary_inv_freq
        self._start = self._inv_freq.detach().clone()
        self._share = 1 / (self._start * positions / (2 * pi)).clamp(min=1)
        self.fitted = nn.Parameter(torch.zeros_like(self._start))

    def turns(
        self,
        layer: int,
        queries: Int[Tensor, "query"],
        keys: Int[Tensor, "key"],
        taken: Int[Tensor, "key"],
    ) -> Turns:
        """From where the model takes tokens to be to where they are."""
        moved = ((keys - taken)[:, None] * self._inv_freq)[:, None]
        return Turns(moved[-len(queries) :], moved)

    def gather(self) -> None:
        """Hands on the gradient, by the chain rule: df / du = f * share."""
        assert self._inv_freq.grad is not None
        self.fitted.grad = self._inv_freq.grad * self._inv_freq.detach() * self._share
        self._inv_freq.grad = None

    def apply(self) -> None:
        """Gives the model the frequencies that are fitted so far."""
        with torch.no_grad():
            self._inv_freq.copy_(self._start * (self.fitted * self._share).exp())

    def values(self) -> Float[Tensor, "pair"]:
        """Frequencies as they are fitted so far, in radians a token."""
        return self._inv_freq.detach().clone()

    def reading(self, model: "HookedTransformer", positions: int) -> AbstractContextManager[Any]:
        """The model reads with them as it is."""
        return ExitStack()


class MixedFrequencies:
    """For the heads that share a key, in every layer: a mean of schemes' frequencies, by softmax.

    Attributes:
        fitted: logits of the schemes' shares, shape [layer, kv_head, scheme].
    """

    def __init__(
        self,
        model: "HookedTransformer",
        schemes: Float[Tensor, "scheme pair"],
        first_share: float,
    ) -> None:
        """Starts near the first scheme, which must be the model's own.

        Args:
            model: loaded with the first scheme's frequencies.
            schemes: frequencies, in radians a token.
            first_share: of the first; the others have equal ones.
        """
        self._schemes = schemes.to(model.cfg.device)
        kv_heads = model.cfg.n_key_value_heads or model.cfg.n_heads
        self._group = model.cfg.n_heads // kv_heads
        other_share = (1 - first_share) / (len(schemes) - 1)
        shares = torch.full((len(schemes),), other_share, dtype=schemes.dtype)
        shares[0] = first_share
        logits = shares.log().to(model.cfg.device).expand(model.cfg.n_layers, kv_heads, -1)
        self.fitted = nn.Parameter(logits.clone())

    def shares(self) -> Float[Tensor, "layer kv_head scheme"]:
        """What each scheme contributes."""
        return self.fitted.softmax(-1)

    def turns(
        self,
        layer: int,
        queries: Int[Tensor, "query"],
        keys: Int[Tensor, "key"],
        taken: Int[Tensor, "key"],
    ) -> Turns:
        """From the model's own angle where it takes a token to be to the mixed one where it is."""
        mixed = self.shares()[layer] @ self._schemes
        turned = keys[:, None, None] * mixed - (taken[:, None] * self._schemes[0])[:, None]
        return Turns(turned[-len(queries) :].repeat_interleave(self._group, 1), turned)

    def gather(self) -> None:
        """Gradients reach the logits by themselves."""

    def apply(self) -> None:
        """Nor is there anything to be handed to the model."""

    def reading(self, model: "HookedTransformer", positions: int) -> AbstractContextManager[Any]:
        """A context in which the model reads a whole text with the mixture."""
        at = torch.arange(positions, device=model.cfg.device)
        return turned(model, lambda layer: self.turns(layer, at, at, at))


def fit(
    model: "HookedTransformer",
    memory: Memory,
    frequencies: LearnedFrequencies | MixedFrequencies,
    plan: Plan,
    seed: int,
) -> list[float]:
    """Fits frequencies to predict the tokens of a text, everything else frozen.

    Args:
        model: with `attn_implementation="sdpa"`; afterwards only `frequencies` differ.
        memory: the text.
        frequencies: what is fitted.
        plan: how.
        seed: draws the excerpts.

    Returns:
        The loss of every step, in nats; each is of another excerpt.
    """
    random = np.random.default_rng(seed)
    optimizer = torch.optim.Adam([frequencies.fitted], lr=plan.rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / plan.steps)
    losses = []
    with frozen(model):
        for _ in range(plan.steps):
            excerpt = draw_excerpt(memory.tokens.shape[1], plan, random)
            loss = loss_of_excerpt(model, memory, excerpt, frequencies.turns)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch has it so
            frequencies.gather()
            optimizer.step()
            schedule.step()
            frequencies.apply()
            losses.append(float(loss.detach()))
    return losses


@contextmanager
def frozen(model: "HookedTransformer") -> Iterator[None]:
    """All parameters but `rotary_inv_freq` ask for no gradients."""
    asked: Sequence[nn.Parameter] = [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not name.endswith("rotary_inv_freq")
    ]
    try:
        for parameter in asked:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in asked:
            parameter.requires_grad_(True)
