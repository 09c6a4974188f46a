"""Writes what people read: Markdown, a page of HTML, and the plot in both."""

import re
from base64 import b64encode
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from transformer_lens_fork.atomic import building_folder
from validation.reporting.content import Report, arrange, compose
from validation.reporting.plot import draw_error_by_position, render_png
from validation.reporting.results import Result
from validation.reporting.staged import StageResult

MARKDOWN = "report.md"
HTML = "report.html"
PLOT = "error_by_position.png"

_TEMPLATES = Path(__file__).with_name("templates")

# An underscore within a word is no markup, and words like AT_FLOOR stay readable without a slash.
_MARKUP = re.compile(r"[\\`*\[\]<>|~$&]|(?<![^\W_])_|_(?![^\W_])")


def write_report(
    results: list[Result], folder: Path, staged: list[StageResult] | None = None
) -> None:
    """Writes the report and its plot, each whole or not at all.

    Args:
        results: all that the report is to say something about, in any order.
        folder: where `report.md`, `report.html` and `error_by_position.png` are written.
        staged: the staged proofs, in the order in which they are shown.
    """
    arranged = arrange(results)
    report = compose(arranged, staged)
    plot = render_png(draw_error_by_position(arranged))
    with building_folder(folder) as scratch:
        (scratch / PLOT).write_bytes(plot)
        (scratch / MARKDOWN).write_text(render_markdown(report), encoding="utf-8")
        (scratch / HTML).write_text(render_html(report, plot), encoding="utf-8")
        for name in (PLOT, MARKDOWN, HTML):
            (scratch / name).replace(folder / name)


def render_markdown(report: Report) -> str:
    """The report as GitHub's Markdown, with the plot beside it."""
    template = markdown_environment().get_template("report.md.jinja")
    return template.render(report=report, plot=PLOT)


def markdown_environment() -> Environment:
    """Templates of GitHub's Markdown, in which whatever is filled in is shown as it is."""
    environment = _environment(autoescape=False)
    environment.finalize = escape_markdown
    return environment


def html_environment() -> Environment:
    """Templates of HTML, in which whatever is filled in is shown as it is."""
    return _environment(autoescape=True)


def render_html(report: Report, plot: bytes) -> str:
    """The report as one page that needs nothing else."""
    template = html_environment().get_template("report.html.jinja")
    return template.render(report=report, plot=b64encode(plot).decode("ascii"))


def escape_markdown(text: object) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(str(text).split()))


def _environment(autoescape: bool) -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
