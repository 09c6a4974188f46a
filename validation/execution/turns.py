"""Contestants that take turns: A B C D, A B C D, so that what drifts drifts for all alike."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from validation.execution.bench_grid import Bench, Contestant, Point
from validation.execution.bench_messages import Piece, Timed
from validation.execution.jobs import ReferenceJob, SubjectJob
from validation.execution.live import LiveWorker
from validation.execution.processes import WorkerDied
from validation.models.subject import SubjectRefused
from validation.reporting.bench_records import Ending

_WARM_UP_GENERATED = 2
"""Tokens of a turn that does not count: it is there for the first use of so much memory, which
takes up to four times as long on CPU, and for what CUDA chooses by shape. A single turn goes
without: it has no spread, and a long one would take twice as long."""


@dataclass
class Series:
    """What one contestant did at one point.

    Attributes:
        ending: how it went.
        reason: why, where it was not measured.
        pieces: one for each turn.
        notes: how the model was loaded.
    """

    ending: Ending = Ending.MEASURED
    reason: str = ""
    pieces: list[Timed] = field(default_factory=list)
    notes: tuple[str, ...] = ()


class Turns:
    """The processes of a group: each starts when it is first needed and stays to the end."""

    def __init__(
        self,
        bench: Bench,
        scratch: Path,
        logs: Path,
        on_piece: Callable[[Point, Contestant], None],
    ) -> None:
        """Starts nothing yet.

        Args:
            bench: what is measured.
            scratch: folder with `tokens.npy`, for files of the processes.
            logs: folder for what the processes print.
            on_piece: told of every turn that is over, or that is not taken after a death.
        """
        self._bench = bench
        self._scratch = scratch
        self._logs = logs
        self._on_piece = on_piece
        self._workers: dict[Contestant, LiveWorker] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.close()

    def take(self, point: Point) -> dict[Contestant, Series]:
        """What every contestant did at the point; a death costs it this point, and no other."""
        taken = {
            who: Series() if refusal is None else Series(Ending.TOO_LARGE, refusal)
            for who, refusal in point.refusals.items()
        }
        piece = Piece(workload=point.workload, context=point.context)
        warm_up = piece.model_copy(update={"generated": _WARM_UP_GENERATED})
        for who in point.fitting if self._bench.repeats > 1 else ():
            self._try(who, taken[who], warm_up)
        for _ in range(self._bench.repeats):
            for who in point.fitting:
                if timed := self._try(who, taken[who], piece):
                    taken[who].pieces.append(timed)
                self._on_piece(point, who)
        return taken

    def _try(self, who: Contestant, series: Series, piece: Piece) -> Timed | None:
        if series.ending is not Ending.MEASURED:
            return None
        try:
            worker = self._workers.get(who) or self._start(who)
            series.notes = worker.notes
            return worker.work(piece)
        except WorkerDied as death:
            series.ending, series.reason = Ending.DIED, f"the process {death}"
        except SubjectRefused as refusal:
            series.ending, series.reason = Ending.REFUSED, str(refusal)
        series.pieces.clear()
        if dead := self._workers.pop(who, None):
            dead.close()
        return None

    def _start(self, who: Contestant) -> LiveWorker:
        job_file = self._scratch / f"{who.name}.job.json"
        worker = LiveWorker(self._job(who), job_file, self._logs / f"bench-{who.name}.log")
        self._workers[who] = worker
        return worker

    def _job(self, who: Contestant) -> ReferenceJob | SubjectJob:
        request, tree = self._bench.request, self._bench.tree(who)
        dtype, own = request.dtypes[0], {"attention": who.attention}
        if tree is None:
            return request.reference_job(dtype, self._scratch, **own)
        return request.subject_job(tree, dtype, self._scratch, **own)
