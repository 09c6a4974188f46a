"""The README says what the evidence says."""

import re
from pathlib import Path

import pytest

from transformer_lens_fork.bases import load_bases
from transformer_lens_fork.errors import InputError
from validation.judgement.verdict import Verdict
from validation.reporting.readme import DOCUMENTS, EVIDENCE, render_document
from validation.tests.reporting.conftest import MakeResult

MARKED = "before\n<!-- evidence: v3.9.0-smollm2 -->\nold\n<!-- end of evidence -->\nafter\n"


def render(text: str, evidence: Path) -> str:
    """`text` as a document, beside the evidence."""
    document = evidence / "README.md"
    document.write_text(text, encoding="utf-8")
    return render_document(document, evidence)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_documents_are_as_the_evidence_has_them(document: Path) -> None:
    """Their tables are what `python -m validation readme` would write."""
    assert render_document(document) == document.read_text(encoding="utf-8")


def test_every_series_has_a_cover_letter() -> None:
    """Which is the text of its pull request."""
    folders = {document.parent.name for document in DOCUMENTS}
    assert set(load_bases()) <= folders


def test_evidence_says_nothing_of_the_machine_it_was_measured_on() -> None:
    """No absolute path, of code, checkpoint or results, in anything that is committed there."""
    path = re.compile(r"""(?<![\w./:])/(?:home|mnt|root|tmp|work|Users|usr|opt|var)/""")
    for file in EVIDENCE.rglob("*"):
        if file.suffix in (".jsonl", ".md"):
            found = path.search(file.read_text(encoding="utf-8"))
            assert found is None, f"{file.name}: {found}"


def test_a_table_follows_its_evidence(make_result: MakeResult, tmp_path: Path) -> None:
    """Old rows go, the text around stays, and a second time changes nothing."""
    results = [make_result("fork"), make_result("stock", Verdict.DRIFTS)]
    folder = tmp_path / "v3.9.0-smollm2"
    folder.mkdir()
    lines = "".join(result.model_dump_json() + "\n" for result in results)
    (folder / "results.jsonl").write_text(lines, encoding="utf-8")
    drawn = render(MARKED, tmp_path)
    assert drawn.startswith("before\n<!-- evidence: v3.9.0-smollm2 -->\n\n| dtype |")
    assert (
        "| float32 | 4k | **0** | 201,325,592 of 201,326,592 | 1.19e-05 | 6.00e-06 | 1.98 |"
        in drawn
    )
    assert drawn.endswith("<!-- end of evidence -->\nafter\n")
    assert "old" not in drawn
    assert render(drawn, tmp_path) == drawn


def test_fused_attention_needs_no_stock_beside_it(make_result: MakeResult, tmp_path: Path) -> None:
    """The fork's cases alone, and what their process took."""
    folder = tmp_path / "v3.9.0-smollm2-sdpa"
    folder.mkdir()
    line = make_result("fork").model_dump_json() + "\n"
    (folder / "results.jsonl").write_text(line, encoding="utf-8")
    drawn = render(MARKED.replace("smollm2", "smollm2-sdpa"), tmp_path)
    assert "| float32 | 4k | **0** | 201,326,592 | 6.00e-06 |" in drawn


@pytest.mark.parametrize(
    ("text", "says"),
    [("no table", "no '<!-- evidence"), (MARKED.replace("v3.9.0", "v9"), "'v9-smollm2' is no ev")],
)
def test_wrong_markers_are_refused(text: str, says: str, tmp_path: Path) -> None:
    """A table that nobody draws would go stale."""
    with pytest.raises(InputError, match=says):
        render(text, tmp_path)
