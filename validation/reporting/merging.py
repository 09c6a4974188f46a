"""Puts the results of several folders into one: shards of a run, or runs of several sizes."""

from collections.abc import Iterable
from pathlib import Path

from transformer_lens_fork.errors import InputError
from validation.models.refusals import reason, shown
from validation.reporting.records import parse_records
from validation.reporting.results import RESULTS, Result, ResultStore
from validation.reporting.staged import STAGES, StageResult, StageStore


def merge(folders: Iterable[Path], out: Path) -> tuple[list[Result], list[StageResult]]:
    """Adds what `folders` hold to what `out` holds; the folders themselves are only read.

    Of two results of the same case that were measured alike the first stays; else the newest
    counts, in whatever order the folders are named.

    Args:
        folders: with results.jsonl, and stages.jsonl if stages were probed.
        out: receives both files.

    Returns:
        The newest result of every case in `out`, and every staged proof.

    Raises:
        InputError: a folder has no results, or holds lines that are none.
    """
    found = [(_read_results(folder), _read_stages(folder)) for folder in folders]
    store, stages = ResultStore(out), StageStore(out)
    for result in (each for results, _ in found for each in results):
        if store.finished(result.provenance.case_key) is None and not store.holds(result):
            store.add(result)
    for proof in (each for _, staged in found for each in staged):
        if stages.finished(proof.provenance.key) is None and not stages.holds(proof):
            stages.add(proof)
    return store.all(), stages.all()


def _read_results(folder: Path) -> list[Result]:
    path = folder / RESULTS
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(
            f"FOLDERS: {shown(str(path))} cannot be read ({reason(error)}); folders that a run "
            "wrote are accepted."
        ) from None
    return parse_records(path, content, Result, "result", "FOLDERS")


def _read_stages(folder: Path) -> list[StageResult]:
    path = folder / STAGES
    if not path.exists():
        return []
    return parse_records(path, path.read_bytes(), StageResult, "staged proof", "FOLDERS")
