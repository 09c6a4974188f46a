"""Fused attention in float32 with a copy of the keys for every query head, as CUDA needs it."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.integrations import sdpa_attention

from validation.execution.arithmetic import repeat_float32_keys
from validation.tests.properties.pair import Pair, random_tokens


def test_both_repeat_keys_in_float32_and_nowhere_else(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is asked for; and not one logit of the fork differs from that of `transformers`."""
    monkeypatch.setattr(sdpa_attention, "use_gqa_in_sdpa", sdpa_attention.use_gqa_in_sdpa)
    repeat_float32_keys("cpu")
    repeat_float32_keys("cpu")
    ours = sdpa_attention.use_gqa_in_sdpa
    calls: list[tuple[bool, bool]] = []
    attend = F.scaled_dot_product_attention

    def watched(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        calls.append((query.shape[1] == key.shape[1], options.get("enable_gqa", False)))
        return attend(query, key, value, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    pair.ours.cfg.attn_implementation = "sdpa"
    pair.theirs.set_attn_implementation("sdpa")
    assert pair.whole(random_tokens(1, 96)).differing() == 0
    is_repeated = pair.ours.cfg.dtype == torch.float32
    assert calls == [(is_repeated, not is_repeated)] * 4, "two layers of two models"
    key = torch.zeros(1, 2, 8, 24, device="meta")
    assert ours(None, key, key), "on another device it is as it was"
