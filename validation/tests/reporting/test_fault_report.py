"""What a run of planted faults reports, and when it fails."""

import json
from dataclasses import replace
from pathlib import Path

import matplotlib.colors
import pytest
from matplotlib.patches import Rectangle
from pydantic import ValidationError

from validation.execution.fault_run import SOUND, Measured
from validation.judgement.verdict import Verdict
from validation.reporting.fault_content import compose_faults, missed_faults, tabulate_matrix
from validation.reporting.fault_plot import draw_fault_matrix
from validation.reporting.fault_records import (
    EffectRecord,
    FaultRecord,
    record_effects,
    record_faults,
)
from validation.reporting.fault_report import print_faults, write_fault_report
from validation.rope.faults import Fault, Need
from validation.rope.perturbations import Quantity
from validation.tests.reporting.conftest import MakeResult, build_result

CONTEXTS = (1024, 4096)

FAULTS = (
    Fault("caught", "Wrong everywhere.", (), family="one"),
    Fault("late", "Wrong late.", (), family="one", hidden_up_to=2048),
    Fault("same", "Not wrong.", (), family="two", equivalent="it is | the same"),
    Fault("padded", "Wrong with padding.", (), family="two", needs=frozenset({Need.PADDING})),
)


def measure(**changes: Verdict) -> Measured:
    """What a run gave, in which every fault was caught but for `changes`."""
    verdicts = {
        "caught": (Verdict.DRIFTS, Verdict.DRIFTS),
        "late": (Verdict.IDENTICAL, Verdict.AT_FLOOR),
        "same": (Verdict.IDENTICAL, Verdict.IDENTICAL),
    }
    for name, verdict in changes.items():
        verdicts[name] = (verdict, verdict)
    sizes = {1e-2: Verdict.DRIFTS, 1e-3: Verdict.AT_FLOOR, 1e-4: Verdict.IDENTICAL}
    return Measured(
        sound=[build_result(context=context) for context in CONTEXTS],
        faulty={
            name: [
                build_result(f"fault:{name}", verdict, context=context)
                for verdict, context in zip(pair, CONTEXTS, strict=True)
            ]
            for name, pair in verdicts.items()
        },
        perturbed={
            (Quantity.FACTOR, size): [
                build_result(f"fault:{size}", verdict, context=context) for context in CONTEXTS
            ]
            for size, verdict in sizes.items()
        },
        first_stages={
            (SOUND, "float32"): None,
            ("caught", "float32"): "INV_FREQ",
            ("late", "float32"): "TABLES",
            ("same", "float32"): None,
            ("padded", "float32"): "LAYER",
        },
        perturbed_stages={
            ((Quantity.FACTOR, size), "float32"): "INV_FREQ" if size > 1e-8 else None
            for size in (1e-2, 1e-7, 1e-8)
        },
        met=frozenset(),
    )


def test_every_fault_has_a_record_for_every_case() -> None:
    """Those that were not run too, with what they need."""
    records = record_faults(FAULTS, measure())
    assert [(r.fault, r.context, r.outcome) for r in records] == [
        ("caught", 1024, "BEYOND_FLOOR"),
        ("caught", 4096, "BEYOND_FLOOR"),
        ("late", 1024, "HIDDEN"),
        ("late", 4096, "DIFFERS"),
        ("same", 1024, "EQUIVALENT"),
        ("same", 4096, "EQUIVALENT"),
        ("padded", 1024, "HIDDEN"),
        ("padded", 4096, "HIDDEN"),
    ]
    assert records[-1].reason == "needs a batch padded on the left"
    assert records[-1].verdict is None
    assert missed_faults(records) == []


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("caught", Verdict.IDENTICAL),
        ("late", Verdict.IDENTICAL),
        ("same", Verdict.AT_FLOOR),
    ],
)
def test_a_fault_that_is_missed_fails_the_run(name: str, verdict: Verdict) -> None:
    """Not caught although it could show, or not the same although it is said to be."""
    measured = measure(**{name: verdict})
    measured.first_stages[name, "float32"] = None
    records = record_faults(FAULTS, measured)
    assert missed_faults(records) == [name]
    report = compose_faults(records, [])
    assert report.headlines[-1] == f"Not caught: {name}."
    assert name in {row.cells[1] for row in report.left.rows}


def test_a_worker_killed_by_the_kernel_is_no_success(make_result: MakeResult) -> None:
    """Nothing is known of the fault then, and the run says so."""
    measured = measure()
    killed = [
        make_result("fault:caught", Verdict.DIED, context=c, reason="the worker killed by SIGKILL")
        for c in CONTEXTS
    ]
    records = record_faults(FAULTS, replace(measured, faulty={"caught": killed}))
    assert missed_faults(records[:2]) == ["caught"]


def test_a_stage_catches_what_logits_do_not() -> None:
    """It is named in the matrix; where it contradicts an equivalence, the run fails."""
    measured = measure(late=Verdict.IDENTICAL)
    records = record_faults(FAULTS, measured)
    assert missed_faults(records) == []
    assert tabulate_matrix(records).rows[1].cells[3] == "TABLES"
    headlines = compose_faults(records, []).headlines
    assert headlines[0].startswith("3 of 3 planted faults are caught")
    assert headlines[2] == "By stages alone: 3 of 3, first seen at INV_FREQ 1, TABLES 1, LAYER 1."
    measured.first_stages["same", "float32"] = "INV_FREQ"
    assert missed_faults(record_faults(FAULTS, measured)) == ["same"]


