"""The architectures that are compared."""

import pytest
import torch

from transformer_lens_fork.errors import InputError
from validation.architectures.catalogue import ARCHITECTURES, choose_architectures
from validation.architectures.tiny import build_reference, random_tokens


def test_names_are_unique() -> None:
    """A record's architecture is found by its name."""
    names = [architecture.name for architecture in ARCHITECTURES]
    assert len(names) == len(set(names))


def test_an_unknown_name_is_refused() -> None:
    """The error names it, and what is accepted."""
    with pytest.raises(InputError, match="'gtp2' is no architecture; gpt2, gpt-neo"):
        choose_architectures(("gtp2",))


@pytest.mark.parametrize("name", ["gpt2", "llama-3.1", "gemma", "phi-3", "bloom"])
def test_attention_is_sharp(name: str) -> None:
    """The last logits depend on the first tokens: otherwise nothing of positions would show."""
    (architecture,) = choose_architectures((name,))
    model = build_reference(architecture, 0, torch.float32)
    tokens = random_tokens(0)
    swapped = tokens.clone()
    swapped[:, :8] = tokens[:, :8].flip(1)
    with torch.no_grad():
        before, after = model(tokens).logits[:, 64], model(swapped).logits[:, 64]
    assert float((before - after).abs().max()) > 1e-2


def test_a_seed_is_a_model() -> None:
    """The same seed draws the same weights, another one others."""
    (architecture,) = choose_architectures(("gpt2",))

    def first(seed: int) -> torch.Tensor:
        model = build_reference(architecture, seed, torch.float32)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))
