"""The page says what the records say, and its picture shows every release."""

from pathlib import Path

from matplotlib.figure import Figure

from validation.audit.plot import draw_audit
from validation.audit.records import AuditRecord
from validation.audit.report import compose_audit, tabulate_verdicts, write_audit_report
from validation.judgement.verdict import Verdict
from validation.tests.audit.conftest import build_record, not_installed

RECORDS: list[AuditRecord] = [
    build_record("2.7.0", Verdict.BEYOND_FLOOR, 35),
    build_record("2.8.1"),
    build_record("2.9.0"),
    not_installed("2.12.0"),
    build_record("2.13.0"),
    build_record("4.3.0", Verdict.IDENTICAL, 0),
    build_record("4.3.0", Verdict.AT_FLOOR, 0, attention="sdpa"),
]


def test_neighbours_with_the_same_figures_share_a_row() -> None:
    """What lies between them does not: it is not known to be the same."""
    rows = tabulate_verdicts(RECORDS).rows
    assert [row.cells[0] for row in rows] == [
        "2.7.0",
        "2.8.1, 2.9.0",
        "2.12.0",
        "2.13.0",
        "4.3.0",
        "4.3.0 sdpa",
    ]
    assert rows[1].cells[1:] == ("4.57.6", "DRIFTS", "DRIFTS", "8.85", "1", "13 of 64")
    assert rows[2].cells[1:] == ("-", "NOT_INSTALLED", "NOT_INSTALLED", "-", "-", "-")
    assert rows[4].cells[1:] == ("4.57.6", "IDENTICAL", "IDENTICAL", "0", "-", "0 of 64")


def test_every_release_has_a_sentence_and_a_place(tmp_path: Path) -> None:
    """In the Markdown, in the order of the records; the picture lies beside it."""
    report = write_audit_report(RECORDS, tmp_path)
    assert len(report.sentences) == len(RECORDS)
    text = (tmp_path / "audit.md").read_text(encoding="utf-8")
    for release in ("2.7.0", "2.12.0", "4.3.0"):
        assert f"- {release}: " in text
    assert "No matching distribution found" in text
    assert "![Error of the logits by release](audit.png)" in text
    assert (tmp_path / "audit.png").read_bytes().startswith(b"\x89PNG")


def test_notes_say_for_which_contexts_they_hold() -> None:
    """A note that holds for all of them says nothing of that."""
    record = RECORDS[1]
    first, last = record.contexts
    longer = last.model_copy(update={"notes": (*last.notes, "given n_ctx 4096")})
    changed = record.model_copy(update={"contexts": (first, longer)})
    ((name, notes),) = (row.cells for row in compose_audit([changed]).notes.rows)
    assert name == "2.8.1"
    assert notes == "it has n_ctx 2048 for Llama 3.1; given n_ctx 4096 (4k tokens)"


def test_the_picture_has_a_column_for_every_release() -> None:
    """Also for those without an error: no difference at the foot, no result as a cross."""
    figure: Figure = draw_audit(RECORDS)
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [r.name for r in RECORDS]
    texts = {text.get_text() for text in axes.texts}
    assert {"no logit differs", "not installed"} <= texts
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["floor", "256 tokens", "4k tokens"]
    figure.canvas.draw()
    low, high = axes.get_ylim()
    errors = [c.mean_abs for r in RECORDS for c in r.contexts if c.mean_abs]
    assert low < min(errors) <= max(errors) < high
