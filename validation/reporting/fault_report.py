"""Writes what a run of planted faults found: JSON lines, Markdown and the matrix as a picture."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from transformer_lens_fork.atomic import building_folder
from validation.reporting.fault_content import FaultReport, compose_faults
from validation.reporting.fault_plot import draw_fault_matrix
from validation.reporting.fault_records import (
    EFFECTS,
    FAULTS,
    EffectRecord,
    FaultRecord,
    write_records,
)
from validation.reporting.plot import render_png
from validation.reporting.report import markdown_environment
from validation.reporting.results import Result
from validation.reporting.tables import Table, tabulate_provenance

MARKDOWN = "faults.md"
PLOT = "fault_matrix.png"

_LOG_WIDTH = 140
"""A log has no width of its own."""


def write_fault_report(
    records: list[FaultRecord], effects: list[EffectRecord], sound: list[Result], folder: Path
) -> FaultReport:
    """Writes `faults.jsonl`, `mde.jsonl`, `faults.md` and `fault_matrix.png`.

    Args:
        records: of every fault.
        effects: minimum detectable effects; none if they were not asked for.
        sound: of the sound fork, which was measured with the same.
        folder: where they are written, each whole or not at all.
    """
    report = compose_faults(records, effects)
    write_records(folder, FAULTS, records)
    if effects:
        write_records(folder, EFFECTS, effects)
    with building_folder(folder) as scratch:
        (scratch / PLOT).write_bytes(render_png(draw_fault_matrix(records)))
        (scratch / MARKDOWN).write_text(_render(report, sound), encoding="utf-8")
        for name in (PLOT, MARKDOWN):
            (scratch / name).replace(folder / name)
    return report


def _render(report: FaultReport, sound: list[Result]) -> str:
    common, _ = tabulate_provenance(sound)
    template = markdown_environment().get_template("faults.md.jinja")
    return template.render(report=report, plot=PLOT, common=common)


def print_faults(report: FaultReport, folder: Path) -> None:
    """The matrix, the rates and the headlines, on standard output."""
    console = Console()
    if not console.is_terminal:
        console.width = _LOG_WIDTH
    for table in (report.matrix, report.left, report.effects, report.rates):
        if table is not None and table.rows:
            console.print(_rich_table(table))
    for headline in report.headlines:
        console.print(headline, markup=False)
    console.print(f"Report: {folder.absolute() / MARKDOWN}", markup=False, soft_wrap=True)


def _rich_table(table: Table) -> RichTable:
    shown = [index for index, column in enumerate(table.columns) if column.heading != "mistake"]
    rich_table = RichTable(title=table.caption)
    for index in shown:
        column = table.columns[index]
        justify = "right" if column.kind == "number" else "left"
        rich_table.add_column(column.heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in table.rows:
        rich_table.add_row(*(escape(row.cells[index]) for index in shown))
    return rich_table
