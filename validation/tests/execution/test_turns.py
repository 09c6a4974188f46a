"""Turns alternate, and what happens to one contestant costs no other."""

from dataclasses import replace
from pathlib import Path

import pytest

from validation.execution import turns
from validation.execution.bench import run_bench
from validation.execution.bench_grid import CONTESTANTS, Bench, Contestant, Point
from validation.execution.bench_messages import Piece, Timed
from validation.execution.jobs import ReferenceJob, SubjectJob
from validation.execution.live import LiveWorker
from validation.execution.processes import WorkerDied
from validation.execution.turns import Turns
from validation.models.subject import SubjectRefused
from validation.reporting.bench_records import BENCH, BenchRecord, Ending
from validation.reporting.bench_report import write_bench_report
from validation.reporting.records import RecordFile
from validation.tests.execution.test_bench_plan import bench

FORK, HF = CONTESTANTS[:2]
TWO = replace(bench(contexts=(64,)), contestants=(FORK, HF), workloads=("forward",), repeats=2)
POINT = Point("forward", 64, {FORK: None, HF: None}, {FORK: 1, HF: 1})


class Scripted:
    """Stands in for a process: notes who works, and dies or refuses where the script says so."""

    log: list[str] = []  # noqa: RUF012  # emptied by the fixture
    dies_at: tuple[str, int] | None = None
    refuses: str | None = None
    notes = ("scripted",)

    def __init__(self, _job: ReferenceJob | SubjectJob, job_file: Path, _log: Path) -> None:
        self.name = job_file.name.removesuffix(".job.json")
        self.log.append(f"start {self.name}")
        if self.refuses == self.name:
            raise SubjectRefused("cannot")

    def work(self, piece: Piece) -> Timed:
        """One second."""
        self.log.append(self.name)
        if self.dies_at == (self.name, self.log.count(self.name)):
            raise WorkerDied("killed by SIGKILL")
        assert piece.context == 64
        return Timed(seconds=1, resting_memory_bytes=1, peak_memory_bytes=2, tokens=(3,))

    def close(self) -> None:
        """Noted too."""
        self.log.append(f"end {self.name}")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> type[Scripted]:
    """Instead of processes."""
    fresh = type("Fresh", (Scripted,), {"log": []})
    monkeypatch.setattr(turns, "LiveWorker", fresh)
    return fresh


def take(folder: Path, *points: Point) -> list[dict[Contestant, turns.Series]]:
    """What happens at these points."""
    with Turns(TWO, folder, folder, lambda *_: None) as taken:
        return [taken.take(point) for point in points]


def test_contestants_alternate(script: type[Scripted], tmp_path: Path) -> None:
    """One turn that does not count, then A B A B; each process starts once and ends."""
    first, second = take(tmp_path, POINT, POINT)
    assert len(first[FORK].pieces) == len(second[HF].pieces) == 2
    assert first[FORK].notes == ("scripted",)
    start = ["start fork-sdpa", "fork-sdpa", "start hf-sdpa", "hf-sdpa"]
    counted = ["fork-sdpa", "hf-sdpa"] * 2
    end = ["end fork-sdpa", "end hf-sdpa"]
    assert script.log == [*start, *counted, *counted[:2], *counted, *end]


def test_a_death_costs_its_point(script: type[Scripted], tmp_path: Path) -> None:
    """The other's turns go on, and at the next point a new process starts."""
    script.dies_at = ("fork-sdpa", 3)
    first, second = take(tmp_path, POINT, POINT)
    assert first[FORK].ending is Ending.DIED
    assert first[FORK].reason == "the process killed by SIGKILL"
    assert first[FORK].pieces == [], "half of its turns are no measurement"
    assert len(first[HF].pieces) == 2
    assert second[FORK].ending is Ending.MEASURED
    assert script.log.count("start fork-sdpa") == script.log.count("end fork-sdpa") == 2
    assert script.log.count("start hf-sdpa") == 1


def test_a_tree_that_refuses_is_recorded(script: type[Scripted], tmp_path: Path) -> None:
    """With what it says."""
    script.refuses = "fork-sdpa"
    (taken,) = take(tmp_path, POINT)
    assert (taken[FORK].ending, taken[FORK].reason) == (Ending.REFUSED, "cannot")
    assert taken[HF].ending is Ending.MEASURED


class Silent:
    """Counts what it is told."""

    told = 0

    def counted(self, what: str, done: int, total: int) -> None:
        """One more."""
        self.told += 1
        assert what
        assert 1 <= done <= total


def measure(small: Bench, folder: Path) -> tuple[list[BenchRecord], int]:
    """The records, and how many turns were taken for them."""
    watcher = Silent()
    file = RecordFile(folder / BENCH, BenchRecord, "record")
    return run_bench(small, file, watcher), watcher.told


def test_a_point_is_measured_again_only_after_a_death(
    script: type[Scripted], tmp_path: Path
) -> None:
    """What is finished is taken from the file."""
    script.dies_at = ("fork-sdpa", 3)
    (died,), told = measure(TWO, tmp_path)
    assert [each.ending for each in died.turns] == ["DIED", "MEASURED"]
    assert told == 4
    (whole,), told = measure(TWO, tmp_path)
    assert [each.ending for each in whole.turns] == ["MEASURED", "MEASURED"]
    assert told == 4
    again, told = measure(TWO, tmp_path)
    assert (again, told) == ([whole], 0)


def test_what_does_not_fit_is_recorded_and_not_attempted(
    script: type[Scripted], tmp_path: Path
) -> None:
    """Of a small memory: no process even starts, and the report says why."""
    small = bench(memory_bytes=100 * 2**20, contexts=(64, 128))
    records, told = measure(small, tmp_path)
    assert told == 0
    assert len(records) == 2 * 2 * 3, "pairs, as four models do not fit; contexts; works"
    assert {each.ending for record in records for each in record.turns} == {"TOO_LARGE"}
    report = write_bench_report(records, tmp_path)
    assert report.missing is not None
    assert "0.1 GiB may be taken (--memory)" in report.missing.rows[0].cells[-1]
    assert script.log == []


def test_a_process_that_dies_says_why(tmp_path: Path) -> None:
    """A real one, whose checkpoint is not there: its last lines are the reason."""
    job = ReferenceJob(
        checkpoint=tmp_path / "missing",
        dtype="float32",
        attention="sdpa",
        device="cpu",
        forwards=(),
        chunk=1,
        threads=1,
        seed=0,
        scratch=tmp_path,
        rope_theta=1e4,
    )
    with pytest.raises(WorkerDied, match=r"exited with status 1: .*missing"):
        LiveWorker(job, tmp_path / "job.json", tmp_path / "logs" / "it.log")