def test_a_stage_that_no_context_can_replace() -> None:
    """What cannot show in any context must be caught by a stage; no other dtype's counts."""
    measured = measure()
    measured.first_stages["padded", "float32"] = None
    records = record_faults(FAULTS, measured)
    assert missed_faults(records) == ["padded"]
    assert not any(record.is_visible for record in records if record.fault == "padded")


def test_a_stage_that_the_fork_itself_leaves_says_nothing() -> None:
    """Neither of a fault that leaves there, nor of a perturbation."""
    measured = measure()
    measured.first_stages[SOUND, "float32"] = "LAYER"
    records = record_faults(FAULTS, measured)
    assert [r.first_stage for r in records if r.fault == "padded"] == [None, None]
    assert [r.first_stage for r in records if r.fault == "caught"] == ["INV_FREQ", "INV_FREQ"]
    (stage,) = [e for e in record_effects(measured) if e.criterion == "differs at a stage"]
    assert (stage.caught, stage.missed) == (None, None)


def test_rates_count_only_what_can_show() -> None:
    """At 1k one fault can show, at 4k two; beyond the floor and differing are kept apart."""
    report = compose_faults(record_faults(FAULTS, measure()), [])
    assert [row.cells for row in report.rates.rows] == [
        ("float32", "1k", "1", "1 (100%)", "1 (100%)", "0", "2"),
        ("float32", "4k", "2", "1 (50%)", "2 (100%)", "0", "1"),
    ]
    assert report.headlines[1].startswith("By logits alone: 2 of the 2 that can show in these")


def test_effects_keep_the_two_criteria_apart() -> None:
    """Failing from 1e-2 on, differing from 1e-3 on; nothing of what was not perturbed."""
    effects = record_effects(measure())
    assert {e.quantity for e in effects} == {"factor"}
    found = {(e.criterion, e.context): (e.caught, e.missed) for e in effects}
    assert found["beyond the floor", 4096] == (1e-2, 1e-3)
    assert found["differs at all", 4096] == (1e-3, 1e-4)
    assert found["differs at a stage", None] == (1e-7, 1e-8)


def test_differing_says_nothing_where_the_sound_fork_differs() -> None:
    """At the floor any reordering differs: only a failing verdict counts there."""
    measured = measure()
    sound = [build_result(verdict=Verdict.AT_FLOOR, context=c) for c in CONTEXTS]
    effects = record_effects(replace(measured, sound=sound))
    caught = {e.criterion: e.caught for e in effects if e.context}
    assert caught == {"beyond the floor": 1e-2, "differs at all": None}


def test_an_unknown_outcome_is_no_record() -> None:
    """A line that says something else is refused when it is read."""
    (record, *_) = record_faults(FAULTS, measure())
    with pytest.raises(ValidationError, match="outcome is 'LUCKY'"):
        FaultRecord.model_validate(record.model_dump() | {"outcome": "LUCKY"})


def test_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both JSON files can be read back, and the Markdown names every fault and figure."""
    measured = measure()
    records, effects = record_faults(FAULTS, measured), record_effects(measured)
    report = write_fault_report(records, effects, measured.sound, tmp_path)
    lines = (tmp_path / "faults.jsonl").read_text(encoding="utf-8").splitlines()
    assert [FaultRecord.model_validate_json(line) for line in lines] == records
    lines = (tmp_path / "mde.jsonl").read_text(encoding="utf-8").splitlines()
    assert [EffectRecord.model_validate(json.loads(line)) for line in lines] == effects
    text = (tmp_path / "faults.md").read_text(encoding="utf-8")
    assert "| two | same | EQUIVALENT | it is \\| the same |" in text
    assert "| factor | beyond the floor | float32 | 4k | 0.01 | 0.001 |" in text
    for name in ("faults.jsonl", "mde.jsonl", "faults.md", "fault_matrix.png"):
        assert (tmp_path / name).stat().st_size > 0
    print_faults(report, tmp_path)
    assert report.headlines[0] in capsys.readouterr().out.replace("\n", " ")


def test_the_plot_frames_what_was_missed() -> None:
    """One panel for every dtype, named; the frame, not colour alone, marks a survivor."""
    records = record_faults(FAULTS, measure(late=Verdict.IDENTICAL))
    records += [r.model_copy(update={"dtype": "bfloat16"}) for r in records]
    figure = draw_fault_matrix(records)
    assert [axes.get_title() for axes in figure.axes[:2]] == ["float32", "bfloat16"]
    survivor = matplotlib.colors.to_rgba("#D55E00")
    for axes in figure.axes[:2]:
        frames = [p for p in axes.findobj(Rectangle) if p.get_edgecolor() == survivor]
        assert [(round(f.get_x()), round(f.get_y())) for f in frames] == [(1, 1)]
        shown = [text.get_text() for text in axes.texts]
        cells = [row.cells[4:6] for row in tabulate_matrix(records).rows]
        assert {text for row in cells for text in row} <= set(shown)
