"""The script `sae_lens_long.py` on SmolLM2's first two layers, and what it has to measure."""

from pathlib import Path

from validation.clients.observations import Seen
from validation.clients.sae_lens_long import main

_EXACT = "unlike"
"""In the name of every count that has to be 0."""

_KEPT = "logits: largest difference, error kept"
_LARGEST = "logits: largest"

_ROUNDINGS = 2**-20
"""Of the largest logit: eight units in the last place. SAE(x) + (x - SAE(x)) is x but for two
roundings, and one layer and a norm follow, which carry them on."""


def exercise(seen: Seen, folder: Path) -> None:
    """Runs it; a count that is not 0, or an error term that changes the logits, is a failure."""
    from validation.models.checkpoints import resolve_checkpoint
    from validation.models.truncation import truncate

    smollm2 = resolve_checkpoint("smollm2", print)
    measured = main(str(truncate(smollm2, 2, print).path), folder / "sae")
    for name, value in measured.items():
        limit = 0.0 if _EXACT in name else None
        if name == _KEPT:
            limit = measured[_LARGEST] * _ROUNDINGS
        seen.figure(name, value, limit)
