"""Compares two streams of logits position by position, without ever holding either whole."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

Head = Callable[[Float[Tensor, "1 chunk d_model"]], Float[Tensor, "1 chunk vocab"]]
"""Final hidden states, after the last norm, to logits."""

_ROWS_IN_FLOAT64 = 64
"""Rows of logits that are held in double precision at a time, for the KL divergence."""


@dataclass(frozen=True)
class PositionMetrics:
    """How two models' logits differ, one entry a position. Errors are subject minus reference.

    Attributes:
        differing: logits whose value differs.
        abs_sum: sum over the vocabulary of the absolute error.
        square_sum: sum over the vocabulary of the squared error.
        abs_max: largest absolute error.
        kl: Kullback-Leibler divergence of the subject from the reference, nats.
        reference_top1: the reference's most likely token.
        subject_top1: the subject's.
        margin: the reference's largest logit minus its second largest.
        nonfinite: NaN or Inf among the subject's logits.
        vocab: logits a position.
    """

    differing: NDArray[np.int64]
    abs_sum: NDArray[np.float64]
    square_sum: NDArray[np.float64]
    abs_max: NDArray[np.float64]
    kl: NDArray[np.float64]
    reference_top1: NDArray[np.int64]
    subject_top1: NDArray[np.int64]
    margin: NDArray[np.float64]
    nonfinite: NDArray[np.int64]
    vocab: int

    @property
    def positions(self) -> int:
        """How many positions were compared."""
        return len(self.differing)

    def save(self, path: Path) -> None:
        """Writes an .npz file."""
        np.savez(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `save` wrote."""
        with np.load(path) as arrays:
            values = {field.name: arrays[field.name] for field in fields(cls)}
        return cls(**{**values, "vocab": int(values["vocab"])})


def stream_metrics(
    reference_hidden: Float[Tensor, "pos d_model"],
    reference_head: Head,
    subject_hidden: Float[Tensor, "pos d_model"],
    subject_head: Head,
    chunk: int,
) -> PositionMetrics:
    """Feeds both heads the same positions in chunks of the same shape and compares the logits.

    Args:
        reference_hidden: the reference's final hidden states.
        reference_head: the reference's unembedding.
        subject_hidden: the subject's final hidden states.
        subject_head: the subject's unembedding.
        chunk: positions a chunk; the last one may be shorter.

    Raises:
        ValueError: the two have different shapes, or the reference's logits are not finite: then
            nothing can be said about the subject.
    """
    if reference_hidden.shape != subject_hidden.shape:
        raise ValueError(
            f"hidden states differ in shape: reference {tuple(reference_hidden.shape)}, "
            f"subject {tuple(subject_hidden.shape)}"
        )
    parts: list[dict[str, Tensor]] = []
    vocab = 0
    with torch.no_grad():
        for start in range(0, len(reference_hidden), chunk):
            rows = slice(start, start + chunk)
            reference = reference_head(reference_hidden[None, rows])[0]
            subject = subject_head(subject_hidden[None, rows])[0]
            if reference.shape != subject.shape or reference.dtype != subject.dtype:
                raise ValueError(
                    f"logits differ in kind: reference {tuple(reference.shape)} {reference.dtype}, "
                    f"subject {tuple(subject.shape)} {subject.dtype}"
                )
            if not bool(reference.isfinite().all()):
                raise ValueError(f"the reference's logits at positions from {start} are not finite")
            vocab = reference.shape[-1]
            parts.append(_compare(reference, subject))
    arrays = {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]}
    return PositionMetrics(**arrays, vocab=vocab)


def _compare(
    reference: Float[Tensor, "chunk vocab"], subject: Float[Tensor, "chunk vocab"]
) -> dict[str, Tensor]:
    # NaN differs from everything, as it should; -0.0 equals 0.0.
    differing = (reference != subject).sum(-1)
    top2 = reference.topk(2, dim=-1)
    metrics = {
        "differing": differing,
        "reference_top1": top2.indices[:, 0],
        "margin": (top2.values[:, 0].double() - top2.values[:, 1].double()),
        "nonfinite": (~subject.isfinite()).sum(-1),
    }
    if not bool(differing.any()):
        nothing = torch.zeros(len(reference), dtype=torch.float64, device=reference.device)
        same = dict.fromkeys(("abs_sum", "square_sum", "abs_max", "kl"), nothing)
        return metrics | same | {"subject_top1": top2.indices[:, 0]}
    # Exact for half precision; in fp32 close values subtract exactly (Sterbenz).
    error = subject.float() - reference.float()
    return metrics | {
        "abs_sum": error.abs().sum(-1, dtype=torch.float64),
        "square_sum": (error * error).sum(-1, dtype=torch.float64),
        "abs_max": error.abs().amax(-1).double(),
        "kl": torch.cat(
            [
                _kl_divergence(
                    reference[start : start + _ROWS_IN_FLOAT64],
                    error[start : start + _ROWS_IN_FLOAT64],
                )
                for start in range(0, len(reference), _ROWS_IN_FLOAT64)
            ]
        ),
        # argmax and topk may break ties differently: the same function for both.
        "subject_top1": subject.topk(2, dim=-1).indices[:, 0],
    }


def _kl_divergence(
    reference: Float[Tensor, "rows vocab"], error: Float[Tensor, "rows vocab"]
) -> Float[Tensor, "rows"]:
    """KL(reference || subject) = log E[exp(error)] - E[error], the mean taken under reference.

    Written with expm1 because the divergence is of second order in the error: differences of
    log-probabilities would lose it to rounding.
    """
    probability = reference.double().softmax(-1)
    error = error.double()
    mean = (probability * error).sum(-1, keepdim=True)
    centred = error - mean
    return torch.log1p((probability * (torch.expm1(centred) - centred)).sum(-1))
