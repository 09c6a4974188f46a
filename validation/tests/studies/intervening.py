"""Interventions and what is attended to, on a tiny checkpoint in the fork, in its own process.

`python -m validation.tests.studies.intervening CHECKPOINT` prints, as JSON, by how much each
differs from what it should be, and by how much from what it should not.
"""

import json
import sys
from typing import Any

import torch
from torch import Tensor
from transformer_lens import HookedTransformer

from validation.studies.drift import losses_of, watching
from validation.studies.interventions import (
    BANDS,
    Edit,
    Frequencies,
    angles,
    hooks_of,
    llama3_frequencies,
    losses,
    moved,
    removed,
    rescaled,
    still,
    without_scaling,
)
from validation.studies.patching import Passkeys, expectation, patch_position, with_activation

N = 256
MOVE = 500
_LAYER = "blocks.0.attn."


def load(path: str, **config: Any) -> HookedTransformer:
    """The checkpoint with fused attention."""
    return HookedTransformer.from_pretrained_no_processing(
        path, attn_implementation="sdpa", **config
    ).eval()


def seen(model: HookedTransformer, tokens: Tensor, name: str, hooks: Any = ()) -> Tensor:
    """What a hook point of the first layer has, after `hooks`."""
    found: list[Tensor] = []
    keep = (_LAYER + name, lambda x, hook: found.append(x.clone()))
    with torch.no_grad(), model.hooks(fwd_hooks=[*hooks, keep]):
        model(tokens, stop_at_layer=1)
    return found[0]


def differ(one: Tensor, other: Tensor, sizes: Tensor | float = 1.0) -> float:
    """The largest difference, relative to `sizes`."""
    return float(((one - other).abs() / sizes).max())


def check_frequencies(
    model: HookedTransformer, path: str, tokens: Tensor, frequencies: Frequencies
) -> dict[str, object]:
    """Hooks beside models that are loaded with the frequencies."""
    attention = model.blocks[0].attn
    table = angles(torch.arange(N), frequencies.scaled)
    half = table.shape[1]
    found: dict[str, object] = {
        "tables": torch.equal(table.cos(), attention.rotary_cos[:N, :half])
        and torch.equal(table.sin(), attention.rotary_sin[:N, :half]),
    }
    own = losses(model, tokens)
    found["empty"] = torch.equal(
        own, losses(model, tokens, hooks_of(model, Edit(), frequencies, N))
    )
    edits = {"unscaled": without_scaling(frequencies), "x 2": rescaled(frequencies, "low", 2.0)}
    for name, edit in edits.items():
        assert edit.inv_freq is not None
        hooks = hooks_of(model, edit, frequencies, N)
        other = load(path, rotary_inv_freq=edit.inv_freq)
        hooked, loaded = seen(model, tokens, "hook_rot_q", hooks), seen(other, tokens, "hook_rot_q")
        pairs = torch.stack(loaded.chunk(2, dim=-1)).norm(dim=0).repeat(1, 1, 1, 2)
        found[name] = {
            "rotated": differ(hooked, loaded, pairs),
            "unedited": differ(seen(model, tokens, "hook_rot_q"), loaded, pairs),
            "loss": differ(losses(model, tokens, hooks), losses(other, tokens)),
            "unedited loss": differ(own, losses(other, tokens)),
        }
    return found


