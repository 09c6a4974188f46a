"""What people read of a study: Markdown with its plots beside it, and one page of HTML."""

from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from transformer_lens_fork.atomic import building_folder
from validation.reporting.plot import render_png
from validation.reporting.report import html_environment, markdown_environment
from validation.reporting.tables import Column, Row, Table, shorten
from validation.studies.records import StudyRecord

MARKDOWN = "study.md"
HTML = "study.html"


@dataclass(frozen=True)
class Picture:
    """A plot.

    Attributes:
        name: of its file, without `.png`.
        figure: the plot.
        alt: what it shows, for those who do not see it.
        caption: how to read it.
    """

    name: str
    figure: Figure
    alt: str
    caption: str


@dataclass(frozen=True)
class Page:
    """A study as people read it.

    Attributes:
        title: of the page.
        question: what was asked.
        method: what was done, a paragraph each.
        findings: a sentence each, whose figures follow from the records.
        pictures: the plots.
        tables: the figures.
        limits: what this cannot tell, a sentence each.
    """

    title: str
    question: str
    method: tuple[str, ...]
    findings: tuple[str, ...]
    pictures: tuple[Picture, ...]
    tables: tuple[Table, ...]
    limits: tuple[str, ...]


def write_page(page: Page, records: list[StudyRecord], folder: Path) -> None:
    """Writes `study.md`, `study.html` and the plots to `folder`, each whole or not at all."""
    common = _tabulate_provenance(records)
    images = {picture.name: render_png(picture.figure) for picture in page.pictures}
    encoded = {name: b64encode(image).decode("ascii") for name, image in images.items()}
    markdown = markdown_environment().get_template("study.md.jinja")
    html = html_environment().get_template("study.html.jinja")
    files = {f"{name}.png": image for name, image in images.items()}
    files[MARKDOWN] = markdown.render(page=page, common=common).encode()
    files[HTML] = html.render(page=page, common=common, images=encoded).encode()
    with building_folder(folder) as scratch:
        for name, content in files.items():
            (scratch / name).write_bytes(content)
        for name in files:
            (scratch / name).replace(folder / name)


def _tabulate_provenance(records: list[StudyRecord]) -> Table:
    first = records[0]
    provenance = first.provenance
    fields = {
        "checkpoint": first.checkpoint,
        "layers": provenance.layers,
        "dtype": first.dtype,
        "device": first.device,
        "base": first.base,
        "git_commit": provenance.git_commit,
        "series_sha256": provenance.series_sha256,
        "checkpoint_sha256": provenance.checkpoint_sha256,
        "prompt_source": provenance.prompt_source,
        "prompt_sha256": provenance.prompt_sha256,
        "seconds, all units": round(sum(record.seconds for record in records)),
        **provenance.packages,
        **provenance.settings,
    }
    rows = tuple(Row((name, shorten(str(value)))) for name, value in fields.items())
    columns = (Column("what", "text"), Column("value", "text"))
    return Table("Of the first unit; every unit has its own in study.jsonl", columns, rows)
