"""Not one logit differs, of any size, at any length."""

from collections.abc import Callable

import pytest

from validation.gpu_parity.session import Session, Unit
from validation.judgement.verdict import Verdict
from validation.models.trees import STOCK

# A test is as long as its forwards.
pytestmark = pytest.mark.timeout(0)


def test_parity(
    unit: Unit,
    units: list[Unit],
    session: Session,
    record_property: Callable[[str, object], None],
) -> None:
    """Every tree but stock is identical to transformers, both with fused attention."""
    results = session.results(unit, units)
    for result in results:
        record_property(f"{result.subject}: verdict", result.verdict)
        record_property(f"{result.subject}: seconds", result.seconds)
        record_property(f"{result.subject}: peak memory, bytes", result.peak_memory_bytes)
    judged = [result for result in results if result.subject != STOCK]
    assert judged, "nothing is judged: stock is shown for comparison only"
    failed = [r for r in judged if not r.outcome.meets(Verdict.IDENTICAL)]
    assert not failed, "; ".join(f"{r.subject}: {r.verdict}, {r.reason}" for r in failed)
