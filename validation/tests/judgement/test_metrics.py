"""The streamed comparison against the whole one, and with deliberately wrong input."""

from pathlib import Path

import numpy as np
import pytest
import torch

from validation.judgement.metrics import PositionMetrics, stream_metrics

POSITIONS, VOCAB = 37, 19


def _logits(seed: int) -> torch.Tensor:
    return torch.randn(POSITIONS, VOCAB, generator=torch.Generator().manual_seed(seed))


def _same(hidden: torch.Tensor) -> torch.Tensor:
    # Hidden states that are logits already: a product's bits would depend on the chunk.
    return hidden


@pytest.mark.parametrize("chunk", [1, 5, 37, 100])
def test_streaming_equals_the_whole(chunk: int) -> None:
    """Every figure is what the textbook formula gives on whole logits, at any chunk."""
    reference, subject = _logits(1), _logits(1) + 1e-3 * _logits(2)
    metrics = stream_metrics(reference, _same, subject, _same, chunk)
    p, q = reference.double(), subject.double()
    error = q - p
    np.testing.assert_array_equal(metrics.differing, (reference != subject).sum(-1))
    np.testing.assert_allclose(metrics.abs_sum, error.abs().sum(-1), rtol=1e-6)
    np.testing.assert_allclose(metrics.square_sum, error.pow(2).sum(-1), rtol=1e-6)
    np.testing.assert_allclose(metrics.abs_max, error.abs().amax(-1), rtol=1e-6)
    kl = (p.softmax(-1) * (p.log_softmax(-1) - q.log_softmax(-1))).sum(-1)
    np.testing.assert_allclose(metrics.kl, kl, rtol=1e-3)
    np.testing.assert_array_equal(metrics.reference_top1, p.argmax(-1))
    np.testing.assert_array_equal(metrics.subject_top1, q.argmax(-1))
    top = p.topk(2).values
    np.testing.assert_allclose(metrics.margin, top[:, 0] - top[:, 1], rtol=1e-5)
    assert (metrics.positions, metrics.vocab) == (POSITIONS, VOCAB)
    assert not metrics.nonfinite.any()


def test_kl_of_tiny_errors_is_not_lost_to_rounding() -> None:
    """Half the error's variance, where differences of log-probabilities would give noise."""
    logits = _logits(1)
    error = 2.0**-20 * torch.randn(VOCAB, generator=torch.Generator().manual_seed(3)).round()
    metrics = stream_metrics(logits.double(), _same, logits.double() + error, _same, 8)
    probability = logits.double().softmax(-1)
    mean = (probability * error).sum(-1, keepdim=True)
    variance = (probability * (error - mean) ** 2).sum(-1)
    np.testing.assert_allclose(metrics.kl, variance / 2, rtol=0.05)


def test_one_changed_bit_is_counted() -> None:
    """One logit moved to the next float is one differing logit at its position."""
    logits = _logits(1)
    changed = logits.clone()
    changed[20, 3] = torch.nextafter(changed[20, 3], torch.tensor(torch.inf))
    metrics = stream_metrics(logits, _same, changed, _same, 8)
    assert metrics.differing.sum() == 1
    assert metrics.differing[20] == 1


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite_are_counted(value: float) -> None:
    """NaN, Inf and -Inf of the subject differ and are counted as not finite."""
    logits = _logits(1)
    changed = logits.clone()
    changed[5, 1] = value
    metrics = stream_metrics(logits, _same, changed, _same, 16)
    assert metrics.nonfinite.tolist() == [int(position == 5) for position in range(POSITIONS)]
    assert metrics.differing.sum() == 1


def test_a_reference_that_is_not_finite_is_refused() -> None:
    """Nothing can be said about a subject whose reference overflowed."""
    logits = _logits(1)
    logits[9] = torch.inf
    with pytest.raises(ValueError, match="reference's logits at positions from 8 are not finite"):
        stream_metrics(logits, _same, logits, _same, 8)


def test_other_shapes_and_dtypes_are_refused() -> None:
    """A missing position, a smaller vocabulary or another dtype never compares."""
    logits = _logits(1)
    with pytest.raises(ValueError, match="hidden states differ in shape"):
        stream_metrics(logits, _same, logits[:-1], _same, 8)
    with pytest.raises(ValueError, match="logits differ in kind"):
        stream_metrics(logits, _same, logits, lambda x: x[..., :-1], 8)
    with pytest.raises(ValueError, match="logits differ in kind"):
        stream_metrics(logits, _same, logits, lambda x: x.half(), 8)


def test_metrics_survive_a_file(tmp_path: Path) -> None:
    """What is loaded is what was saved."""
    metrics = stream_metrics(_logits(1), _same, _logits(2), _same, 8)
    metrics.save(tmp_path / "metrics.npz")
    loaded = PositionMetrics.load(tmp_path / "metrics.npz")
    np.testing.assert_array_equal(loaded.square_sum, metrics.square_sum)
    assert loaded.vocab == VOCAB
