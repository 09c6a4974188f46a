"""What people read of a study, and what its command refuses."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from validation.__main__ import app
from validation.reporting.tables import Column, Row, Table
from validation.studies.drawing import draw_estimates, label_tokens, new_figure
from validation.studies.estimates import Estimate
from validation.studies.page import HTML, MARKDOWN, Page, Picture, write_page
from validation.tests.studies.made import make_record


def page() -> Page:
    """One of everything."""
    figure, axes = new_figure(1, 1, 3.0, "loss < by position")
    draw_estimates(axes[0, 0], [64.0, 128.0], [Estimate(1, 0.9, 1.1)] * 2, "plain", 0)
    label_tokens(axes[0, 0], 64, 128, "position, tokens")
    table = Table("All figures", (Column("scheme", "text"), Column("loss")), (Row(("p", "1")),))
    return Page(
        title="A study <of> loss",
        question="What is it?",
        method=("It was measured.",),
        findings=("Loss is 1 [0.9, 1.1] & no more.",),
        pictures=(Picture("loss", figure, "Loss by position", "Read it so."),),
        tables=(table,),
        limits=("All else.",),
    )


def test_page_has_everything_in_both_formats(tmp_path: Path) -> None:
    """Each finding, plot, table and limit; and the page of HTML needs nothing else."""
    write_page(page(), [make_record("encodings", {"seed": 0}, {})], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loss.png", HTML, MARKDOWN]
    markdown = (tmp_path / MARKDOWN).read_text()
    html = (tmp_path / HTML).read_text()
    for text in ("What is it?", "It was measured.", "Read it so.", "All figures", "All else."):
        assert text in markdown
        assert text in html
    assert "](loss.png)" in markdown
    assert "A study &lt;of&gt; loss" in html
    assert "[0.9, 1.1] &amp; no more" in html
    assert 'src="data:image/png;base64,' in html
    assert not re.search(r"https?://", html)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["no-such-study"], "NAME"),
        (["encodings", "--contexts", "many"], "--contexts"),
        (["encodings", "--contexts", "256k"], "--contexts"),
        (["encodings", "--dtype", "float8"], "--dtype"),
        (["encodings", "--dtype", "float32,bfloat16"], "--dtype"),
        (["encodings", "--device", "gpu"], "--device"),
        (["encodings", "--checkpoint", "no/such/folder"], "--checkpoint"),
        (["encodings", "--tree", "stock"], "--tree"),
        (["encodings", "--page-only"], "--out"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], field: str, tmp_path: Path) -> None:
    """Status 2, naming what is not accepted; nothing is measured."""
    result = CliRunner().invoke(app, ["study", *arguments, "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert re.search(rf"^error: {field}:", result.stderr, re.MULTILINE), result.stderr
    assert not list(tmp_path.glob("*.md"))


def test_records_of_another_study_are_refused(tmp_path: Path) -> None:
    """Two studies in one folder would overwrite each other's page."""
    line = make_record("drift", {"seed": 0}, {}).model_dump_json()
    (tmp_path / "study.jsonl").write_text(line + "\n")
    result = CliRunner().invoke(app, ["study", "encodings", "--page-only", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "drift" in result.stderr
