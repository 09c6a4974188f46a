"""A process that tries every fault on one tiny model: `python -m ...grafting TREE FOLDER`.

Importing a planted tree takes seconds; here the tree is imported once, and each fault's functions
get the code of its edited source, and their own back. `FOLDER` holds the tiny checkpoints.
"""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from validation.rope.catalogue import FAULTS
from validation.rope.faults import Fault, Need, needs_met_by, needs_met_by_checkpoint
from validation.rope.perturbations import Quantity, perturbation
from validation.rope.swapping import swapped_code
from validation.tests.conftest import ROPE, SMALLEST

WHOLE = 256
"""Tokens of a prompt that sees every fault which needs nothing."""

SOUND = "sound"

PERTURBATIONS = tuple(perturbation(quantity, size) for quantity in Quantity for size in (0.0, 1e-6))

SITUATIONS = (Need.CHUNKS, Need.PADDING, Need.HALF, Need.BOUNDARY, Need.FUSED)

_CHUNK = 100
_LONG_CHUNK = 1100

Logits = Float[Tensor, "batch pos vocab"]


def main(tree: Path, folder: Path) -> None:
    """Prints, as JSON by fault, in which runs the logits differ from the sound tree's."""
    logging.disable()
    laboratory = Laboratory(folder)
    seen = {}
    for fault in (*FAULTS, *PERTURBATIONS):
        for run in runs_for(fault):
            laboratory.sound(run)
    for fault in (*FAULTS, *PERTURBATIONS):
        with swapped_code(fault, tree):
            seen[fault.name] = {name: laboratory.differs(name) for name in runs_for(fault)}
    # Last: what the grafts left behind would show here.
    seen[SOUND] = {f"{WHOLE}": laboratory.differs(f"{WHOLE}")}
    json.dump(seen, sys.stdout)


def runs_for(fault: Fault) -> tuple[str, ...]:
    """Which runs decide whether the fault is what it says it is."""
    if fault.equivalent:
        return (f"{WHOLE}", *(f"{WHOLE}+{need.name}" for need in SITUATIONS))
    needs = "".join(f"+{need.name}" for need in fault.needs & set(SITUATIONS))
    # Where it does not show though it is long enough.
    absent = {Need.EAGER: Need.FUSED, Need.MASK: Need.FUSED, Need.NOT_BFLOAT16: Need.HALF}
    hiding = tuple(f"+{other.name}" for need, other in absent.items() if need in fault.needs)
    if fault.hidden_up_to:
        first = fault.hidden_up_to + 1
        return (f"{first - 1}{needs}", *(f"{first}{need}" for need in (needs, *hiding)))
    if hiding:
        return (f"{WHOLE}", *(f"{WHOLE}{need}" for need in hiding))
    return (f"{WHOLE}", f"{WHOLE}{needs}") if needs else (f"{WHOLE}",)


def present_in(run: str) -> frozenset[Need]:
    """What a fault finds in that run."""
    _, _, need = run.partition("+")
    dtype = "bfloat16" if need == Need.HALF.name else "float32"
    attention = "sdpa" if need == Need.FUSED.name else "eager"
    every = needs_met_by_checkpoint(ROPE["rope_theta"], SMALLEST["num_key_value_heads"])
    return every | needs_met_by(dtype, attention) | ({Need[need]} if need else set())


class Laboratory:
    """Runs of a tiny model, and what the sound tree gave in them."""

    def __init__(self, folder: Path) -> None:
        from transformer_lens import HookedTransformer

        self._load = HookedTransformer.from_pretrained_no_processing
        self._folder = folder
        self._sound: dict[str, Logits] = {}

    def sound(self, run: str) -> Logits:
        """Logits of the sound tree; to be asked for before the first graft."""
        if run not in self._sound:
            self._sound[run] = self._logits(run)
        return self._sound[run]

    def differs(self, run: str) -> bool:
        """Whether the logits are others than the sound tree's, or there are none."""
        try:
            return not torch.equal(self._logits(run), self._sound[run])
        except (IndexError, RuntimeError):  # rows that are missing, shapes that do not fit
            return True

    def _logits(self, run: str) -> Logits:
        length, _, need = run.partition("+")
        is_boundary = need == Need.BOUNDARY.name
        dtype = torch.bfloat16 if need == Need.HALF.name else torch.float32
        path = self._folder / ("boundary" if is_boundary else "plain")
        attention = "sdpa" if need == Need.FUSED.name else "eager"
        model = self._load(str(path), dtype=dtype, attn_implementation=attention)
        tokens = torch.randint(64, (1, int(length)), generator=torch.manual_seed(0))
        with torch.no_grad():
            if need == Need.CHUNKS.name:
                return _in_chunks(model, tokens)
            if need == Need.PADDING.name:
                return _padded(model, tokens)
            logits: Logits = model(tokens)
            return logits


def _in_chunks(model: Any, tokens: Int[Tensor, "1 pos"]) -> Logits:
    from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

    cache = TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", 1)
    size = _LONG_CHUNK if tokens.shape[1] > WHOLE else _CHUNK
    parts = []
    for start in range(0, tokens.shape[1], size):
        chunk = tokens[:, start : start + size]
        mask = torch.ones_like(chunk)
        parts.append(model(chunk, past_kv_cache=cache, attention_mask=mask))
    return torch.cat(parts, 1)


def _padded(model: Any, tokens: Int[Tensor, "1 pos"]) -> Logits:
    """Two rows, the second of which begins with padding; the logits of what is no padding."""
    mask = torch.ones(2, tokens.shape[1], dtype=torch.int64)
    mask[1, : tokens.shape[1] // 3] = 0
    logits: Logits = model(tokens.expand(2, -1), attention_mask=mask)
    return logits[mask.bool()][None]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
