"""Layers that get their weights while they run compute what layers that keep them compute."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from validation.models.checkpoints import resolve_checkpoint
from validation.models.random_weights import shape_names
from validation.models.reference import EAGER, SDPA, final_hidden, load_reference
from validation.models.reordering import permuted_channels
from validation.models.streaming import _STREAM, Change, Weights, kept_layer
from validation.reporting.results import Result
from validation.reporting.staged import StageResult
from validation.tests.conftest import command, save_checkpoint
from validation.tests.execution.test_run import results

TOKENS = torch.arange(300)[None] * 7 % 320

TINY = [name for name in shape_names() if name.startswith("tiny")]


def _ignore(*_: object) -> None:
    """Reports nothing."""


def _pair(checkpoint: Path, dtype: torch.dtype, seed: int | None = None) -> tuple[Any, Any]:
    """With weights of its own, and streamed."""
    whole = load_reference(checkpoint, dtype, "cpu", seed)
    return whole, load_reference(checkpoint, dtype, "cpu", seed, streams_layers=True)


def _hidden(model: Any, attention: str = SDPA, prefill: int | None = None) -> Tensor:
    return final_hidden(model, TOKENS, attention, _ignore, prefill)


def _with_storage(model: Any) -> list[int]:
    """Layers that have weights at the moment."""
    layers = enumerate(model.model.layers)
    return [i for i, layer in layers if not all(p.is_meta for p in layer.parameters())]


@pytest.mark.parametrize("shape", TINY)
def test_seeded_layers_compute_the_same_bits(shape: str) -> None:
    """Of every shape, in one forward and in chunks through the cache."""
    found = resolve_checkpoint(f"random:{shape}", _ignore)
    whole, streamed = _pair(found.path, torch.bfloat16, found.weights_seed)
    assert streamed.model.rotary_emb.inv_freq.dtype == torch.float32
    for attention, prefill in ((SDPA, None), (EAGER, None), (EAGER, 128)):
        expected = _hidden(whole, attention, prefill)
        assert torch.equal(_hidden(streamed, attention, prefill), expected), (attention, prefill)
        assert expected.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": True}, {"attention_bias": True}])
def test_layers_from_files_compute_the_same_bits(
    changes: dict[str, bool], dtype: torch.dtype, tmp_path: Path
) -> None:
    """In the dtype that is asked for, whatever the files have; embeddings tied or not."""
    whole, streamed = _pair(save_checkpoint(tmp_path / "c", **changes), dtype)
    with torch.no_grad():
        assert torch.equal(streamed(TOKENS).logits, whole(TOKENS).logits)


def test_layers_from_shards_compute_the_same_bits(tmp_path: Path) -> None:
    """A layer may lie in more than one file."""
    whole = load_reference(save_checkpoint(tmp_path / "c"), torch.float32, "cpu")
    whole.save_pretrained(tmp_path / "s", max_shard_size="100KB")
    assert len(list((tmp_path / "s").glob("*.safetensors"))) > 2
    streamed = load_reference(tmp_path / "s", torch.float32, "cpu", streams_layers=True)
    assert torch.equal(_hidden(streamed), _hidden(whole))


def test_one_layer_has_weights_at_a_time(tmp_path: Path) -> None:
    """While it runs; none before and none after, also after an error."""
    streamed = load_reference(
        save_checkpoint(tmp_path / "c", num_hidden_layers=3),
        torch.float32,
        "cpu",
        streams_layers=True,
    )
    assert _with_storage(streamed) == []
    seen = []
    for layer in streamed.model.layers:
        layer.mlp.register_forward_pre_hook(lambda *_: seen.append(_with_storage(streamed)))
    before = _hidden(streamed)
    assert seen == [[0], [1], [2]]
    assert _with_storage(streamed) == []

    def fail(*_: object) -> None:
        raise KeyError

    handle = streamed.model.layers[1].mlp.register_forward_pre_hook(fail)
    with pytest.raises(KeyError):
        _hidden(streamed)
    handle.remove()
    assert torch.equal(_hidden(streamed), before)
    assert _with_storage(streamed) == []


def test_a_layer_that_is_kept_is_fetched_once(tmp_path: Path) -> None:
    """Forwards of one layer alone, as of the staged proof; one that fails takes nothing along."""
    whole, streamed = _pair(save_checkpoint(tmp_path / "c", num_hidden_layers=3), torch.float32)
    fetched: list[int] = []
    streaming = getattr(streamed, _STREAM)
    fetch = streaming._fetch

    def count(index: int, change: Change | None) -> Weights:
        fetched.append(index)
        weights: Weights = fetch(index, change)
        return weights

    streaming._fetch = count
    hidden = torch.randn(1, 8, whole.config.hidden_size)
    rotation = whole.model.rotary_emb(hidden, torch.arange(8)[None])
    options = {"position_embeddings": rotation, "attention_mask": None}
    for layer in range(3):
        expected = whole.model.layers[layer](hidden, **options)
        with kept_layer(streamed, layer):
            for _ in range(4):
                assert torch.equal(streamed.model.layers[layer](hidden, **options), expected)
            assert _with_storage(streamed) == [layer]
        assert _with_storage(streamed) == []
    assert sorted(fetched) == [0, 1, 2]
    with pytest.raises(RuntimeError), kept_layer(streamed, 1):
        streamed.model.layers[1](hidden[..., 1:], **options)
    assert _with_storage(streamed) == []
    assert torch.equal(_hidden(streamed), _hidden(whole))


def test_permuted_layers_are_permuted_as_they_come(tmp_path: Path) -> None:
    """The floor of a streamed reference is that of one with weights of its own."""
    whole, streamed = _pair(save_checkpoint(tmp_path / "c", attention_bias=True), torch.float32)
    before = _hidden(streamed)
    found = []
    for model in (whole, streamed):
        with permuted_channels(model, seed=1):
            found.append(_hidden(model))
    assert torch.equal(*found)
    assert not torch.equal(found[0], before)
    assert torch.equal(_hidden(streamed), before)


def test_a_damaged_source_is_an_error_not_a_hole(tmp_path: Path) -> None:
    """A layer whose weight nobody gives does not run."""
    streamed = load_reference(
        save_checkpoint(tmp_path / "c"), torch.float32, "cpu", streams_layers=True
    )
    streamed.model.layers[1].register_parameter(
        "extra", torch.nn.Parameter(torch.empty(1, device="meta"))
    )
    with pytest.raises(RuntimeError, match="layer 1 was lent no extra"):
        _hidden(streamed)


def _run(out: Path, *arguments: object) -> list[Result]:
    process = command("run", "--threads", 1, "--seed", 3, "--out", out, *arguments)
    assert process.returncode == 0, process.stdout + process.stderr
    return results(out)


@pytest.mark.long
def test_a_streamed_run_has_the_same_results(tmp_path: Path) -> None:
    """Fork and stock, floors and every figure, in one forward and in chunks, and at every stage."""
    arguments = (
        *("--checkpoint", "random:tiny-llama-3.2-1b", "--subjects", "fork,stock"),
        *("--contexts", "512,2k", "--memory", "900m"),
    )
    kept = _run(tmp_path / "kept", *arguments)
    streamed = _run(tmp_path / "streamed", *arguments, "--stream-layers")
    assert [r.verdict for r in streamed if r.subject == "fork"] == ["IDENTICAL"] * 2
    for one, other in zip(kept, streamed, strict=True):
        assert one.logits_differing == other.logits_differing
        assert one.bins == other.bins
        assert one.floors == other.floors
        assert "layers are streamed" in other.notes
        assert one.provenance.case_key != other.provenance.case_key
    kept_stages, streamed_stages = (
        [StageResult.model_validate_json(line) for line in file.read_text("utf-8").splitlines()]
        for file in (tmp_path / "kept" / "stages.jsonl", tmp_path / "streamed" / "stages.jsonl")
    )
    assert [s.stages for s in kept_stages] == [s.stages for s in streamed_stages]
    assert [s.graft for s in kept_stages] == [s.graft for s in streamed_stages]
    assert kept_stages[0].first_stage is None
