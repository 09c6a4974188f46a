"""What the report says follows from its results, and nothing is hidden."""

from validation.judgement.verdict import Verdict
from validation.reporting.content import arrange, compose
from validation.reporting.results import Result
from validation.tests.reporting.conftest import MakeResult


def test_headlines(two_subjects: list[Result]) -> None:
    """Identity is of all cases, else the weakest case speaks for its subject; stock is last."""
    assert compose(arrange(two_subjects)).headlines == (
        "fork: not one of 251,658,240 logits differs (2 cases: float32, 1k and 4k).",
        "stock: 0 of 2 cases are AT_FLOOR or better; the weakest is DRIFTS (float32, 4k), reason "
        "of stock at 4096.",
    )


def test_headline_does_not_hide_a_death(make_result: MakeResult) -> None:
    """One case that died outweighs all that are identical."""
    died = make_result(
        verdict=Verdict.DIED, context=65536, reason="the worker was killed by SIGKILL"
    )
    assert compose(arrange([make_result(), died])).headlines == (
        "fork: 1 of 2 cases are AT_FLOOR or better; the weakest is DIED (float32, 64k), the worker "
        "was killed by SIGKILL.",
    )


def test_order(make_result: MakeResult) -> None:
    """By dtype and subject as first seen, by context as a number."""
    cases = [("float32", 8192), ("bfloat16", 1024), ("float32", 1024), ("float32", 16384)]
    arranged = arrange(make_result(dtype=dtype, context=context) for dtype, context in cases)
    assert [(result.dtype, result.context) for result in arranged] == [
        ("float32", 1024),
        ("float32", 8192),
        ("float32", 16384),
        ("bfloat16", 1024),
    ]


def test_cases_that_look_alike(make_result: MakeResult) -> None:
    """A fork before and after an edit is two subjects, and neither hides the other."""
    before = make_result(verdict=Verdict.DRIFTS, measured_with={"tree_sha256": "a" * 64})
    after = make_result(measured_with={"tree_sha256": "b" * 64})
    longer = make_result(context=8192, measured_with={"tree_sha256": "b" * 64})
    names = [result.subject for result in arrange([before, after, longer])]
    assert names == ["fork (tree aaaaaaaa)", "fork (tree bbbbbbbb)", "fork (tree bbbbbbbb)"]


def test_alike_for_a_hidden_reason(make_result: MakeResult) -> None:
    """Two cases that no field tells apart are told apart by their keys."""
    results = [make_result(measured_with={"case_key": key * 64}) for key in "ab"]
    names = [result.subject for result in arrange(results)]
    assert names == ["fork (case aaaaaaaa)", "fork (case bbbbbbbb)"]


def test_notes_are_said_once(make_result: MakeResult) -> None:
    """A subject that was loaded alike for every context says so once a dtype."""
    results = [
        make_result(context=context, dtype=dtype, notes=("loaded somehow", f"at {context}"))
        for dtype in ("float32", "bfloat16")
        for context in (1024, 2048)
    ]
    notes = compose(arrange(results)).notes
    assert [(note.term, note.text) for note in notes] == [
        ("fork, float32", "loaded somehow; at 1024; at 2048"),
        ("fork, bfloat16", "loaded somehow; at 1024; at 2048"),
    ]


def test_provenance(two_subjects: list[Result]) -> None:
    """What is common is said once and whole, what differs for each case."""
    report = compose(arrange(two_subjects))
    assert report.common is not None
    assert report.differing is not None
    common = {row.cells[0]: row.cells[1] for row in report.common.rows}
    assert common["torch"] == "2.13.0"
    assert common["threads"] == "4"
    assert len(common["checkpoint_sha256"]) == 64
    headings = [column.heading for column in report.differing.columns]
    assert headings == ["case", "tree_sha256", "series_sha256", "prompt_sha256"]
    assert report.differing.rows[0].cells[2] == "-"
    assert len(report.differing.rows[0].cells[1]) == 12


def test_provenance_of_one_case(make_result: MakeResult) -> None:
    """One case differs from none."""
    assert compose([make_result()]).differing is None


def test_package_that_one_case_lacks(make_result: MakeResult) -> None:
    """A package that was not installed everywhere is among what differs."""
    lacking = make_result(context=1024, measured_with={"packages": {"python": "3.11.7"}})
    report = compose(arrange([make_result(), lacking]))
    assert report.differing is not None
    headings = [column.heading for column in report.differing.columns]
    assert headings == ["case", "prompt_sha256", "torch", "transformers"]
    assert report.differing.rows[0].cells[2:] == ("-", "-")


def test_where_the_time_went(make_result: MakeResult) -> None:
    """Shares leave loading out; a result of before says nothing and is left out."""
    assert compose([make_result()]).times is None
    own = {"load": 50.0, "forward": 40.0, "compare": 3.0, "files": 1.0}
    reference = {"load": 60.0, "forward": 30.0, "floor": 20.0, "compare": 5.0, "files": 1.0}
    timed = make_result(parts=own, reference_parts=reference)
    lazy = {name: value for name, value in reference.items() if name != "floor"}
    later = make_result(
        context=8192, parts=own | {"forward": 20.0, "unembed": 20.0}, reference_parts=lazy
    )
    times = compose(arrange([timed, later, make_result(context=16384)])).times
    assert times is not None
    before, now = times.rows
    seconds = ("60.0 s", "30.0 s", "20.0 s", "50.0 s", "40.0 s", "-", "10.0 s")
    assert before.cells[3:] == (*seconds, "10%", "30%")
    seconds = ("60.0 s", "30.0 s", "-", "50.0 s", "20.0 s", "20.0 s", "10.0 s")
    assert now.cells[3:] == (*seconds, "12%", "12%")
