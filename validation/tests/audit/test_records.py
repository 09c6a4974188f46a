"""Records keep what was measured, and refuse what contradicts itself."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from validation.audit.records import AUDIT, AuditRecord
from validation.judgement.verdict import Verdict
from validation.reporting.records import RecordFile
from validation.tests.audit.conftest import MakeRecord, build_context, not_installed


def test_records_come_back_as_they_were(make_record: MakeRecord, tmp_path: Path) -> None:
    """Measured or not."""
    records = [make_record(), make_record("3.9.0", Verdict.IDENTICAL, 0), not_installed()]
    file = RecordFile(tmp_path / AUDIT, AuditRecord, "record")
    for record in records:
        file.append(record)
    assert RecordFile(tmp_path / AUDIT, AuditRecord, "record").records == records


def test_what_may_work_next_time_is_not_finished(make_record: MakeRecord) -> None:
    """Pip and dead processes are tried again; a release that refuses would refuse again."""
    assert make_record().is_finished
    assert make_record(ending="REFUSED", reason="no", at=()).is_finished
    assert not make_record(ending="DIED", reason="killed").is_finished
    assert not not_installed().is_finished


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"ending": "LOST", "reason": "x"}, "ending is 'LOST'"),
        ({"reason": "x"}, "MEASURED contradicts the reason 'x'"),
        ({"ending": "DIED"}, "DIED contradicts the reason ''"),
        ({"ending": "NOT_INSTALLED", "reason": "x"}, "contradicts what it measured"),
        ({"contexts": (build_context(256, Verdict.DRIFTS, verdict="FINE"),)}, "verdict is 'FINE'"),
        (
            {"contexts": (build_context(256, Verdict.DRIFTS, logits_differing=0),)},
            "DRIFTS contradicts 0 that differ",
        ),
        (
            {"contexts": (build_context(256, Verdict.IDENTICAL, logits_differing=1),)},
            "IDENTICAL contradicts 1 that differ",
        ),
    ],
)
def test_contradictions_are_refused(
    fields: dict[str, Any], says: str, make_record: MakeRecord
) -> None:
    """A line that somebody edited must not become evidence."""
    with pytest.raises(ValidationError, match=says):
        make_record(**fields)
