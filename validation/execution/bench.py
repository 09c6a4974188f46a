"""Runs the bench: every contestant in a process of its own, one at work at a time."""

import os
from typing import Protocol

import numpy as np

from transformer_lens_fork.atomic import building_folder
from validation.execution.bench_grid import Bench, Contestant, Point
from validation.execution.bench_messages import GENERATED
from validation.execution.bench_plan import choose_groups, plan_points
from validation.execution.cases import Surroundings
from validation.execution.jobs import tokens_path
from validation.execution.turns import Series, Turns
from validation.reporting.bench_records import BenchProvenance, BenchRecord, TurnsRecord
from validation.reporting.records import RecordFile
from validation.reporting.wording import tokens

LOGS = "logs"


class Watcher(Protocol):
    """Somebody who is shown how the run goes."""

    def counted(self, what: str, done: int, total: int) -> None:
        """One of `total` is done."""


def run_bench(bench: Bench, file: RecordFile[BenchRecord], watcher: Watcher) -> list[BenchRecord]:
    """Measures what `file` does not hold; a point at which a process died is measured again.

    Returns:
        The records of all points, those of earlier runs too, short contexts first.
    """
    surroundings = Surroundings.of(bench.request.device)
    found = {r.provenance.key: r for r in file.records if r.is_finished}
    planned = [
        [(point, point.key(bench, surroundings)) for point in plan_points(bench, group)]
        for group in choose_groups(bench)
    ]
    left = [[(point, key) for point, key in group if key not in found] for group in planned]
    counter = _Counter(watcher, bench.repeats, [point for group in left for point, _ in group])
    folder = file.path.parent
    with building_folder(folder) as scratch:
        np.save(tokens_path(scratch), bench.request.prompt.tokens)
        for group in left:
            # Another group's processes are gone by then.
            with Turns(bench, scratch, folder / LOGS, counter.count) as turns:
                for point, key in group:
                    provenance = _provenance(bench, point, key, surroundings)
                    record = _record(bench, point, turns.take(point), provenance)
                    file.append(record)
                    found[key] = record
    records = [found[key] for group in planned for _, key in group]
    return sorted(records, key=lambda record: record.context)


class _Counter:
    """Counts turns for the progress bar."""

    def __init__(self, watcher: Watcher, repeats: int, points: list[Point]) -> None:
        self._watcher = watcher
        self._done = 0
        self._total = repeats * sum(len(point.fitting) for point in points)

    def count(self, point: Point, who: Contestant) -> None:
        """One turn is over."""
        self._done += 1
        what = f"{point.workload}, {tokens(point.context)} tokens, {who.label}"
        self._watcher.counted(what, self._done, self._total)


def _record(
    bench: Bench, point: Point, taken: dict[Contestant, Series], provenance: BenchProvenance
) -> BenchRecord:
    request = bench.request
    return BenchRecord(
        workload=point.workload,
        context=point.context,
        generated=GENERATED if point.workload == "generate" else 0,
        checkpoint=request.checkpoint.name,
        base=request.base.name,
        dtype=request.dtypes[0],
        device=request.device,
        repeats=bench.repeats,
        turns=tuple(_turns(bench, point, who, series) for who, series in taken.items()),
        provenance=provenance,
    )


def _turns(bench: Bench, point: Point, who: Contestant, series: Series) -> TurnsRecord:
    tree = bench.tree(who)
    pieces = series.pieces
    return TurnsRecord(
        contestant=who.name,
        tree=tree.name if tree else None,
        tree_sha256=tree.sha256 if tree else None,
        series_sha256=tree.series_sha256 if tree else None,
        attention=who.attention,
        ending=series.ending.name,
        reason=series.reason,
        seconds=tuple(piece.seconds for piece in pieces),
        peak_memory_bytes=tuple(piece.peak_memory_bytes for piece in pieces),
        resting_memory_bytes=tuple(piece.resting_memory_bytes for piece in pieces),
        planned_peak_memory_bytes=point.needs[who],
        tokens=pieces[0].tokens if pieces else (),
        notes=series.notes,
    )


def _provenance(
    bench: Bench, point: Point, key: str, surroundings: Surroundings
) -> BenchProvenance:
    request = bench.request
    return BenchProvenance(
        key=key,
        **surroundings.recorded(),
        sdist_sha256=request.base.sdist_sha256,
        checkpoint_sha256=request.checkpoint.sha256,
        layers=request.checkpoint.shape.layers,
        prompt_sha256=request.prompt.sha256(point.context),
        prompt_source=request.prompt.source,
        seed=request.seed,
        memory_limit_bytes=request.memory_bytes,
        load_average=os.getloadavg()[0],
    )
