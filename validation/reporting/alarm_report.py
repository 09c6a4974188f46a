"""Writes what the study of false alarms found: Markdown and a picture, beside its JSON lines."""

from pathlib import Path

from rich.console import Console

from transformer_lens_fork.atomic import building_folder
from validation.reporting.alarm_content import AlarmReport, compose_alarms
from validation.reporting.alarm_plot import draw_alarms
from validation.reporting.alarm_records import AlarmProvenance, AlarmRecord
from validation.reporting.plot import render_png
from validation.reporting.report import markdown_environment
from validation.reporting.tables import Column, Row, Table, shorten

MARKDOWN = "alarms.md"
PLOT = "alarms.png"


def write_alarm_report(records: list[AlarmRecord], folder: Path) -> AlarmReport:
    """Writes `alarms.md` and `alarms.png` to `folder`, each whole or not at all."""
    report = compose_alarms(records)
    template = markdown_environment().get_template("alarms.md.jinja")
    common = _tabulate_provenance(records[0].provenance)
    text = template.render(report=report, plot=PLOT, common=common)
    with building_folder(folder) as scratch:
        (scratch / PLOT).write_bytes(render_png(draw_alarms(records)))
        (scratch / MARKDOWN).write_text(text, encoding="utf-8")
        for name in (PLOT, MARKDOWN):
            (scratch / name).replace(folder / name)
    return report


def print_alarms(report: AlarmReport, folder: Path) -> None:
    """The headlines, every false alarm with its reason, and where the report is."""
    console = Console()
    for headline in report.headlines:
        console.print(headline, markup=False)
    for row in report.alarms.rows:
        console.print(f"FAIL {' '.join(row.cells[:5])}: {row.cells[-1]}", markup=False)
    console.print(f"Report: {folder.absolute() / MARKDOWN}", markup=False, soft_wrap=True)


def _tabulate_provenance(provenance: AlarmProvenance) -> Table:
    """What all records were measured with: it is part of the key by which they are chosen."""
    own = provenance.model_dump(
        exclude={"key", "checkpoint_sha256", "packages", "settings", "measured_at"}
    )
    fields = {**provenance.packages, **own, **provenance.settings}
    rows = (Row((name, shorten(None if v is None else str(v)))) for name, v in fields.items())
    columns = (Column("what", "text"), Column("value", "text"))
    return Table("The same for all comparisons", columns, tuple(rows))
