"""What people are told of a release is what was measured, in one sentence."""

import pytest

from validation.audit.records import AuditRecord
from validation.audit.sentences import sentence
from validation.judgement.verdict import Verdict
from validation.tests.audit.conftest import build_context, build_record, not_installed

CASES = [
    (
        build_record(),
        "2.9.0: wrong from token 1; 13 of 64 frequencies wrong; 8.8 times the floor's error at 4k "
        "tokens, growing with the position.",
    ),
    (
        build_record("2.8.0", Verdict.BEYOND_FLOOR, 63),
        "2.8.0: wrong from token 1; 63 of 64 frequencies wrong; 12,346 times the floor's error at "
        "4k tokens.",
    ),
    (
        build_record("4.3.0", Verdict.IDENTICAL, 0, attention="sdpa"),
        "4.3.0 sdpa: not one logit differs from transformers', up to 4k tokens; all 64 frequencies "
        "right.",
    ),
    (
        build_record("3.2.0", Verdict.AT_FLOOR, 0),
        "3.2.0: no further from transformers than transformers is from itself, up to 4k tokens; "
        "all 64 frequencies right; 0.9 times the floor's error at 4k tokens.",
    ),
    (
        build_record(
            "3.9.0",
            wrong=0,
            contexts=(
                build_context(256, Verdict.AT_FLOOR),
                build_context(4096, Verdict.DRIFTS, first_wrong=1234),
            ),
        ),
        "3.9.0: wrong from token 1,234; all 64 frequencies right; 8.8 times the floor's error at "
        "4k tokens, growing with the position.",
    ),
    (
        not_installed(),
        "2.12.0: it cannot be installed here (No matching distribution found).",
    ),
    (
        build_record(ending="DIED", reason="the worker was killed", at=(256,)),
        "2.9.0: wrong from token 1; 13 of 64 frequencies wrong; 8.8 times the floor's error at 256 "
        "tokens, growing with the position; its process died beyond 256 tokens (the worker was "
        "killed).",
    ),
]


@pytest.mark.parametrize(("record", "expected"), CASES, ids=[r.name for r, _ in CASES])
def test_sentences(record: AuditRecord, expected: str) -> None:
    """For each way in which an audit can end."""
    assert sentence(record) == expected
