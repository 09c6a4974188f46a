"""Activation patching of one far position: before which layers it still decides an answer.

Two prompts differ in one token, far before the question about it. The residual stream at that one
position is taken from the one prompt and put into the other, before one layer after the other.
Plain torch and TransformerLens: copy from here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Encode = Callable[[str], list[int]]
"""A text's token ids, without special tokens."""

LogProbs = tuple[float, float]
"""Of the answer and of the other token, in nats."""

_BEFORE = "\nThe passkey is"
_AFTER = ". Remember it.\n"
_QUESTION = "\nWhat is the passkey? The passkey is"


@dataclass(frozen=True)
class Passkeys:
    """Two prompts that differ at one position, and end where the token there is to be said again.

    Attributes:
        clean: token ids of the one.
        corrupted: of the other.
        position: where they differ.
        answer: the clean token there.
        other: the corrupted one.
    """

    clean: Int[Tensor, "1 pos"]
    corrupted: Int[Tensor, "1 pos"]
    position: int

    @property
    def answer(self) -> int:
        """The clean prompt's token at the position."""
        return int(self.clean[0, self.position])

    @property
    def other(self) -> int:
        """The corrupted prompt's."""
        return int(self.corrupted[0, self.position])


@dataclass(frozen=True)
class Patched:
    """What is expected after the question.

    Attributes:
        clean: after the clean prompt.
        by_layer: with the corrupted prompt's activation at the position, put in before that layer.
    """

    clean: LogProbs
    by_layer: dict[int, LogProbs]


def passkeys(
    encode: Encode,
    text: Int[Tensor, "token"],
    context: int,
    depth: float,
    generator: np.random.Generator,
) -> Passkeys:
    """A random passkey in real text, and the same with another first digit.

    Args:
        encode: the tokenizer.
        text: at least `context` tokens, which the passkey is put into.
        context: tokens of each prompt.
        depth: where in the prompt the passkey stands, from 0 to 1.
        generator: draws them.

    Raises:
        ValueError: the tokenizer writes the two not with one token that differs, or the prompt has
            no room for them.
    """
    first, second = generator.choice(range(1, 10), size=2, replace=False)
    rest = "".join(map(str, generator.integers(10, size=4)))
    keys = [encode(f" {digit}{rest}") for digit in (first, second)]
    places = [i for i, pair in enumerate(zip(*keys, strict=False)) if pair[0] != pair[1]]
    if len(keys[0]) != len(keys[1]) or len(places) != 1:
        raise ValueError(f"{first}{rest} and {second}{rest} do not differ in one token")
    (place,) = places
    before, after, question = map(encode, (_BEFORE, _AFTER, _QUESTION))
    end = question + keys[0][:place]
    filler = context - len(before) - len(keys[0]) - len(after) - len(end)
    start = round(depth * filler)
    if not 0 < start < filler or len(text) < filler:
        raise ValueError(f"{context} tokens have no room for a passkey in text")
    words = text[:filler].tolist()
    clean, corrupted = (
        torch.tensor([words[:start] + before + key + after + words[start:] + end]).to(text.device)
        for key in keys
    )
    return Passkeys(clean, corrupted, start + len(before) + place)


def patch_position(model: "HookedTransformer", prompts: Passkeys, layers: Sequence[int]) -> Patched:
    """Puts the corrupted prompt's activation into the clean one, before one layer after the other.

    Before layer 0 this makes the corrupted prompt, whose embeddings differ at this position alone.

    Args:
        model: the model.
        prompts: the two.
        layers: before which the activation is put in, each in a forward of its own.
    """
    stop = model.cfg.n_layers
    with torch.no_grad():
        streams: dict[int, Tensor] = {}
        with model.hooks(fwd_hooks=_keeping(streams, layers)):
            clean = expectation(model, model(prompts.clean, stop_at_layer=stop), prompts)
        donors: dict[int, Tensor] = {}
        # What stands at a position depends on nothing after it.
        beginning = prompts.corrupted[:, : prompts.position + 1]
        with model.hooks(fwd_hooks=_keeping(donors, layers)):
            model(beginning, stop_at_layer=stop)
        by_layer = {}
        for layer in layers:
            donor = donors[layer][0, -1]
            patched = with_activation(streams.pop(layer), prompts.position, donor)
            residual = model(patched, start_at_layer=layer, stop_at_layer=stop)
            by_layer[layer] = expectation(model, residual, prompts)
    return Patched(clean, by_layer)


def with_activation(
    stream: Float[Tensor, "1 pos d_model"], position: int, activation: Float[Tensor, "d_model"]
) -> Float[Tensor, "1 pos d_model"]:
    """A copy of the residual stream with another activation at one position."""
    patched = stream.clone()
    patched[0, position] = activation
    return patched


def expectation(
    model: "HookedTransformer", residual: Float[Tensor, "1 pos d_model"], prompts: Passkeys
) -> LogProbs:
    """Log-probabilities of the answer and of the other token at the end; softmax in float32."""
    logits = model.unembed(model.ln_final(residual[:, -1:]))[0, 0]
    found = logits.float().log_softmax(-1)
    return float(found[prompts.answer]), float(found[prompts.other])


def share_of_way(patched: Patched, layer: int) -> float:
    """How far a patch leads from the clean log-odds to the corrupted ones, 1 for all the way."""
    start, here, end = (
        pair[0] - pair[1] for pair in (patched.clean, patched.by_layer[layer], patched.by_layer[0])
    )
    return (start - here) / (start - end)


def _keeping(streams: dict[int, Tensor], layers: Sequence[int]) -> list[tuple[str, Any]]:
    def keep(stream: Tensor, hook: Any) -> None:
        streams[hook.layer()] = stream

    return [(f"blocks.{layer}.hook_resid_pre", keep) for layer in layers]
