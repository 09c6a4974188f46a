"""Interventions on rotary position encoding through hooks, and the loss of every token under them.

Rotations compose: what RoPE has rotated by one angle is rotated further by the difference to
another. So hooks on `hook_rot_q` and `hook_rot_k` give pairs of dimensions other frequencies and
tokens other positions, in a model that is loaded, with fused attention, at any context. Plain torch
and TransformerLens: copy from here.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

BANDS = ("high", "medium", "low")
"""As Llama 3.1's scaling has them: kept, blended, divided by the factor."""

Hook: TypeAlias = Callable[[Tensor, Any], Tensor]
Hooks: TypeAlias = list[tuple[str, Hook]]
"""Names of hook points and what is run there: `fwd_hooks` of TransformerLens."""


@dataclass(frozen=True)
class Frequencies:
    """The inverse frequencies of every pair of dimensions, radians per token.

    Dimensions i and i + d_head / 2 are pair i.

    Attributes:
        unscaled: `theta ** (-2 i / d_head)`.
        scaled: as the model rotates.
        bands: of each pair, one of `BANDS`.
    """

    unscaled: Float[Tensor, "pair"]
    scaled: Float[Tensor, "pair"]
    bands: tuple[str, ...]

    def within(self, band: str) -> Bool[Tensor, "pair"]:
        """Which pairs are in the band."""
        return torch.tensor([each == band for each in self.bands], device=self.scaled.device)


@dataclass(frozen=True)
class Edit:
    """Another position encoding for a model that is loaded; None is the model's own.

    Attributes:
        inv_freq: radians per token.
        query_positions: of every token when it asks.
        key_positions: of every token when it is asked.
        removed: pairs of dimensions that no longer count in the product of query and key.
    """

    inv_freq: Float[Tensor, "pair"] | None = None
    query_positions: Int[Tensor, "pos"] | None = None
    key_positions: Int[Tensor, "pos"] | None = None
    removed: Bool[Tensor, "pair"] | None = None


def llama3_frequencies(model: "HookedTransformer") -> Frequencies:
    """What the model rotates by, and the bands that Llama 3.1's scaling divides it into.

    In fp32 and in the order of `transformers` (`modeling_rope_utils.py`,
    `_compute_llama3_parameters`), so that the frequencies have the model's bits.

    Raises:
        ValueError: the model has no such scaling, or other frequencies than it gives.
    """
    cfg = model.cfg
    if cfg.rotary_inv_freq is not None:
        raise ValueError("the model was given its frequencies, which have no bands")
    if not cfg.use_NTK_by_parts_rope:
        raise ValueError(f"{cfg.model_name} has no llama3 scaling, and so no bands")
    exponents = torch.arange(0, cfg.d_head, 2, dtype=torch.int64).float() / cfg.d_head
    unscaled = 1.0 / (cfg.rotary_base**exponents)
    wavelengths = 2 * math.pi / unscaled
    original, factor = cfg.NTK_original_ctx_len, cfg.NTK_by_parts_factor
    low_factor, high_factor = cfg.NTK_by_parts_low_freq_factor, cfg.NTK_by_parts_high_freq_factor
    is_low = wavelengths > original / low_factor
    is_high = wavelengths < original / high_factor
    kept = (original / wavelengths - low_factor) / (high_factor - low_factor)
    blended = (1 - kept) * unscaled / factor + kept * unscaled
    scaled = torch.where(is_low, unscaled / factor, torch.where(is_high, unscaled, blended))
    bands = tuple(
        "high" if high else "low" if low else "medium"
        for high, low in zip(is_high.tolist(), is_low.tolist(), strict=True)
    )
    device = model.blocks[0].attn.W_Q.device
    return Frequencies(unscaled.to(device), scaled.to(device), bands)


def still(frequencies: Frequencies, band: str) -> Edit:
    """The band does not rotate: its pairs see what two tokens are, not where."""
    return rescaled(frequencies, band, 0.0)


def rescaled(frequencies: Frequencies, band: str, factor: float) -> Edit:
    """The band rotates `factor` times as fast."""
    own = frequencies.scaled
    return Edit(inv_freq=torch.where(frequencies.within(band), own * factor, own))


def removed(frequencies: Frequencies, band: str) -> Edit:
    """The band's dimensions no longer count in the product of query and key."""
    return Edit(removed=frequencies.within(band))


