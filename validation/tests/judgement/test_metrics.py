"""The streamed comparison against the whole one, and with deliberately wrong input."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from transformer_lens_fork.bases import REPOSITORY
from validation.execution.processes import KEPT_HEAP
from validation.judgement.metrics import (
    Errors,
    Head,
    PositionMetrics,
    Stream,
    stream_errors,
    stream_metrics,
)

POSITIONS, VOCAB = 37, 19


def _logits(seed: int) -> torch.Tensor:
    return torch.randn(POSITIONS, VOCAB, generator=torch.Generator().manual_seed(seed))


def _same(hidden: torch.Tensor) -> torch.Tensor:
    # Hidden states that are logits already: a product's bits would depend on the chunk.
    return hidden


def compare(
    reference: torch.Tensor, subject: torch.Tensor, chunk: int, subject_head: Head = _same
) -> PositionMetrics:
    """The metrics of logits that are there."""
    return stream_metrics(Stream(reference, _same), Stream(subject, subject_head), chunk)


@pytest.mark.parametrize("chunk", [1, 5, 37, 100])
def test_streaming_equals_the_whole(chunk: int) -> None:
    """Every figure is what the textbook formula gives on whole logits, at any chunk."""
    reference, subject = _logits(1), _logits(1) + 1e-3 * _logits(2)
    metrics = compare(reference, subject, chunk)
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
    metrics = compare(logits.double(), logits.double() + error, 8)
    probability = logits.double().softmax(-1)
    mean = (probability * error).sum(-1, keepdim=True)
    variance = (probability * (error - mean) ** 2).sum(-1)
    np.testing.assert_allclose(metrics.kl, variance / 2, rtol=0.05)


def test_one_changed_bit_is_counted() -> None:
    """One logit moved to the next float is one differing logit at its position."""
    logits = _logits(1)
    changed = logits.clone()
    changed[20, 3] = torch.nextafter(changed[20, 3], torch.tensor(torch.inf))
    metrics = compare(logits, changed, 8)
    assert metrics.differing.sum() == 1
    assert metrics.differing[20] == 1


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite_are_counted(value: float) -> None:
    """NaN, Inf and -Inf of the subject differ and are counted as not finite."""
    logits = _logits(1)
    changed = logits.clone()
    changed[5, 1] = value
    metrics = compare(logits, changed, 16)
    assert metrics.nonfinite.tolist() == [int(position == 5) for position in range(POSITIONS)]
    assert metrics.differing.sum() == 1


def test_a_reference_that_is_not_finite_is_refused() -> None:
    """Nothing can be said about a subject whose reference overflowed."""
    logits = _logits(1)
    logits[9] = torch.inf
    with pytest.raises(ValueError, match="reference's logits at positions from 8 are not finite"):
        compare(logits, logits, 8)


def test_other_shapes_and_dtypes_are_refused() -> None:
    """A missing position, a smaller vocabulary or another dtype never compares."""
    logits = _logits(1)
    with pytest.raises(ValueError, match="hidden states differ in shape"):
        compare(logits, logits[:-1], 8)
    with pytest.raises(ValueError, match="logits differ in kind"):
        compare(logits, logits, 8, lambda x: x[..., :-1])
    with pytest.raises(ValueError, match="logits differ in kind"):
        compare(logits, logits, 8, lambda x: x.half())


def test_metrics_survive_a_file(tmp_path: Path) -> None:
    """What is loaded is what was saved."""
    metrics = compare(_logits(1), _logits(2), 8)
    metrics.save(tmp_path / "metrics.npz")
    loaded = PositionMetrics.load(tmp_path / "metrics.npz")
    np.testing.assert_array_equal(loaded.square_sum, metrics.square_sum)
    assert loaded.vocab == VOCAB


def test_the_first_difference_is_named() -> None:
    """Its position, its token, and both values, wherever the chunks end."""
    reference = _logits(1)
    changed = reference.clone()
    changed[20, 3] += 0.5
    changed[20, 7] += 0.5
    changed[31, 0] += 0.5
    for chunk in (1, 8, 100):
        metrics = compare(reference, changed, chunk)
        assert metrics.first_differing.tolist() == [20, 3]
        assert metrics.first_values.tolist() == [reference[20, 3], changed[20, 3]]
    assert not len(compare(reference, reference, 8).first_differing)


def test_reference_bits_see_any_one_change() -> None:
    """The checksum is the same in both processes, and another one where one bit is."""
    reference = _logits(1)
    _, bits = stream_errors({"eager": Stream(reference, _same)}, {}, 8)
    np.testing.assert_array_equal(compare(reference, _logits(2), 8).reference_bits, bits)
    reference[20, 3] = torch.nextafter(reference[20, 3], torch.tensor(torch.inf))
    changed = compare(reference, _logits(2), 8).reference_bits != bits
    assert np.flatnonzero(changed).tolist() == [20]


def test_errors_between_streams_are_those_of_metrics() -> None:
    """The same figures for a pair; a shorter stream gives its own positions only."""
    one, other = _logits(1), _logits(2)
    streams = {
        "one": Stream(one, _same),
        "other": Stream(other, _same),
        "short": Stream(other[:16], _same),
    }
    errors, _ = stream_errors(streams, {"whole": ("one", "other"), "first": ("one", "short")}, 8)
    expected = compare(one, other, 8)
    for name in ("differing", "abs_sum", "square_sum", "abs_max", "nonfinite"):
        np.testing.assert_array_equal(getattr(errors["whole"], name), getattr(expected, name))
        np.testing.assert_array_equal(getattr(errors["first"], name), getattr(expected, name)[:16])
    assert errors["first"].positions == expected.prefix(16).positions == 16
    assert isinstance(errors["whole"], Errors)
    streams["short"] = Stream(other[:20], _same)
    with pytest.raises(ValueError, match=r"chunks of \(8, 19\) and \(4, 19\) logits"):
        stream_errors(streams, {"first": ("one", "short")}, 8)
    streams["other"] = Stream(torch.full_like(other, torch.nan), _same)
    with pytest.raises(ValueError, match=r"the reference's logits \(other\) .* are not finite"):
        stream_errors(streams, {"whole": ("one", "other")}, 8)


@pytest.mark.parametrize("chunk", [3, 4, 10])
def test_heads_see_rows_as_a_model_lays_them_out(chunk: int) -> None:
    """A slice with the strides of the whole takes another bf16 kernel than a model's own rows."""
    seen = []

    def head(hidden: torch.Tensor) -> torch.Tensor:
        seen.append((tuple(hidden.shape), hidden.stride()))
        return hidden

    hidden = torch.randn(10, 6, generator=torch.Generator().manual_seed(1))
    stream = Stream(hidden, head)
    stream_metrics(stream, stream, chunk)
    rows = [min(chunk, 10 - start) for start in range(0, 10, chunk) for _ in "rs"]
    assert seen == [((1, n, 6), (n * 6, 6, 1)) for n in rows]


_STREAMED = """
import torch
from validation.execution.memory import peak_memory, reset_peak_memory, resident_memory
from validation.judgement.metrics import Stream, stream_errors, stream_metrics

torch.manual_seed(0)
weight = torch.randn(16384, 8)
one, other = (Stream(torch.randn(8192, 8), lambda hidden: hidden @ weight.T) for _ in range(2))
stream_metrics(Stream(one.hidden[:256], one.head), Stream(other.hidden[:256], other.head), 256)
before = resident_memory()
reset_peak_memory()
stream_metrics(one, other, 256)
stream_errors({"one": one, "other": other}, {"pair": ("one", "other")}, 256)
print(peak_memory() - before)
"""


def test_what_is_kept_leaves_no_holes() -> None:
    """In a worker that keeps its heap 32 chunks take no more than one does."""
    process = subprocess.run(
        [sys.executable, "-c", _STREAMED],
        env=os.environ | KEPT_HEAP,
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )
    logits_bytes = 256 * 16384 * 4
    # As small figures that stay lie in each hole, it would be 32 times as much, and more.
    assert int(process.stdout) < 8 * logits_bytes
