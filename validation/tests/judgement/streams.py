"""Metrics as an honest or a faulty model would give them."""

import numpy as np
from numpy.typing import NDArray

from validation.judgement.floor import ReferenceMetrics
from validation.judgement.metrics import PositionMetrics

VOCAB = 64


def subject_metrics(
    positions: int, scale: float | NDArray[np.float64] = 1.0, seed: int = 1
) -> PositionMetrics:
    """Gaussian errors of 1e-6 times `scale`; the top token always agrees."""
    error = 1e-6 * np.random.default_rng(seed).standard_normal((positions, VOCAB))
    error *= np.broadcast_to(scale, positions)[:, None]
    top1 = np.zeros(positions, dtype=np.int64)
    return PositionMetrics(
        differing=(error != 0).sum(-1),
        abs_sum=np.abs(error).sum(-1),
        square_sum=(error**2).sum(-1),
        abs_max=np.abs(error).max(-1),
        kl=(error**2).mean(-1) / 2,
        reference_top1=top1,
        subject_top1=top1,
        margin=np.ones(positions),
        nonfinite=np.zeros(positions, dtype=np.int64),
        reference_bits=np.zeros(positions, dtype=np.int64),
        first_differing=np.array([0, 0], dtype=np.int64),
        first_values=np.zeros(2),
        vocab=VOCAB,
    )


def floor_metrics(positions: int, scale: float = 1.0) -> ReferenceMetrics:
    """Two honest reorderings of the reference, and a plain RoPE far from it."""
    return ReferenceMetrics(
        floors={
            "kernel": subject_metrics(positions, scale, seed=2).prefix(positions),
            "channels": subject_metrics(positions, scale, seed=3).prefix(positions),
        },
        plain=subject_metrics(positions, scale=1000.0, seed=4).prefix(positions),
        bits=np.zeros(positions, dtype=np.int64),
    )