def without_scaling(frequencies: Frequencies) -> Edit:
    """Every pair rotates as before Llama 3.1's scaling."""
    return Edit(inv_freq=frequencies.unscaled)


def moved(
    span: range, by: int, n_tokens: int, *, keys_only: bool = False, device: Any = None
) -> Edit:
    """The tokens of a span stand elsewhere.

    Args:
        span: which tokens.
        by: by how many positions; negative is further away from what follows.
        n_tokens: of the whole input.
        keys_only: they ask from where they were, so that distances within the span change, too.
        device: of the model.
    """
    positions = torch.arange(n_tokens, device=device)
    positions[span.start : span.stop] += by
    return Edit(query_positions=None if keys_only else positions, key_positions=positions)


def hooks_of(
    model: "HookedTransformer",
    edit: Edit,
    frequencies: Frequencies,
    n_tokens: int,
    layers: Collection[int] | None = None,
) -> Hooks:
    """What `model.hooks(fwd_hooks=...)` takes to run with the edit.

    Args:
        model: with rotary embeddings over all of `d_head`, in halves, as Llama has them.
        edit: what is to be otherwise.
        frequencies: the model's own.
        n_tokens: of the input, from position 0 on.
        layers: where; everywhere if None.
    """
    chosen = range(model.cfg.n_layers) if layers is None else layers
    cos, sin = _rotation(edit, edit.query_positions, frequencies.scaled, n_tokens)
    if edit.removed is not None:
        # Nothing of a pair is left in the product if the query has nothing of it.
        cos, sin = cos * ~edit.removed, sin * ~edit.removed
    queries = _rotating(cos, sin)
    keys = _rotating(*_rotation(edit, edit.key_positions, frequencies.scaled, n_tokens))
    return [
        (f"blocks.{layer}.attn.{name}", hook)
        for layer in chosen
        for name, hook in (("hook_rot_q", queries), ("hook_rot_k", keys))
    ]


def losses(
    model: "HookedTransformer", tokens: Int[Tensor, "1 pos"], hooks: Sequence[tuple[str, Hook]] = ()
) -> Float[Tensor, "pos-1"]:
    """The loss of every token but the first, in nats, without the logits of all positions."""
    with torch.no_grad(), model.hooks(fwd_hooks=list(hooks)):
        residual = model(tokens, stop_at_layer=model.cfg.n_layers)
        found: Tensor = model.loss_from_residual(residual, tokens, per_token=True)
    return found[0]


def angles(
    positions: Int[Tensor, "pos"], inv_freq: Float[Tensor, "pair"]
) -> Float[Tensor, "pos pair"]:
    """The angles of RoPE's tables, rounded to fp32 as the model rounds them."""
    return positions.float()[:, None] * inv_freq[None, :]


def rotate(
    x: Float[Tensor, "1 pos head d_head"],
    cos: Float[Tensor, "pos pair"],
    sin: Float[Tensor, "pos pair"],
) -> Float[Tensor, "1 pos head d_head"]:
    """Rotates every pair of dimensions; computed in fp32, rounded to the dtype of `x` last."""
    first, second = x.float().chunk(2, dim=-1)
    cos, sin = cos[None, :, None], sin[None, :, None]
    rotated = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return rotated.to(x.dtype)


def _rotation(
    edit: Edit,
    positions: Int[Tensor, "pos"] | None,
    own: Float[Tensor, "pair"],
    n_tokens: int,
) -> tuple[Float[Tensor, "pos pair"], Float[Tensor, "pos pair"]]:
    """Cosine and sine of how much further to rotate."""
    before = torch.arange(n_tokens, device=own.device)
    after = before if positions is None else positions
    inv_freq = own if edit.inv_freq is None else edit.inv_freq
    # Both angles with the rounding of the tables, which is 1e-3 radians at 16k tokens, and their
    # difference in float64: the result is that of a model loaded with the other table.
    further = angles(after, inv_freq).double() - angles(before, own).double()
    return further.cos().float(), further.sin().float()


def _rotating(cos: Float[Tensor, "pos pair"], sin: Float[Tensor, "pos pair"]) -> Hook:
    def hook(x: Tensor, hook: Any) -> Tensor:
        return rotate(x, cos, sin)

    return hook
