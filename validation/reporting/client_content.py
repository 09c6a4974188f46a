"""What came of the clients, in tables of no format yet."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from validation.clients.catalogue import CLIENTS
from validation.clients.judging import judge_client
from validation.reporting.client_records import Attempt, ClientRecord, Ending, Figure, Outcome
from validation.reporting.report import markdown_environment
from validation.reporting.tables import Column, Row, Table

MARKDOWN = "clients.md"


@dataclass(frozen=True)
class ClientReport:
    """Tables of all exercises and of what was measured in them, and which broke."""

    exercises: Table
    figures: Table
    notes: tuple[str, ...]
    broken: tuple[str, ...]


def compose_clients(records: Sequence[ClientRecord]) -> ClientReport:
    """The report of all records."""
    return ClientReport(
        tabulate_clients(records),
        _tabulate_figures(records),
        tuple(dict.fromkeys(filter(None, map(_note, records)))),
        tuple(_name(r) for r in records if _outcome(r).is_break),
    )


def tabulate_clients(records: Iterable[ClientRecord]) -> Table:
    """One row an exercise: how it ended on each tree, and what came of it."""
    columns = (Column("client", "text"), Column("exercise", "text"), Column("stock", "text"))
    more = (Column("fork", "text"), Column("outcome", "verdict"), Column("in detail", "text"))
    rows = (
        Row(
            (
                f"{r.client} {r.version}",
                r.exercise,
                _ended(r.stock),
                _ended(r.fork),
                _outcome(r).value,
                judge_client(r.stock, r.fork)[1].replace("|", "/"),
            ),
            _outcome(r).is_break,
        )
        for r in records
    )
    return Table("Clients on the release and on the fork", (*columns, *more), tuple(rows))


def write_client_report(records: Sequence[ClientRecord], folder: Path) -> ClientReport:
    """Writes `clients.md` to `folder`."""
    report = compose_clients(records)
    template = markdown_environment().get_template("clients.md.jinja")
    names = {record.client for record in records}
    clients = [client for client in CLIENTS if client.name in names]
    text = template.render(report=report, clients=clients, provenance=records[0].provenance)
    (folder / MARKDOWN).write_text(text, encoding="utf-8")
    return report


def print_clients(report: ClientReport, folder: Path) -> None:
    """Every exercise in a line, what broke, and where the report is."""
    console = Console()
    for row in report.exercises.rows:
        mark = "FAIL " if row.is_failure else ""
        line = f"{mark}{row.cells[0]}, {row.cells[1]}: {row.cells[4]} ({row.cells[5]})"
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"Report: {folder.absolute() / MARKDOWN}", markup=False, soft_wrap=True)


def _tabulate_figures(records: Iterable[ClientRecord]) -> Table:
    columns = (Column("client", "text"), Column("exercise", "text"), Column("measured", "text"))
    more = (Column("stock"), Column("fork"), Column("at most"))
    rows = []
    for record in records:
        stock = {figure.figure: figure for figure in _figures(record.stock)}
        for figure in _figures(record.fork):
            theirs = stock.get(figure.figure)
            cells = (_number(theirs.value if theirs else None), _number(figure.value))
            limit = _number(figure.at_most)
            rows.append(Row((record.client, record.exercise, figure.figure, *cells, limit)))
    return Table("What was measured", (*columns, *more), tuple(rows))


def _figures(attempt: Attempt) -> list[Figure]:
    return [seen for seen in attempt.seen if isinstance(seen, Figure)]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _ended(attempt: Attempt) -> str:
    return attempt.ending.value if attempt.ending is not Ending.COMPLETED else "runs"


def _outcome(record: ClientRecord) -> Outcome:
    return judge_client(record.stock, record.fork)[0]


def _name(record: ClientRecord) -> str:
    return f"{record.client}, {record.exercise}"


def _note(record: ClientRecord) -> str:
    note = record.provenance.note
    return f"{record.client} {record.version}: {note}" if note else ""
