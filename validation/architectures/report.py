"""What the comparison of architectures says: Markdown, and the lines at its end."""

from pathlib import Path

from rich.console import Console

from transformer_lens_fork.atomic import building_folder
from validation.architectures.records import ArchitectureRecord, Errors, SurfaceRecord
from validation.architectures.verdict import Outcome
from validation.reporting.report import markdown_environment
from validation.reporting.tables import Column, Row, Table, shorten
from validation.reporting.wording import ABSENT, count, error

MARKDOWN = "architectures.md"

_KINDS = ("logits", "processed", "gradients")

_NAMES = ("architecture", "computed by", "dtype", "verdict")
_FIGURES = (
    "logits that differ",
    "error, stock",
    "fork",
    "fork / stock",
    "largest, stock",
    "fork",
    "processed: error, stock",
    "fork",
    "gradients: error, stock",
    "fork",
)


def tabulate_architectures(records: list[ArchitectureRecord]) -> Table:
    """One row an architecture and dtype."""
    kinds = {"verdict": "verdict"}
    columns = [Column(name, "verdict" if name in kinds else "text") for name in _NAMES]
    return Table(
        "Every architecture: mean absolute errors to HF",
        (*columns, *map(Column, _FIGURES)),
        tuple(Row(_cells(record), record.outcome.is_failure) for record in records),
    )


def tabulate_briefly(records: list[ArchitectureRecord]) -> Table:
    """Of what the README has room for: those that are not the same, and the others in one row."""
    headings = ("logits that differ", "error, stock", "fork", "fork / stock")
    rows = [
        Row((record.architecture, record.dtype, record.verdict, *_cells(record)[4:8]))
        for record in records
        if record.outcome is not Outcome.SAME
    ]
    for dtype in dict.fromkeys(record.dtype for record in records):
        same = [r for r in records if r.outcome is Outcome.SAME and r.dtype == dtype]
        if same:
            names = ", ".join(record.architecture for record in same)
            total = sum(record.logits.total for record in same if record.logits)
            rows.append(
                Row((names, dtype, Outcome.SAME.name, f"0 of {count(total)}", *[ABSENT] * 3))
            )
    columns = (*(Column(name, "text") for name in ("architecture", "dtype", "verdict")),)
    return Table("Architectures", (*columns, *map(Column, headings)), tuple(rows))


def _cells(record: ArchitectureRecord) -> tuple[str, ...]:
    by = record.reference or ABSENT
    by += f" for {record.stands_for}" if record.stands_for else ""
    logits, processed, gradients = (getattr(record, kind) for kind in _KINDS)
    return (
        record.architecture,
        by,
        record.dtype,
        record.verdict,
        _differing(logits),
        *_means(logits),
        _quotient(logits),
        *((ABSENT,) * 2 if logits is None else (error(logits.before_max), error(logits.after_max))),
        *_means(processed),
        *_means(gradients),
    )


def _differing(errors: Errors | None) -> str:
    return ABSENT if errors is None else f"{count(errors.differing)} of {count(errors.total)}"


def _means(errors: Errors | None) -> tuple[str, str]:
    return (ABSENT, ABSENT) if errors is None else (error(errors.before), error(errors.after))


def _quotient(errors: Errors | None) -> str:
    if errors is None or errors.after is None or not errors.before:
        return ABSENT
    quotient = errors.after / errors.before
    # What is no more than nearer is not rounded to 1.
    return f"{quotient:.3f}" if quotient == 1 or abs(1 - quotient) > 5e-4 else f"{quotient:.5f}"


def headlines(records: list[ArchitectureRecord], surface: SurfaceRecord | None) -> list[str]:
    """What came of it, in sentences."""
    said = []
    for outcome in Outcome:
        found = [record for record in records if record.outcome is outcome]
        if found:
            said.append(f"{len(found)} of {len(records)} {outcome.name}: {outcome.value}.")
    if surface is not None:
        said.append(
            f"{count(surface.signatures)} public signatures: {len(surface.narrowed)} narrowed, "
            f"{len(surface.grown)} with new parameters, {surface.added} new names."
        )
        said.append(
            f"{surface.configurations} configurations by official name: {len(surface.fields)} "
            "with another value."
        )
    return said


def write_architectures(
    records: list[ArchitectureRecord], surface: SurfaceRecord | None, folder: Path
) -> None:
    """Writes `architectures.md` to `folder`, whole or not at all."""
    template = markdown_environment().get_template("architectures.md.jinja")
    text = template.render(
        headlines=headlines(records, surface),
        architectures=tabulate_architectures(records),
        reasons=_reasons([record for record in records if record.outcome.is_failure]),
        nearer=_reasons([record for record in records if record.outcome is Outcome.NEARER]),
        ways=_ways(records),
        surface=surface,
        grown=_grown(surface),
        fields=_fields(surface),
        common=_common(records[0]),
    )
    with building_folder(folder) as scratch:
        (scratch / MARKDOWN).write_text(text, encoding="utf-8")
        (scratch / MARKDOWN).replace(folder / MARKDOWN)


def print_architectures(
    records: list[ArchitectureRecord], surface: SurfaceRecord | None, folder: Path
) -> None:
    """The headlines, what fails with its reason, and where the report is."""
    console = Console()
    for headline in headlines(records, surface):
        console.print(headline, markup=False, soft_wrap=True)
    for line in failures(records, surface):
        console.print(f"FAIL {line}", markup=False, soft_wrap=True)
    console.print(f"Report: {folder.absolute() / MARKDOWN}", markup=False, soft_wrap=True)


def failures(records: list[ArchitectureRecord], surface: SurfaceRecord | None) -> list[str]:
    """What must not be, a sentence each."""
    return [
        *(f"{r.architecture} {r.dtype}: {r.reason}" for r in records if r.outcome.is_failure),
        *(surface.narrowed if surface is not None else ()),
    ]


def _reasons(records: list[ArchitectureRecord]) -> list[str]:
    return [f"{r.architecture}, {r.dtype}: {r.verdict}, {r.reason}" for r in records]


def _ways(records: list[ArchitectureRecord]) -> list[str]:
    ways: dict[str, list[str]] = {}
    for record in records:
        names = ways.setdefault(record.way, [])
        if record.architecture not in names:
            names.append(record.architecture)
    return [f"{way}: {', '.join(names)}" for way, names in ways.items() if way]


def _grown(surface: SurfaceRecord | None) -> list[str]:
    grown = {} if surface is None else surface.grown
    return [f"{name}: {', '.join(new)}" for name, new in grown.items()]


def _fields(surface: SurfaceRecord | None) -> list[str]:
    fields = {} if surface is None else surface.fields
    return [
        f"{name}: {field} {before}, now {after}"
        for name, changed in fields.items()
        for field, (before, after) in changed.items()
    ]


def _common(record: ArchitectureRecord) -> Table:
    """What all records were measured with: it is part of the key by which they are chosen."""
    own = record.provenance.model_dump(exclude={"key", "packages", "settings", "measured_at"})
    fields = {**record.provenance.packages, **own, **record.provenance.settings}
    rows = (Row((name, shorten(None if v is None else str(v)))) for name, v in fields.items())
    columns = (Column("what", "text"), Column("value", "text"))
    return Table("The same for all", columns, tuple(rows))
