"""Runs trees with planted faults, all against one reference pass for each dtype."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from transformer_lens_fork.atomic import building_folder
from transformer_lens_fork.errors import InputError
from validation.execution.cases import Request
from validation.execution.plan import measure_machine, plan_case
from validation.execution.run import Watcher, run_cases
from validation.judgement.kills import is_noticed
from validation.judgement.sensitivity import COARSE, Threshold, find_threshold, next_sizes
from validation.judgement.verdict import Verdict
from validation.models.sources import source_sha256
from validation.models.trees import FORK, Tree
from validation.reporting.results import Result, ResultStore
from validation.rope.catalogue import FAULTS
from validation.rope.faults import BASE, Fault, Need, needs_met_by, plant
from validation.rope.perturbations import Quantity, perturbation

_PREFIX = "fault:"

_ROUNDS = 2
"""Of looking for the smallest perturbation, after the coarse one, each with a reference pass."""


@dataclass(frozen=True)
class Measured:
    """What a run of faults gave.

    Attributes:
        sound: of the fork itself.
        faulty: of each fault that was run, by its name.
        perturbed: of each perturbation, by quantity and relative size.
    """

    sound: list[Result]
    faulty: dict[str, list[Result]]
    perturbed: dict[tuple[Quantity, float], list[Result]]


def choose_faults(only: tuple[str, ...]) -> tuple[Fault, ...]:
    """The faults of these names or families, in the catalogue's order; all if none is given.

    Raises:
        InputError: there is no fault and no family of a name.
    """
    known = {name for fault in FAULTS for name in (fault.name, fault.family)}
    for name in only:
        if name not in known:
            close = get_close_matches(name, sorted(known), n=3) or sorted(known)
            raise InputError(
                f"--only: {name!r} is no fault and no family; {', '.join(close)} are accepted."
            )
    chosen = set(only)
    return tuple(f for f in FAULTS if not only or {f.name, f.family} & chosen)


def run_faults(
    request: Request,
    faults: tuple[Fault, ...],
    store: ResultStore,
    watcher: Watcher,
    *,
    with_effects: bool,
) -> Measured:
    """Runs the fork, every fault that can show, and perturbations, as far as `store` has not.

    Args:
        request: what to run; its one tree is the fork.
        faults: to be planted in the fork.
        store: holds what is finished.
        watcher: is shown how it goes.
        with_effects: look for the smallest perturbation that is caught as well.

    Raises:
        InputError: the fork's sources are not those that the faults edit.
    """
    shown = [fault for fault in faults if _is_run(fault, request, _chunks(request))]
    coarse = {
        (quantity, size): perturbation(quantity, size)
        for quantity in Quantity
        for size in (COARSE if with_effects else ())
    }
    results = _run_planted(request, [*shown, *coarse.values()], store, watcher)
    perturbed = {key: results[fault.name] for key, fault in coarse.items()}
    for _ in range(_ROUNDS if with_effects else 0):
        fine = {
            (quantity, size): perturbation(quantity, size)
            for quantity in Quantity
            for size in next_sizes(_thresholds(quantity, perturbed))
            if (quantity, size) not in perturbed
        }
        if fine:
            found = _run_planted(request, fine.values(), store, watcher)
            perturbed |= {key: found[fault.name] for key, fault in fine.items()}
    return Measured(results[""], {fault.name: results[fault.name] for fault in shown}, perturbed)


def present_needs(dtype: str, *, is_chunked: bool) -> frozenset[Need]:
    """What faults find in a case; none is padded."""
    return needs_met_by(dtype) | ({Need.CHUNKS} if is_chunked else frozenset())


def is_accident(result: Result) -> bool:
    """Whether it says nothing of the tree: killed from outside, no reference, no room."""
    if result.outcome is Verdict.DIED:
        return "killed by" in result.reason or result.reason.startswith("the reference worker")
    return result.outcome is Verdict.TOO_LARGE


def _chunks(request: Request) -> dict[tuple[str, int], bool]:
    """Whether a case goes through in chunks, by dtype and context."""
    chunks: dict[tuple[str, int], bool] = {}
    for dtype in request.dtypes:
        machine = measure_machine(request.memory_bytes, dtype, request.device)
        for context in request.contexts:
            plan = plan_case(request, dtype, context, machine)
            chunks[dtype, context] = not plan.is_whole
    return chunks


def _is_run(fault: Fault, request: Request, chunks: dict[tuple[str, int], bool]) -> bool:
    return fault.equivalent is not None or any(
        fault.is_visible(context, present_needs(dtype, is_chunked=is_chunked))
        for (dtype, context), is_chunked in chunks.items()
    )


def _run_planted(
    request: Request, faults: Iterable[Fault], store: ResultStore, watcher: Watcher
) -> dict[str, list[Result]]:
    """Results by the fault's name; the fork's under the empty name."""
    (fork,) = request.trees
    with building_folder(store.folder) as folder:
        trees = [fork, *(_plant_tree(fault, fork, folder / fault.name) for fault in faults)]
        results = run_cases(replace(request, trees=tuple(trees)), store, watcher)
    by_name: dict[str, list[Result]] = {}
    for result in results:
        name = "" if result.subject == FORK else result.subject.removeprefix(_PREFIX)
        by_name.setdefault(name, []).append(result)
    return by_name


def _plant_tree(fault: Fault, fork: Tree, folder: Path) -> Tree:
    try:
        plant(fault, fork.path, folder, is_linked=True)
    except ValueError as error:
        raise InputError(
            f"--base: the faults edit the fork of {BASE} as its patches make it; {error}."
        ) from None
    # Not its folder: the name is part of the key by which a finished case is known again.
    return replace(
        fork,
        name=f"{_PREFIX}{fault.name}",
        path=folder,
        sha256=source_sha256(folder),
        series_sha256=None,
        warning=None,
    )


def _thresholds(
    quantity: Quantity, perturbed: dict[tuple[Quantity, float], list[Result]]
) -> list[Threshold]:
    """Of every dtype and context, by the verdict."""
    caught: dict[tuple[str, int], dict[float, bool]] = {}
    for (which, size), results in perturbed.items():
        for result in results if which is quantity else ():
            if not is_accident(result):
                tried = caught.setdefault((result.dtype, result.context), {})
                tried[size] = is_noticed(result.outcome)
    return [find_threshold(tried) for tried in caught.values()]
