"""Results as a run would give them, with as little to write as possible."""

from collections.abc import Callable
from hashlib import sha256
from itertools import pairwise
from typing import Any

import pytest

from validation.judgement.bins import bin_edges
from validation.judgement.verdict import Verdict
from validation.reporting.results import Result

VOCAB = 49152
FLOOR = 6e-6

MakeResult = Callable[..., Result]
"""See `build_result`."""


def digest(*ingredients: object) -> str:
    """A sha256 that is the same for the same ingredients."""
    return sha256(repr(ingredients).encode()).hexdigest()


def bins(context: int, error: Callable[[int], float | None]) -> tuple[dict[str, Any], ...]:
    """Bins in which the subject's mean absolute error is a function of the position."""
    edges = bin_edges(context)
    records = []
    for start, stop in pairwise(edges):
        mean = error((start + stop) // 2)
        records.append(
            {
                "start": start,
                "stop": stop,
                "differing": 0 if mean == 0 else (stop - start) * VOCAB,
                "rms": mean and 1.4 * mean,
                "floor_rms": 1.4 * FLOOR,
                "mean_abs": mean,
                "floor_mean_abs": FLOOR,
                "max_abs": mean and 50 * mean,
                "ratio_interval": (0.9 * mean / FLOOR, 1.1 * mean / FLOOR) if mean else None,
            }
        )
    return tuple(records)


def drifting(position: int) -> float:
    """An error that grows with position, as stock's does."""
    return 1e-6 + 1.2e-8 * position


def at_floor(position: int) -> float:
    """The floor's error, give or take."""
    return FLOOR * (0.98 + 0.04 * (position % 2))


ERRORS: dict[Verdict, Callable[[int], float | None]] = {
    Verdict.IDENTICAL: lambda position: 0.0,
    Verdict.AT_FLOOR: at_floor,
    Verdict.NOT_FINITE: lambda position: None if position > 500 else at_floor(position),
    Verdict.DRIFTS: drifting,
}


def provenance(subject: str, context: int) -> dict[str, Any]:
    """What a result of `subject` was measured with."""
    return {
        "harness_sha256": digest("harness"),
        "git_commit": "1f" * 20,
        "git_dirty": False,
        "tree_sha256": digest("tree", subject),
        "series_sha256": digest("series") if subject == "fork" else None,
        "sdist_sha256": digest("sdist"),
        "checkpoint_sha256": digest("checkpoint"),
        "layers": 30,
        "prompt_sha256": digest("prompt", context),
        "prompt_source": "text of TransformerLens 3.9.0's sdist",
        "reference_attention": "eager",
        "floor": "sdpa against eager, same process",
        "seed": 0,
        "chunk": 682,
        "packages": {"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0"},
        "settings": {"device_name": "a processor", "threads": "4", "allow_tf32": "False"},
        "measured_at": "2026-01-02T03:04:05+00:00",
    }


def growth(verdict: Verdict) -> dict[str, float]:
    """A slope that goes with the verdict."""
    if verdict is Verdict.AT_FLOOR:
        return {"value": 0.01, "low": -0.05, "high": 0.07}
    return {"value": 0.97, "low": 0.91, "high": 1.03}


def figures(context: int, verdict: Verdict) -> dict[str, Any]:
    """What is measured where there are logits."""
    records = bins(context, ERRORS.get(verdict, drifting))
    is_exact, is_finite = verdict is Verdict.IDENTICAL, verdict is not Verdict.NOT_FINITE
    means = [record["mean_abs"] for record in records]
    mean = sum(means) / len(means) if is_finite else None
    total = context * VOCAB
    return {
        "logits_total": total,
        "logits_differing": 0 if is_exact else total - 1000,
        "parity_ratio": mean if mean is None else mean / FLOOR,
        "parity_ratio_by_bin": tuple(None if m is None else m / FLOOR for m in means),
        "bins": records,
        "power_ratio": 80_000.0,
        "floors": {"kernel": 0.9 * FLOOR, "channels": 1.1 * FLOOR},
        "slope": growth(verdict) if means[-1] else None,
        "max_abs": mean and 60 * mean,
        "mean_abs": mean,
        "floor_mean_abs": FLOOR,
        "kl_mean": mean and mean**2,
        "top1_agreement": 1.0 if is_exact else 0.9987,
        "top1_counted": 0,
        "seconds": 12.34,
        "peak_memory_bytes": 3 * 2**30,
        "reference_seconds": 10.0,
        "reference_peak_memory_bytes": 2 * 2**30,
    }


def build_result(
    subject: str = "fork",
    verdict: Verdict = Verdict.IDENTICAL,
    *,
    dtype: str = "float32",
    context: int = 4096,
    measured_with: dict[str, Any] | None = None,
    **fields: Any,
) -> Result:
    """A result that a run with this verdict could have given.

    Args:
        subject: its name.
        verdict: decides which figures there are.
        dtype: of the case.
        context: of the case.
        measured_with: fields of the provenance.
        **fields: other fields of the result.
    """
    is_measured = verdict not in (Verdict.TOO_LARGE, Verdict.REFUSED, Verdict.DIED)
    case = {
        "subject": subject,
        "base": "v3.9.0",
        "checkpoint": "smollm2",
        "dtype": dtype,
        "device": "cpu",
        "context": context,
        "prefill": context,
        **fields,
    }
    ingredients = provenance(subject, context) | (measured_with or {})
    return Result.model_validate(
        {
            "verdict": verdict.name,
            "reason": f"reason of {subject} at {context}",
            "notes": ("loaded with from_pretrained_no_processing",) if is_measured else (),
            **(figures(context, verdict) if is_measured else {}),
            "provenance": {"case_key": digest(case, ingredients), **ingredients},
            **case,
        }
    )


@pytest.fixture
def make_result() -> MakeResult:
    """Builds results."""
    return build_result


@pytest.fixture
def two_subjects(make_result: MakeResult) -> list[Result]:
    """The fork, identical, and stock, which drifts, at two contexts."""
    return [
        make_result(subject, verdict, context=context)
        for subject, verdict in (("stock", Verdict.DRIFTS), ("fork", Verdict.IDENTICAL))
        for context in (4096, 1024)
    ]
