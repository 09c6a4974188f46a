"""Writes what the bench found: Markdown and a picture, beside its JSON lines."""

from pathlib import Path

from rich.console import Console

from transformer_lens_fork.atomic import building_folder
from validation.reporting.bench_content import LABELS, BenchReport, compose_bench
from validation.reporting.bench_plot import draw_bench
from validation.reporting.bench_records import BenchRecord
from validation.reporting.console import print_tables
from validation.reporting.plot import render_png
from validation.reporting.report import markdown_environment
from validation.reporting.tables import Column, Row, Table, differing_names, shorten

MARKDOWN = "bench.md"
PLOT = "bench.png"


def write_bench_report(records: list[BenchRecord], folder: Path) -> BenchReport:
    """Writes `bench.md` and `bench.png` to `folder`, each whole or not at all."""
    report = compose_bench(records)
    template = markdown_environment().get_template("bench.md.jinja")
    common = _tabulate_provenance(records)
    text = template.render(report=report, record=records[0], plot=PLOT, common=common)
    with building_folder(folder) as scratch:
        (scratch / PLOT).write_bytes(render_png(draw_bench(records)))
        (scratch / MARKDOWN).write_text(text, encoding="utf-8")
        for name in (PLOT, MARKDOWN):
            (scratch / name).replace(folder / name)
    return report


def print_bench(report: BenchReport, folder: Path) -> None:
    """Time and memory as tables, the headlines, what was not measured, and where the report is."""
    print_tables(report.seconds, report.memory, report.growth)
    console = Console()
    for headline in report.headlines:
        console.print(headline, markup=False)
    for row in report.missing.rows if report.missing else ():
        *point, what, why = row.cells
        console.print(f"{' '.join(point)}: {what}: {why}", markup=False)
    console.print(f"Report: {folder.absolute() / MARKDOWN}", markup=False, soft_wrap=True)


def _tabulate_provenance(records: list[BenchRecord]) -> Table:
    """What all points were measured with; what is not the same for all is in the JSON lines."""
    fields = [_flatten(record) for record in records]
    differing = differing_names(fields)
    rows = (Row((name, shorten(v))) for name, v in fields[0].items() if name not in differing)
    columns = (Column("what", "text"), Column("value", "text"))
    return Table("The same for all points", columns, tuple(rows))


def _flatten(record: BenchRecord) -> dict[str, str]:
    provenance = record.provenance.model_dump(exclude={"key", "packages", "settings"})
    own = record.model_dump(include={"checkpoint", "base", "dtype", "device", "repeats"})
    trees = {
        f"{LABELS[turns.contestant]}: {name}": value
        for turns in record.turns
        for name, value in (("tree", turns.tree_sha256), ("series", turns.series_sha256))
        if value is not None
    }
    every = {
        **record.provenance.packages,
        **own,
        **trees,
        **provenance,
        **record.provenance.settings,
    }
    return {name: str(value) for name, value in every.items()}
