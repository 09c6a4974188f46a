"""The report on false alarms counts what the records say."""

from pathlib import Path
from typing import Any

import pytest

from validation.judgement.floor_rules import POOLED, SMALLER_BY_BIN
from validation.judgement.verdict import Verdict
from validation.reporting.alarm_content import compose_alarms, false_alarms
from validation.reporting.alarm_plot import draw_alarms
from validation.reporting.alarm_rate import upper_rate
from validation.reporting.alarm_records import AlarmRecord
from validation.reporting.readme import render_document
from validation.tests.reporting.conftest import digest


def rule(verdict: Verdict, ratio: float) -> dict[str, Any]:
    """A comparison under one floor."""
    return {"verdict": verdict.name, "parity_ratio": ratio, "worst_ratio": 1.1 * ratio}


def comparison(kind: str, verdict: Verdict, smaller: Verdict, **changes: Any) -> dict[str, Any]:
    """One that the pooled floor and the smaller one judge as given."""
    is_same = verdict is Verdict.IDENTICAL
    return {
        "kind": kind,
        "is_clean": True,
        "is_fault": False,
        "logits_differing": 0 if is_same else 7,
        "reason": f"because it is {kind}",
        "judged": rule(verdict, 0.0 if is_same else 1.4),
        "rules": {} if is_same else {SMALLER_BY_BIN: rule(smaller, 3.0)},
        "slope": None if is_same else {"value": 0.0, "low": -0.1, "high": 0.1},
        "power_ratio": 50.0,
        "top1_counted": 0,
        **changes,
    }


def record(*comparisons: dict[str, Any], dtype: str = "float32") -> AlarmRecord:
    """All that share one reference."""
    return AlarmRecord.model_validate(
        {
            "llama": "gqa-32",
            "seed": 0,
            "dtype": dtype,
            "context": 256,
            "floors": {"kernel": 1e-6, "channels": 3e-6},
            "comparisons": comparisons,
            "seconds": 1.0,
            "provenance": {
                "key": digest(dtype, *(c["kind"] for c in comparisons)),
                "harness_sha256": digest("harness"),
                "git_commit": "1f" * 20,
                "git_dirty": False,
                "tree_sha256": digest("tree"),
                "series_sha256": digest("series"),
                "sdist_sha256": digest("sdist"),
                "checkpoint_sha256": digest("checkpoint"),
                "packages": {"torch": "2"},
                "settings": {"threads": "1"},
                "measured_at": "2026-11-24T00:00:00+00:00",
            },
        }
    )


CLEAN = (
    comparison("WHOLE", Verdict.IDENTICAL, Verdict.IDENTICAL),
    comparison("PERMUTED", Verdict.AT_FLOOR, Verdict.BEYOND_FLOOR),
    comparison("CHUNKS", Verdict.BLIND, Verdict.AT_FLOOR),
)
FAULT = comparison("low-1-percent", Verdict.AT_FLOOR, Verdict.DRIFTS, is_clean=False, is_fault=True)


def test_false_alarms_and_kills_are_counted_by_floor() -> None:
    """Identical ones rest on no floor, BLIND is no alarm, and a fault is no clean comparison."""
    report = compose_alarms([record(*CLEAN, FAULT)])
    assert report.headlines[0].startswith("False alarms: 0 in 3 clean comparisons. 1 are identical")
    assert "1 of them BLIND" in report.headlines[0]
    cells = {row.cells[0]: row.cells for row in report.rules.rows}
    assert cells[POOLED][1:3] == ("0 of 2", "0 of 1")
    assert cells[POOLED][4] == "0 of 1"
    assert cells[SMALLER_BY_BIN][1:3] == ("1 of 2", "1 of 1")
    assert cells[SMALLER_BY_BIN][4] == "1 of 1"
    assert not report.alarms.rows


def test_a_false_alarm_is_named() -> None:
    """With its reason; the rate is of references, which are independent."""
    failing = comparison("CHUNKS", Verdict.DRIFTS, Verdict.DRIFTS)
    records = [record(*CLEAN), record(failing, dtype="bfloat16")]
    report = compose_alarms(records)
    assert len(false_alarms(records)) == 1
    assert report.headlines[0].startswith("False alarms: 1 in 4")
    assert "of 2 references 1 have an alarm" in report.headlines[1]
    (row,) = report.alarms.rows
    assert row.cells[-2:] == ("DRIFTS", "because it is CHUNKS")
    assert [row.cells[0] for row in report.dtypes.rows] == ["float32", "bfloat16"]


def test_weights_rounded_again_stand_beside() -> None:
    """They fail and are no alarm."""
    folded = comparison("FOLDED", Verdict.BEYOND_FLOOR, Verdict.BEYOND_FLOOR, is_clean=False)
    records = [record(*CLEAN, folded, dtype="bfloat16")]
    report = compose_alarms(records)
    assert not false_alarms(records)
    assert report.beside is not None
    assert report.beside.rows[0].cells[0] == "FOLDED bfloat16"


def test_the_plot_shows_every_kind() -> None:
    """A row for each, in the order of the kinds, with the limit between the ticks."""
    figure = draw_alarms([record(*CLEAN), record(*CLEAN, dtype="float16")])
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["whole", "chunks", "permuted"]
    assert "more than 2 fails" in axes.get_xlabel()


def test_the_readme_can_show_them(tmp_path: Path) -> None:
    """A row for every dtype, drawn from the records as they are."""
    folder = tmp_path / "alarms"
    folder.mkdir()
    (folder / "alarms.jsonl").write_text(record(*CLEAN).model_dump_json() + "\n", encoding="utf-8")
    document = tmp_path / "README.md"
    document.write_text("<!-- evidence: alarms -->\n<!-- end of evidence -->", encoding="utf-8")
    drawn = render_document(document, tmp_path)
    assert "| float32 | 3 | 1 | 1 | 1 | 0 | 1.40 | 1.40 | 1.40 | 1.54 | -0.10 |" in drawn
    document.write_text(drawn, encoding="utf-8")
    assert render_document(document, tmp_path) == drawn


def test_upper_rate() -> None:
    """The rule of three, and what an alarm adds to it."""
    assert upper_rate(0, 300) == pytest.approx(3 / 300, rel=0.01)
    assert upper_rate(1, 300) > 1.5 * upper_rate(0, 300)
    assert upper_rate(5, 5) == 1.0
    with pytest.raises(ValueError, match="0 alarms of 0 trials"):
        upper_rate(0, 0)
