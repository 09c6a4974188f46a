"""A script, for it imports the fork: ALiBi by extra columns beside HookedTransformer's own."""

import sys
from pathlib import Path

import torch

from validation.models.subject import import_from
from validation.studies.encodings import final_hidden, position_by_alibi
from validation.studies.schemes import NO_ROTATION


def hidden(checkpoint: Path, dtype: torch.dtype, *, is_own: bool) -> torch.Tensor:
    """Final hidden states of 512 seeded tokens, by TransformerLens' bias matrix or by columns."""
    from transformer_lens import HookedTransformer

    model = HookedTransformer.from_pretrained_no_processing(
        str(checkpoint),
        dtype=dtype,
        attn_implementation="eager" if is_own else "sdpa",
        rotary_inv_freq=[NO_ROTATION] * 24,
    )
    tokens = torch.randint(320, (1, 512), generator=torch.Generator().manual_seed(0))
    if not is_own:
        with position_by_alibi(model, 512):
            return final_hidden(model, tokens).double()
    model.cfg.positional_embedding_type = "alibi"
    for block in model.blocks:
        block.attn.alibi = None
    return final_hidden(model, tokens).double()


if __name__ == "__main__":
    fork, folder = map(Path, sys.argv[1:])
    import_from(fork)
    truth = hidden(folder, torch.float64, is_own=True)
    for dtype in (torch.float32, torch.bfloat16):
        errors = [
            (hidden(folder, dtype, is_own=is_own) - truth).square().mean().sqrt().item()
            for is_own in (True, False)
        ]
        print(*errors)
