"""What a worker measures is what the models' own forwards give."""

from pathlib import Path
from typing import Any

import pytest
import torch

from validation.models.reference import EAGER, SDPA, final_hidden, load_reference


def _ignore(_done: int, _total: int) -> None:
    """Reports nothing."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("attention", [EAGER, SDPA])
def test_reference_is_transformers_own_forward(
    checkpoint: Path, dtype: torch.dtype, attention: str
) -> None:
    """Head over final hidden states equals the model's logits, bit for bit."""
    model = load_reference(checkpoint, dtype, "cpu")
    tokens = torch.arange(96)[None]
    hidden = final_hidden(model, tokens, attention, _ignore)
    with torch.no_grad():
        logits = model(tokens, use_cache=False).logits
        assert torch.equal(model.lm_head(hidden[None]), logits)
    assert model.config._attn_implementation == attention


def test_reference_keeps_inv_freq_in_fp32(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model cast after loading is not the one that is served, and is refused."""
    from transformers import AutoModelForCausalLM

    load = AutoModelForCausalLM.from_pretrained

    def cast_after_loading(*args: Any, **kwargs: Any) -> Any:
        return load(*args, **kwargs).to(torch.bfloat16)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", cast_after_loading)
    with pytest.raises(RuntimeError, match=r"inv_freq is torch\.bfloat16, not torch\.float32"):
        load_reference(checkpoint, torch.bfloat16, "cpu")


def test_every_layer_is_reported(checkpoint: Path) -> None:
    """Progress counts from 0 to the number of layers, and leaves no hooks behind."""
    model = load_reference(checkpoint, torch.float32, "cpu")
    seen: list[tuple[int, int]] = []
    final_hidden(model, torch.arange(8)[None], EAGER, lambda done, n: seen.append((done, n)))
    assert seen == [(0, 2), (1, 2), (2, 2)]
    assert not any(layer._forward_hooks for layer in model.model.layers)
