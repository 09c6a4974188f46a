"""Runs the study of false alarms: every situation in a process of one thread, several beside."""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol

from transformer_lens_fork.errors import InputError, VerificationError
from validation.execution.alarm_bench import measure_situation
from validation.execution.alarm_grid import SMALL_FAULTS, Setting, Situation
from validation.execution.processes import ENVIRONMENT, KEPT_HEAP
from validation.models.subject import SubjectRefused
from validation.models.trees import Tree
from validation.reporting.alarm_records import AlarmRecord
from validation.reporting.records import RecordFile
from validation.rope.catalogue import find_fault
from validation.rope.faults import edited_source

LOG = Path("logs", "alarms.log")


class Watcher(Protocol):
    """Somebody who is shown how the run goes."""

    def counted(self, what: str, done: int, total: int) -> None:
        """One of `total` is done."""


def run_alarms(
    situations: list[Situation],
    setting: Setting,
    file: RecordFile[AlarmRecord],
    workers: int,
    watcher: Watcher,
) -> list[AlarmRecord]:
    """Measures what `file` does not hold.

    Returns:
        The records of all situations, those of earlier runs too, in the grid's order.

    Raises:
        InputError: the tree is no copy of the fork, or cannot run them.
        VerificationError: a process died; what is finished is in the file.
    """
    _refuse_other_sources(setting.tree)
    found = {record.provenance.key: record for record in file.records}
    keys = [setting.key(situation) for situation in situations]
    left = [s for s, key in zip(situations, keys, strict=True) if key not in found]
    # The longest first: none is left alone at the end.
    left.sort(key=lambda situation: -situation.context)
    for record in _measure(left, setting, file.path.parent / LOG, workers):
        file.append(record)
        found[record.provenance.key] = record
        done = sum(key in found for key in keys)
        watcher.counted(f"{record.llama}, {record.dtype}, {record.context}", done, len(keys))
    return [found[key] for key in keys]


def _refuse_other_sources(tree: Tree) -> None:
    """Faults and clean deviations both need the fork's own functions."""
    try:
        for name in SMALL_FAULTS:
            edited_source(find_fault(name), tree.path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--tree: {tree.name!r} is no copy of the fork ({error}); 'fork' or a copy of it is "
            "accepted."
        ) from None


def _measure(
    situations: list[Situation], setting: Setting, log: Path, workers: int
) -> Iterator[AlarmRecord]:
    if not situations:
        return
    log.parent.mkdir(exist_ok=True)
    with _environment():
        pool = ProcessPoolExecutor(
            min(workers, len(situations)), get_context("spawn"), _redirect_output, (log,)
        )
        futures = [pool.submit(measure_situation, each, setting) for each in situations]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise VerificationError(
                f"a process that compares died; {log} has its last lines, what is finished is "
                "kept, and the same command goes on."
            ) from None
        except SubjectRefused as error:
            raise InputError(f"--tree: {setting.tree.name!r} cannot be judged: {error}.") from error
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _environment() -> Iterator[None]:
    """What the processes of a pool inherit when they start."""
    before = dict(os.environ)
    os.environ.update(ENVIRONMENT | KEPT_HEAP)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _redirect_output(log: Path) -> None:
    """What libraries print goes to the log, and not over the progress bar."""
    with log.open("ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
