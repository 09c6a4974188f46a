"""The work of the bench is what the libraries themselves do, and all of it."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from validation.execution.bench_messages import Piece
from validation.execution.bench_work import Transformers, do_piece
from validation.models.reference import SDPA, load_reference

TOKENS = torch.arange(40)[None] * 7 % 320


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Any:
    """Transformers with fused attention."""
    model = load_reference(checkpoint, torch.float32, "cpu")
    model.set_attn_implementation(SDPA)
    return model


def test_generation_is_transformers_own(model: Any) -> None:
    """The tokens of `generate` without sampling."""
    piece = Piece(workload="generate", context=40, generated=9)
    with torch.no_grad():
        mask = torch.ones_like(TOKENS)  # else it takes id 0 for padding
        whole = model.generate(
            TOKENS, attention_mask=mask, do_sample=False, max_new_tokens=9, pad_token_id=0
        )
    assert do_piece(Transformers(model), TOKENS, piece) == tuple(whole[0, 40:].tolist())


def test_hooks_change_nothing_and_are_removed(model: Any) -> None:
    """The same token with and without them."""
    forward, hooks = (
        do_piece(Transformers(model), TOKENS, Piece(workload=name, context=40))
        for name in ("forward", "hooks")
    )
    assert forward == hooks
    assert len(forward) == 1
    assert not any(layer._forward_hooks for layer in model.model.layers)


def test_hooks_that_miss_a_layer_are_no_work(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less work would be faster: it is an error instead."""
    monkeypatch.setattr(model.model.layers[0], "register_forward_hook", _hook_nothing)
    with pytest.raises(RuntimeError, match="hooks saw 1 of 2 layers"):
        do_piece(Transformers(model), TOKENS, Piece(workload="hooks", context=40))


def _hook_nothing(_hook: object) -> torch.utils.hooks.RemovableHandle:
    return torch.utils.hooks.RemovableHandle(OrderedDict())
