"""Staged proofs are kept, read back, and said in the report."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from transformer_lens_fork.errors import InputError
from validation.judgement.stages import Distance, Stage, StageRecord, first_departure
from validation.judgement.tally import Place
from validation.judgement.verdict import Verdict
from validation.reporting.content import arrange, compose
from validation.reporting.report import render_html, render_markdown
from validation.reporting.stage_tables import compose_stages, tabulate_grafts, tabulate_stages
from validation.reporting.staged import STAGES, StageResult, StageRow, StageStore
from validation.tests.reporting.conftest import MakeResult, digest

INF = float("inf")


def records(differing: int = 0) -> list[StageRecord]:
    """All stages, from the angles on with differences."""
    place = Place(257, 3, None, "cos") if differing else None
    return [
        StageRecord(
            stage=stage,
            compared=1000,
            differing=0 if stage is Stage.INV_FREQ else differing,
            first=None if stage is Stage.INV_FREQ else place,
            largest=0.0 if stage is Stage.INV_FREQ or not differing else 0.25,
            largest_at=None if stage is Stage.INV_FREQ else place,
            floor_ratio=None if stage.is_exact else 0.9 * bool(differing),
            distances=(Distance("float64", 900, 7e-3, 900, INF),) if stage.is_exact else (),
        )
        for stage in Stage
    ]


def build_staged(subject: str = "fork", differing: int = 0, **fields: Any) -> StageResult:
    """A staged proof as a run would give it."""
    found = records(differing)
    error = {"differing": differing, "max_abs": 0.5 * bool(differing), "parity_ratio": 2.5}
    values = {
        "subject": subject,
        "base": "v3.9.0",
        "checkpoint": "smollm2",
        "dtype": "float32",
        "device": "cpu",
        "tokens": 1024,
        "departure": first_departure(found),
        "has_died": False,
        "stages": tuple(map(StageRow.of, found)),
        "graft": {
            "tokens": 1024,
            "logits_total": 1000,
            "without": error,
            "grafted": error | {"parity_ratio": 0.99},
            "is_held": True,
            "rotation_differing": 0,
        },
        **fields,
    }
    provenance: dict[str, Any] = {
        "key": digest(subject, values["dtype"], differing),
        **dict.fromkeys(("harness_sha256", "tree_sha256", "sdist_sha256"), digest(1)),
        **dict.fromkeys(("checkpoint_sha256", "prompt_sha256"), digest(2)),
        "series_sha256": None,
        "seed": 0,
        "packages": {},
        "settings": {},
        "measured_at": "2026-01-02T03:04:05+00:00",
    }
    return StageResult.model_validate({"provenance": provenance, **values})


def test_round_trip(tmp_path: Path) -> None:
    """What was added is there again, and the newest of a case stands for it."""
    store = StageStore(tmp_path)
    old, new = build_staged(differing=5), build_staged()
    other = build_staged("stock", differing=7)
    for result in (old, other, new):
        store.add(result)
    again = StageStore(tmp_path)
    assert again.recovered is None
    assert again.finished(other.provenance.key) == other
    assert again.finished(digest("another")) is None
    assert again.with_others([new]) == [new, other]
    assert again.with_others([]) == [new, other]


def test_a_death_is_tried_again(tmp_path: Path) -> None:
    """It may have been an accident."""
    store = StageStore(tmp_path)
    died = build_staged(has_died=True, stages=(), graft=None, departure="the worker was killed")
    store.add(died)
    assert StageStore(tmp_path).finished(died.provenance.key) is None
    assert not died.passes(Verdict.AT_FLOOR)


def test_half_a_line_is_removed(tmp_path: Path) -> None:
    """The machine stopped while the last line was written."""
    StageStore(tmp_path).add(build_staged())
    whole = (tmp_path / STAGES).read_bytes()
    (tmp_path / STAGES).write_bytes(whole + whole[:50])
    store = StageStore(tmp_path)
    assert store.recovered == f"{tmp_path / STAGES}: half a line at its end was removed"
    assert (tmp_path / STAGES).read_bytes() == whole


def test_what_is_no_staged_proof_is_refused(tmp_path: Path) -> None:
    """By file, line and field; a folder that is none is, too."""
    StageStore(tmp_path).add(build_staged())
    with (tmp_path / STAGES).open("a", encoding="utf-8") as file:
        file.write('{"subject": 3}\n')
    with pytest.raises(InputError, match=rf"{re.escape(STAGES)}:2 is no staged proof \(subject:"):
        StageStore(tmp_path)
    with pytest.raises(InputError, match="cannot be written"):
        StageStore(tmp_path / STAGES)
    with pytest.raises(ValidationError, match="tokens"):
        build_staged(tokens=0)


@pytest.mark.parametrize(
    ("differing", "required", "passes"),
    [
        (0, Verdict.IDENTICAL, True),
        (1, Verdict.IDENTICAL, False),
        (1, Verdict.AT_FLOOR, False),
    ],
)
def test_exact_stages_have_no_floor(differing: int, required: Verdict, passes: bool) -> None:
    """One number is enough to fail, whatever is required."""
    assert build_staged(differing=differing).passes(required) == passes


def test_layers_and_logits_may_be_at_the_floor() -> None:
    """If that is required, and nothing before them differs."""
    exact, reordered = records(), records(differing=9)
    rows = tuple(map(StageRow.of, [*exact[:4], *reordered[4:]]))
    result = build_staged(stages=rows)
    assert result.passes(Verdict.AT_FLOOR)
    assert not result.passes(Verdict.IDENTICAL)


def test_tables() -> None:
    """A row for each stage and subject, by stage; what is not finite is not a figure."""
    results = [build_staged(), build_staged("stock", differing=12_345)]
    table = tabulate_stages(results)
    assert table is not None
    assert [row.cells[:2] for row in table.rows[:4]] == [
        ("INV_FREQ", "fork"),
        ("INV_FREQ", "stock"),
        ("ANGLES", "fork"),
        ("ANGLES", "stock"),
    ]
    assert table.rows[3].cells == (
        *("ANGLES", "stock", "float32", "12,345", "1,000"),
        *("position 257, frequency pair 3 (cos)", "2.50e-01 rad"),
        *("position 257, frequency pair 3 (cos)", "-", "7.00e-03", "-"),
    )
    grafts = tabulate_grafts(results)
    assert grafts is not None
    assert [row.cells[-1] for row in grafts.rows] == ["nothing", "not RoPE"]
    assert tabulate_stages([]) is None
    assert compose_stages([]) is None


def test_a_graft_that_proves_nothing_says_so() -> None:
    """Either the tree made its own tables, or it rotates otherwise."""
    graft = build_staged("stock", differing=5).graft
    assert graft is not None
    for change, said in (
        ({"is_held": False}, "unknown: the tree replaced the tables"),
        ({"rotation_differing": 17}, "also RoPE: 17 rotated numbers differ"),
    ):
        table = tabulate_grafts([build_staged(graft=graft.model_copy(update=change))])
        assert table is not None
        assert table.rows[0].cells[-1] == said


def test_the_report_has_the_section(make_result: MakeResult) -> None:
    """In both formats the sentence and the tables; a report without proofs has no section."""
    results = arrange([make_result()])
    report = compose(results, [build_staged("stock", differing=3)])
    markdown, html = render_markdown(report), render_html(report, b"")
    for text in (markdown, html):
        assert "Where it first differs" in text
        assert "stock, float32: first leaves transformers at ANGLES (angles): 3 of 1,000" in text
        assert "not RoPE" in text
    assert "Where it first differs" not in render_markdown(compose(results))
    died = build_staged(stages=(), graft=None, has_died=True, departure="the worker was killed")
    assert "the worker was killed" in render_markdown(compose(results, [died]))
