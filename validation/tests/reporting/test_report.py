"""The report says what the results say, in Markdown and in HTML, and nothing runs in it."""

import re
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import pytest

from validation.judgement.thresholds import FLIP_FACTOR, MAX_RATIO, MAX_SLOPE
from validation.judgement.verdict import Verdict
from validation.reporting import report as report_module
from validation.reporting.content import STAND_IN, arrange, compose
from validation.reporting.report import (
    HTML,
    MARKDOWN,
    PLOT,
    escape_markdown,
    render_html,
    render_markdown,
    write_report,
)
from validation.reporting.results import Result
from validation.tests.reporting.conftest import MakeResult

VOID = {"meta", "img"}


class Page(HTMLParser):
    """Collects what a page refers to and checks that its elements are closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.elements: list[str] = []
        self.alternatives: list[str | None] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes the element and what it refers to."""
        self.elements.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "img":
            self.alternatives.append(dict(attrs).get("alt"))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Only what was opened last is closed."""
        assert self._open.pop() == tag


def markdown_of(*results: Result) -> str:
    """The report in Markdown."""
    return render_markdown(compose(arrange(results)))


def html_of(*results: Result) -> str:
    """The report in HTML, with no picture."""
    return render_html(compose(arrange(results)), b"")


def test_files(two_subjects: list[Result], tmp_path: Path) -> None:
    """Three files, and nothing of what they were built in."""
    write_report(two_subjects, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {MARKDOWN, HTML, PLOT} == {"report.md", "report.html", "error_by_position.png"}
    assert f"]({PLOT})" in (tmp_path / "out" / MARKDOWN).read_text(encoding="utf-8")


def test_page_needs_nothing_else(two_subjects: list[Result], tmp_path: Path) -> None:
    """All that the page refers to is its picture, which is in it."""
    write_report(two_subjects, tmp_path)
    html = (tmp_path / HTML).read_text(encoding="utf-8")
    page = Page(html)
    (reference,) = page.references
    prefix = "data:image/png;base64,"
    assert b64decode(reference.removeprefix(prefix)) == (tmp_path / PLOT).read_bytes()
    assert page.alternatives[0]
    assert not {"script", "link", "iframe"} & set(page.elements)
    assert not re.search(r"https?://|@import|url\(", html)


def test_interrupted_write(
    two_subjects: list[Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was there stays whole if writing is interrupted."""
    write_report(two_subjects[:1], tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def interrupt(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(report_module, "render_html", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_report(two_subjects, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_first_sentence(make_result: MakeResult) -> None:
    """The report starts with the outcome."""
    lines = markdown_of(make_result()).splitlines()
    assert lines[0] == "# TransformerLens 3.9.0 against transformers: smollm2 on cpu"
    assert lines[2] == "**fork: not one of 201,326,592 logits differs (float32, 4k).**"


def test_stand_in(make_result: MakeResult) -> None:
    """Only of smollm2 it is said that it is not Llama 3.1."""
    assert STAND_IN in markdown_of(make_result())
    assert STAND_IN not in markdown_of(make_result(checkpoint="meta-llama/Llama-3.1-8B"))
    assert "stand-in" not in markdown_of()


def test_main_table(two_subjects: list[Result]) -> None:
    """Every case has its row, by context and then by subject as first seen."""
    rows = [
        line for line in markdown_of(*two_subjects).splitlines() if line.startswith("| stock |")
    ]
    assert rows[1] == (
        "| stock | float32 | 4k | DRIFTS | all | 201,325,592 of 201,326,592 | 1.98 | "
        "0.97 \\[0.91, 1.03\\] | 7.12e-04 | 1.19e-05 | 6.00e-06 | 80,000 | 1.41e-10 | 99.87% | "
        "12.3 s | 3.00 GiB | 10.0 s |"
    )
    table = compose(arrange(two_subjects)).cases
    assert table is not None
    cases = [(row.cells[0], row.cells[2]) for row in table.rows]
    assert cases == [("stock", "1k"), ("fork", "1k"), ("stock", "4k"), ("fork", "4k")]


def test_agreement_is_not_rounded_to_all(make_result: MakeResult) -> None:
    """One token in 64k that is predicted otherwise can be seen."""
    almost = make_result("a tree", Verdict.AT_FLOOR, top1_agreement=1 - 1 / 65536)
    assert "99.9985%" in markdown_of(almost)


def test_scope_is_shown_where_it_varies(make_result: MakeResult) -> None:
    """Devices are in the table only if there are several."""
    on_cpu, on_cuda = make_result(), make_result(device="cuda")
    assert "| device |" not in markdown_of(on_cpu)
    text = markdown_of(on_cpu, on_cuda)
    assert "| subject | device | dtype |" in text
    assert "smollm2 on cpu and cuda" in text
    assert "(2 cases: float32, 4k, cpu and cuda)" in text
    assert "### fork, float32, 4k, cuda: IDENTICAL" in text


def test_legend_and_guide(make_result: MakeResult) -> None:
    """Every verdict is explained, and the thresholds are those that judge."""
    text = markdown_of(make_result())
    for verdict in Verdict:
        assert f"- **{verdict.name}**: {verdict.value}" in text
    assert f"it may be at most {MAX_RATIO:g}." in text
    assert f"end may be at most {MAX_SLOPE:g}." in text
    assert f"more than {FLIP_FACTOR:g} times the floor's" in text
    assert "measured in the same run (sdpa against eager, same process)" in text


def test_by_position(make_result: MakeResult) -> None:
    """Every case has its errors by position, folded away in HTML."""
    result = make_result("stock", Verdict.DRIFTS, context=1024)
    assert "| 724-1023 | 14,745,600 | 1.61e-05 | 8.40e-06 | 1.91 |" in markdown_of(result)
    html = html_of(result)
    assert html.count("<details>") == 1
    assert "724-1023" in html[html.index("<details>") : html.index("</details>")]


@pytest.mark.parametrize("verdict", [Verdict.REFUSED, Verdict.DIED])
def test_case_without_figures(make_result: MakeResult, verdict: Verdict) -> None:
    """A refusal or a death shows its reason, on one line, and dashes."""
    text = markdown_of(make_result(verdict=verdict, reason="it raised\nKeyError: 'a|b'"))
    assert f"### fork, float32, 4k: {verdict.name}\n\nit raised KeyError: 'a\\|b'\n" in text
    assert f"| fork | float32 | 4k | {verdict.name} | all |{' - |' * 12}" in text


def test_not_finite(make_result: MakeResult) -> None:
    """Errors that are not finite are dashes, not NaN or None."""
    text = markdown_of(make_result("tree", Verdict.NOT_FINITE))
    assert "| 2896-4095 | 58,982,400 | - | 8.40e-06 | - |" in text
    assert not re.search(r"\b(nan|None|inf)\b", text)


def test_nothing_finished(tmp_path: Path) -> None:
    """Without results there is a report that says so."""
    write_report([], tmp_path)
    assert "**No case has finished.**" in (tmp_path / MARKDOWN).read_text(encoding="utf-8")
    assert "No case has finished." in (tmp_path / HTML).read_text(encoding="utf-8")


def test_names_are_no_markup(make_result: MakeResult) -> None:
    """Names and reasons of others can neither add elements nor break tables."""
    names = {"subject": "<b>x", "reason": "<script>a|b</script>", "notes": ("[a](b) & *c*",)}
    result = make_result(verdict=Verdict.AT_FLOOR, **names)
    html = html_of(result)
    assert not {"b", "script"} & set(Page(html).elements)
    assert "&lt;b&gt;x" in html
    text = markdown_of(result)
    assert "| \\<b\\>x | float32 |" in text
    assert "\\<script\\>a\\|b\\</script\\>" in text
    assert "\\[a\\](b) \\& \\*c\\*" in text


def test_tables_are_accessible(two_subjects: list[Result]) -> None:
    """Tables have captions and header cells, and can be scrolled by keyboard."""
    html = html_of(*two_subjects)
    elements = Page(html).elements
    assert elements.count("caption") == elements.count("table") == html.count('tabindex="0"')
    assert elements.count("th") == html.count('scope="col"') + html.count('scope="row"')
    assert '<html lang="en">' in html
    assert "prefers-color-scheme: dark" in html


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("AT_FLOOR allow_tf32", "AT_FLOOR allow_tf32"),
        ("_a_ __b__", "\\_a\\_ \\_\\_b\\_\\_"),
        ("a\n\n# b", "a # b"),
        ("`x` ~~y~~ $z$", "\\`x\\` \\~\\~y\\~\\~ \\$z\\$"),
        ("..\\tree", "..\\\\tree"),
    ],
)
def test_markdown_is_escaped(text: str, escaped: str) -> None:
    """Markup is shown, words with underscores stay as they are, and lines are joined."""
    assert escape_markdown(text) == escaped
