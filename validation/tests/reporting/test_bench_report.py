"""The report on the bench says what the records say, and the picture shows it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from validation.execution.bench_grid import CONTESTANTS
from validation.reporting.bench_content import compose_bench
from validation.reporting.bench_plot import draw_bench
from validation.reporting.bench_records import BenchRecord, Ending
from validation.reporting.bench_report import write_bench_report
from validation.tests.reporting.conftest import digest

GIB = 2**30


def turns(contestant: str, seconds: float, added: int, **changes: Any) -> dict[str, Any]:
    """Three turns, the last of them disturbed."""
    return {
        "contestant": contestant,
        "tree": None,
        "tree_sha256": None,
        "series_sha256": None,
        "attention": "sdpa",
        "ending": "MEASURED",
        "reason": "",
        "seconds": (seconds, 1.1 * seconds, 5 * seconds),
        "peak_memory_bytes": (GIB + added,) * 3,
        "resting_memory_bytes": (GIB,) * 3,
        "planned_peak_memory_bytes": 2 * GIB,
        "tokens": (7,),
        "notes": (),
        **changes,
    }


def too_large(contestant: str) -> dict[str, Any]:
    """Not attempted."""
    nothing = dict.fromkeys(("seconds", "peak_memory_bytes", "resting_memory_bytes", "tokens"), ())
    why = {"ending": Ending.TOO_LARGE.name, "reason": "64k tokens need 80 GiB"}
    return turns(contestant, 1.0, 0) | nothing | why


def record(context: int, *taken: dict[str, Any], workload: str = "forward") -> BenchRecord:
    """One point."""
    return BenchRecord.model_validate(
        {
            "workload": workload,
            "context": context,
            "generated": 0,
            "checkpoint": "tiny",
            "base": "v3.9.0",
            "dtype": "float32",
            "device": "cpu",
            "repeats": 3,
            "turns": taken,
            "provenance": {
                "key": digest(workload, context),
                "harness_sha256": digest("harness"),
                "git_commit": "1f" * 20,
                "git_dirty": False,
                "sdist_sha256": digest("sdist"),
                "checkpoint_sha256": digest("checkpoint"),
                "layers": 2,
                "prompt_sha256": digest(context),
                "prompt_source": "counting",
                "seed": 0,
                "memory_limit_bytes": 8 * GIB,
                "load_average": 0.1,
                "packages": {"torch": "2"},
                "settings": {"threads": "1"},
                "measured_at": "2026-11-24T00:00:00+00:00",
            },
        }
    )


def ladder(workload: str = "forward") -> list[BenchRecord]:
    """With sdpa linear memory and 20 % slower than HF; squares, and no 64k, with eager."""
    found = []
    for context in (4096, 16384, 65536):
        square = (context / 4096) ** 2
        added = context * 2**14
        sdpa = (turns("fork-sdpa", 1.2 * square, added), turns("hf-sdpa", square, added))
        eager = [
            turns(name, 3 * square, round(square * GIB)) if context < 65536 else too_large(name)
            for name in ("fork-eager", "stock")
        ]
        found.append(record(context, *sdpa, *eager, workload=workload))
    return found


def test_ratios_and_growth_are_those_of_the_records() -> None:
    """At the longest context that both partners of a pair can take."""
    report = compose_bench(ladder())
    assert report.headlines[0] == (
        "forward, 64k tokens: fork sdpa takes 1.20 [1.20, 1.20] times the time and 1.00 times the "
        "peak memory of HF sdpa."
    )
    assert report.headlines[1].startswith("forward, 16k tokens: fork eager takes 1.00 [")
    assert report.headlines[2] == "fork sdpa and HF sdpa chose the same tokens at 3 of 3 points."
    growth = {row.cells[1]: row.cells[2:] for row in report.growth.rows}
    assert growth["fork sdpa"] == ("4k, 16k, 64k", "2.00", "1.00")
    assert growth["stock"] == ("4k, 16k", "2.00", "2.00")
    assert report.seconds.rows[0].cells[2:5] == ("1.32", "1.1", "1.20 [1.20, 1.20]")
    assert report.seconds.rows[-1].cells[-3:] == ("too large", "too large", "-")
    assert report.memory.rows[0].cells[2] == "1.06 GiB"
    assert report.added.rows[0].cells[2] == "0.06 GiB"
    assert report.missing is not None
    assert report.missing.rows[0].cells[1:3] == ("64k", "fork eager")


def test_other_tokens_are_other_work() -> None:
    """The report says at how many points partners agree."""
    other = turns("hf-sdpa", 1.0, 0, tokens=(8,))
    report = compose_bench([record(64, turns("fork-sdpa", 1.0, 0), other)])
    assert report.headlines[-1].endswith("chose the same tokens at 0 of 1 points.")
    assert report.missing is None
    assert "stock" not in {column.heading for column in report.seconds.columns}


def test_pairs_that_ran_one_after_the_other_make_one_row() -> None:
    """Their records are two."""
    halves = [
        record(64, turns("fork-sdpa", 1.0, 0), turns("hf-sdpa", 2.0, 0)),
        record(64, turns("fork-eager", 3.0, 0), turns("stock", 4.0, 0)),
    ]
    (row,) = compose_bench(halves).seconds.rows
    assert [cell.split()[0] for cell in row.cells[2:]] == [
        "1.1",
        "2.2",
        "0.50",
        "3.3",
        "4.4",
        "0.75",
    ]


def test_the_plot_has_its_labels() -> None:
    """Two panels for each work, exponents in the legend, and a mark for what does not fit."""
    figure = draw_bench([*ladder(), *ladder("hooks")])
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "forward: seconds",
        "forward: GiB beyond the loaded model",
        "hooks: seconds",
        "hooks: GiB beyond the loaded model",
    ]
    assert figure.axes[-1].get_xlabel() == "context (tokens)"
    for axes, exponents in zip(figure.axes[:2], ((2, 2, 2, 2), (1, 1, 2, 2)), strict=True):
        legend = axes.get_legend()
        assert legend is not None
        expected = [
            f"{who.label}, slope {exponent:.2f}"
            for who, exponent in zip(CONTESTANTS, exponents, strict=True)
        ]
        assert [text.get_text() for text in legend.get_texts()] == [*expected, "does not fit"]
        crosses = [line for line in axes.get_lines() if line.get_marker() == "x"]
        assert [np.asarray(c.get_xdata()).tolist() for c in crosses] == [[65536], [65536], []]
    figure.canvas.draw()
    ticks = figure.axes[-1].get_xticklabels()
    assert [tick.get_text() for tick in ticks] == ["4k", "16k", "64k"]


def test_the_plot_of_one_point_and_of_none_is_drawn(tmp_path: Path) -> None:
    """Without an exponent where there is none; nothing fits, or a process died."""
    died = too_large("stock") | {"ending": "DIED", "reason": "killed by SIGKILL"}
    for number, taken in enumerate([(turns("fork-sdpa", 1.0, 0),), (too_large("hf-sdpa"), died)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_bench_report([record(64, *taken)], folder)
        assert (folder / "bench.png").stat().st_size > 10_000
    assert "killed by SIGKILL" in (folder / "bench.md").read_text(encoding="utf-8")
    legend = draw_bench([record(64, *taken)]).axes[0].get_legend()
    assert legend is not None
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["HF sdpa", "stock", "does not fit", "failed"]


@pytest.mark.parametrize(
    "changes",
    [
        {"ending": "TOO_LARGE"},
        {"ending": "FINE"},
        {"seconds": (1.0,)},
        {"seconds": (), "peak_memory_bytes": (), "resting_memory_bytes": ()},
        {"seconds": (1.0, 0.0, 1.0)},
        {"peak_memory_bytes": (1, 1, 1)},
    ],
)
def test_a_record_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    """Figures without a measurement, or the other way about."""
    with pytest.raises(ValidationError):
        record(64, turns("stock", 1.0, 0) | changes)