def check_scores(
    model: HookedTransformer, tokens: Tensor, frequencies: Frequencies
) -> dict[str, float]:
    """Scores of the first layer, relative to what Cauchy and Schwarz allow."""
    name = "hook_attn_scores"
    own = seen(model, tokens, name)
    q, k = (seen(model, tokens, f"hook_rot_{which}")[0] for which in "qk")
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    scale = model.blocks[0].attn.attn_scale
    sizes = q.norm(dim=-1).T[:, :, None] * k.norm(dim=-1).T[:, None, :] / scale
    mask = torch.ones(N, N).tril().bool()

    def edited(edit: Edit) -> Tensor:
        return seen(model, tokens, name, hooks_of(model, edit, frequencies, N))

    def apart(one: Tensor, other: Tensor) -> float:
        return differ(one[0][:, mask], other[0][:, mask], sizes[:, mask])

    without = [edited(removed(frequencies, band)) for band in BANDS]
    return {
        "all moved": apart(edited(moved(range(N), -MOVE, N)), own),
        "half moved": apart(edited(moved(range(N // 2), -MOVE, N)), own),
        "keys moved": apart(edited(moved(range(N), -MOVE, N, keys_only=True)), own),
        # Scores are sums over bands: each is missing once.
        "bands": apart(without[0] + without[1] + without[2], 2 * own),
        "still": apart(edited(still(frequencies, "high")), own),
    }


def check_patches(model: HookedTransformer, tokens: Tensor) -> dict[str, object]:
    """The same activation, and the other prompt's before the first layer."""
    stop = model.cfg.n_layers
    # What the last query of a head sees most, beside itself: sharp attention sees little else.
    position = int(seen(model, tokens, "hook_attn_scores")[0, 0, -1, :-1].argmax())
    corrupted = tokens.clone()
    corrupted[0, position] = (corrupted[0, position] + 1) % model.cfg.d_vocab
    prompts = Passkeys(tokens, corrupted, position)
    patched = patch_position(model, prompts, [0, 1])
    same = patch_position(model, Passkeys(tokens, tokens.clone(), position), [0])
    with torch.no_grad():
        other = expectation(model, model(corrupted, stop_at_layer=stop), prompts)
        stream = model(tokens, stop_at_layer=1)
        own = with_activation(stream, position, stream[0, position])
        whole = model(own, start_at_layer=1, stop_at_layer=stop)
    return {
        "own activation": expectation(model, whole, prompts) == patched.clean,
        "same prompt": same.clean,
        "same prompt, patched": same.by_layer[0],
        "clean": patched.clean,
        "corrupted": other,
        "layer 0": patched.by_layer[0],
        "layer 1": patched.by_layer[1],
    }


def check_tops(path: str, tokens: Tensor) -> dict[str, object]:
    """What is attended to most, of rotated queries and keys and of whole patterns."""
    model = HookedTransformer.from_pretrained_no_processing(path).eval()
    found: dict[int, list[Tensor]] = {}
    patterns: dict[int, Tensor] = {}

    def keep(pattern: Tensor, hook: Any) -> None:
        patterns[hook.layer()] = pattern.argmax(-1)[0]

    by_pattern = [
        (f"blocks.{layer}.attn.hook_pattern", keep) for layer in range(model.cfg.n_layers)
    ]
    with torch.no_grad(), model.hooks(fwd_hooks=[*watching(model, found), *by_pattern]):
        residual = model(tokens, stop_at_layer=model.cfg.n_layers)
        own = losses_of(model.ln_final(residual)[0], model.unembed, tokens)
    tops = torch.stack([found[layer][0] for layer in sorted(found)])
    return {
        "differing": int((tops != torch.stack([patterns[layer] for layer in sorted(found)])).sum()),
        "layers": len(found),
        "not their own": float((tops != torch.arange(N)).float().mean()),
        "loss": differ(own, losses(model, tokens)),
    }


def main(path: str) -> None:
    """Prints what was found."""
    torch.set_num_threads(1)
    model = load(path)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.cfg.d_vocab, (1, N), generator=generator)
    losses(model, tokens)
    frequencies = llama3_frequencies(model)
    print(
        json.dumps(
            {
                "bands": sorted(set(frequencies.bands)),
                "frequencies": check_frequencies(model, path, tokens, frequencies),
                "scores": check_scores(model, tokens, frequencies),
                "patches": check_patches(model, tokens),
                "tops": check_tops(path, tokens),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
