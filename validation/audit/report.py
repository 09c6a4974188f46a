"""Writes the page of all releases: Markdown and a picture, beside its JSON lines."""

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from rich.console import Console

from transformer_lens_fork.atomic import building_folder
from validation.audit.frequencies import LLAMA_31_8B
from validation.audit.plot import draw_audit
from validation.audit.records import AuditRecord, ContextRecord
from validation.audit.sentences import first_wrong, sentence
from validation.reporting.plot import render_png
from validation.reporting.report import markdown_environment
from validation.reporting.tables import Column, Row, Table, differing_names, shorten
from validation.reporting.wording import ABSENT, count, error, tokens

MARKDOWN = "audit.md"
PLOT = "audit.png"


@dataclass(frozen=True)
class AuditReport:
    """What people read of an audit.

    Attributes:
        sentences: one a release.
        verdicts: table of them, with the figures they rest on.
        errors: table of the logits' errors.
        installed: table of what each release ran with.
        notes: table of how releases were loaded, those alike together.
        common: table of what all were measured with.
        record: one of them, for what is the same for all.
    """

    sentences: tuple[str, ...]
    verdicts: Table
    errors: Table
    installed: Table
    notes: Table
    common: Table
    record: AuditRecord


def compose_audit(records: list[AuditRecord]) -> AuditReport:
    """The report on these releases, in this order."""
    return AuditReport(
        sentences=tuple(map(sentence, records)),
        verdicts=tabulate_verdicts(records),
        errors=_tabulate_errors(records),
        installed=_tabulate_installed(records),
        notes=_tabulate_notes(records),
        common=_tabulate_provenance(records),
        record=records[-1],
    )


def write_audit_report(records: list[AuditRecord], folder: Path) -> AuditReport:
    """Writes `audit.md` and `audit.png` to `folder`, each whole or not at all."""
    report = compose_audit(records)
    text = markdown_environment().get_template("audit.md.jinja").render(report=report, plot=PLOT)
    with building_folder(folder) as scratch:
        (scratch / PLOT).write_bytes(render_png(draw_audit(records)))
        (scratch / MARKDOWN).write_text(text, encoding="utf-8")
        for name in (PLOT, MARKDOWN):
            (scratch / name).replace(folder / name)
    return report


def print_audit(report: AuditReport, folder: Path) -> None:
    """The sentences, and where the report is."""
    console = Console()
    for line in report.sentences:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"Report: {folder.absolute() / MARKDOWN}", markup=False, soft_wrap=True)


def tabulate_verdicts(records: list[AuditRecord]) -> Table:
    """A row for each run of neighbouring releases with the same figures."""
    contexts = sorted({context.context for record in records for context in record.contexts})
    columns = (
        *(Column(name, "text") for name in ("release", "transformers")),
        *(Column(f"{tokens(context)} tokens", "text") for context in contexts),
        Column("x floor"),
        Column("first wrong token"),
        Column("wrong frequencies"),
    )
    rows = [_verdict_cells(record, contexts) for record in records]
    named = zip(records, rows, strict=True)
    merged = []
    for cells, group in groupby(named, key=lambda pair: pair[1]):
        names = [record.name for record, _ in group]
        merged.append(Row((", ".join(names), *cells)))
    return Table("Every release", columns, tuple(merged))


def _verdict_cells(record: AuditRecord, contexts: list[int]) -> tuple[str, ...]:
    by_context = {context.context: context for context in record.contexts}
    verdicts = [
        by_context[context].verdict if context in by_context else record.ending
        for context in contexts
    ]
    position = first_wrong(record)
    frequencies = record.frequencies.get(LLAMA_31_8B)
    return (
        record.installed.get("transformers", ABSENT),
        *verdicts,
        _times(record.contexts[-1]) if record.contexts else ABSENT,
        ABSENT if position is None else count(position),
        f"{frequencies.wrong} of {frequencies.total}" if frequencies else ABSENT,
    )


def _times(context: ContextRecord) -> str:
    ratio = context.parity_ratio
    if ratio is None:
        return ABSENT
    return "0" if ratio == 0 else f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.2f}"


def _tabulate_errors(records: list[AuditRecord]) -> Table:
    headings = ("logits that differ", "mean error", "floor", "x floor", "other top token")
    columns = (Column("release", "text"), Column("tokens", "text"), *map(Column, headings))
    rows = (
        Row((record.name, tokens(context.context), *_error_cells(context)))
        for record in records
        for context in record.contexts
    )
    return Table("Errors of the logits", columns, tuple(rows))


def _error_cells(context: ContextRecord) -> tuple[str, ...]:
    return (
        f"{count(context.logits_differing)} of {count(context.logits_total)}",
        error(context.mean_abs),
        error(context.floor_mean_abs),
        _times(context),
        f"{1 - context.top1_agreement:.1%}",
    )


def _tabulate_installed(records: list[AuditRecord]) -> Table:
    names = dict.fromkeys(name for record in records for name in record.installed)
    columns = ("release", "model", *names, "overridden", "wheel")
    rows = (
        Row(
            (
                record.release,
                record.model or ABSENT,
                *(record.installed.get(name, ABSENT) for name in names),
                ", ".join(record.overridden) or ABSENT,
                shorten(record.wheel_sha256),
            )
        )
        for record in {record.release: record for record in records}.values()
    )
    headed = tuple(Column(name, "text") for name in columns)
    return Table("What each release ran with", headed, tuple(rows))


def _tabulate_notes(records: list[AuditRecord]) -> Table:
    noted = [(record, _notes(record)) for record in records if record.contexts]
    rows = []
    for notes, group in groupby(noted, key=lambda pair: pair[1]):
        rows.append(Row((", ".join(record.name for record, _ in group), notes)))
    return Table(
        "How they were loaded", (Column("release", "text"), Column("how", "text")), tuple(rows)
    )


def _notes(record: AuditRecord) -> str:
    """Every note once, with the contexts that it holds for where not for all."""
    where: dict[str, list[str]] = {}
    for context in record.contexts:
        for note in context.notes:
            where.setdefault(note, []).append(tokens(context.context))
    return "; ".join(
        note if len(held) == len(record.contexts) else f"{note} ({', '.join(held)} tokens)"
        for note, held in where.items()
    )


def _tabulate_provenance(records: list[AuditRecord]) -> Table:
    """What all were measured with; what is not the same for all is in the JSON lines."""
    fields = [_flatten(record) for record in records]
    differing = differing_names(fields)
    rows = (Row((name, shorten(v))) for name, v in fields[0].items() if name not in differing)
    columns = (Column("what", "text"), Column("value", "text"))
    return Table("The same for all releases", columns, tuple(rows))


def _flatten(record: AuditRecord) -> dict[str, str]:
    provenance = record.provenance
    own = record.model_dump(include={"checkpoint", "dtype"})
    others = provenance.model_dump(exclude={"key", "packages", "settings"})
    every = {**provenance.packages, **own, **others, **provenance.settings}
    return {name: str(value) for name, value in every.items()}
