"""Runs trees with planted faults through the stages and the contexts, as subjects of any kind."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol, TypeVar

from transformer_lens_fork.atomic import building_folder
from transformer_lens_fork.errors import InputError
from validation.execution.cases import Request
from validation.execution.plan import measure_machine, plan_case
from validation.execution.probe_files import POSITIONS
from validation.execution.run import Watcher, run_cases
from validation.execution.staging import StageWatcher, run_stages
from validation.judgement.kills import is_noticed
from validation.judgement.sensitivity import COARSE, Threshold, find_threshold, next_sizes
from validation.judgement.verdict import Verdict
from validation.models.sources import source_sha256
from validation.models.trees import FORK, Tree
from validation.reporting.results import Result, ResultStore
from validation.reporting.staged import StageResult, StageStore
from validation.rope.catalogue import FAULTS
from validation.rope.faults import BASE, Fault, Need, needs_met_by, needs_met_by_checkpoint, plant
from validation.rope.perturbations import Quantity, perturbation

_PREFIX = "fault:"

_ROUNDS = 3
"""Of looking for the smallest perturbation, after the coarse one, each with a reference pass."""

_ACCIDENTS = ("worker killed by", "worker ran out of memory", "the reference worker")
"""What is said of a worker whose end says nothing of the tree."""

SOUND = ""
"""The name under which the fork itself is found among faults."""

Perturbation = tuple[Quantity, float]


class FaultWatcher(Watcher, StageWatcher, Protocol):
    """Somebody who is shown how cases and probes go."""


@dataclass(frozen=True)
class Measured:
    """What a run of faults gave.

    Attributes:
        sound: of the fork itself.
        faulty: of each fault that was run, by its name.
        perturbed: of each perturbation, by quantity and relative size.
        first_stages: by the fault's name and dtype, the first stage at which it leaves the
            reference; None where it does not. `SOUND` is the fork.
        perturbed_stages: the same by quantity, size and dtype.
        met: what faults find in the checkpoint, whatever the case.
    """

    sound: list[Result]
    faulty: dict[str, list[Result]]
    perturbed: dict[Perturbation, list[Result]]
    first_stages: dict[tuple[str, str], str | None]
    perturbed_stages: dict[tuple[Perturbation, str], str | None]
    met: frozenset[Need]


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
    stores: tuple[ResultStore, StageStore],
    watcher: FaultWatcher,
    *,
    with_effects: bool,
) -> Measured:
    """Runs the fork, the faults and perturbations of it, as far as `stores` have not.

    Every fault goes through the stages, whose probes have all that any of them needs in order to
    show; through a context go those that can show there.

    Args:
        request: what to run; its one tree is the fork.
        faults: to be planted in the fork.
        stores: hold what is finished.
        watcher: is shown how it goes.
        with_effects: look for the smallest perturbation that is caught as well.

    Raises:
        InputError: the fork's sources are not those that the faults edit.
    """
    laboratory = _Laboratory(request, *stores, watcher)
    chunks = _chunks(request)
    checkpoint = request.checkpoint
    met = needs_met_by_checkpoint(checkpoint.rope.theta, checkpoint.shape.kv_heads)
    shown = [fault for fault in faults if _is_run(fault, request, chunks, met)]
    first_stages = laboratory.first_stages(faults)
    results = laboratory.results(shown)
    perturbed: dict[Perturbation, list[Result]] = {}
    perturbed_stages: dict[tuple[Perturbation, str], str | None] = {}
    sizes: dict[Quantity, Collection[float]] = dict.fromkeys(Quantity, COARSE)
    staged_sizes = dict(sizes)
    for _ in range(1 + _ROUNDS if with_effects else 0):
        perturbed_stages |= laboratory.perturbed_stages(staged_sizes)
        perturbed |= laboratory.perturbed(sizes)
        sizes = {q: next_sizes(_thresholds(q, perturbed)) for q in Quantity}
        staged_sizes = {q: next_sizes(_stage_thresholds(q, perturbed_stages)) for q in Quantity}
    faulty = {fault.name: results[fault.name] for fault in shown}
    return Measured(results[SOUND], faulty, perturbed, first_stages, perturbed_stages, met)


@dataclass(frozen=True)
class _Laboratory:
    """Plants faults in copies of the fork and runs these beside it."""

    request: Request
    store: ResultStore
    stage_store: StageStore
    watcher: FaultWatcher

    def results(self, faults: Iterable[Fault]) -> dict[str, list[Result]]:
        """By the fault's name."""
        with self._planted(faults) as request:
            return _by_name(run_cases(request, self.store, self.watcher))

    def first_stages(self, faults: Iterable[Fault]) -> dict[tuple[str, str], str | None]:
        """By the fault's name and dtype, the stage at which it first leaves the reference."""
        with self._planted(faults) as request:
            by_name = _by_name(run_stages(request, self.stage_store, self.watcher))
        return {
            (name, result.dtype): None if _is_staged_accident(result) else result.first_stage
            for name, results in by_name.items()
            for result in results
        }

    def perturbed(
        self, sizes: Mapping[Quantity, Iterable[float]]
    ) -> dict[Perturbation, list[Result]]:
        """Results of each perturbation."""
        planted = _perturbations(sizes)
        found = self.results(planted.values()) if planted else {}
        return {key: found[fault.name] for key, fault in planted.items()}

    def perturbed_stages(
        self, sizes: Mapping[Quantity, Iterable[float]]
    ) -> dict[tuple[Perturbation, str], str | None]:
        """First stages, by perturbation and dtype."""
        planted = _perturbations(sizes)
        found = self.first_stages(planted.values()) if planted else {}
        return {
            (key, dtype): found[fault.name, dtype]
            for key, fault in planted.items()
            for dtype in self.request.dtypes
        }

    @contextmanager
    def _planted(self, faults: Iterable[Fault]) -> Iterator[Request]:
        (fork,) = self.request.trees
        with building_folder(self.store.folder) as folder:
            trees = [_plant_tree(fault, fork, folder / fault.name) for fault in faults]
            yield replace(self.request, trees=(fork, *trees))


def _perturbations(sizes: Mapping[Quantity, Iterable[float]]) -> dict[Perturbation, Fault]:
    return {(q, size): perturbation(q, size) for q, some in sizes.items() for size in some}


_R = TypeVar("_R", Result, StageResult)


def _by_name(results: list[_R]) -> dict[str, list[_R]]:
    by_name: dict[str, list[_R]] = {}
    for result in results:
        name = SOUND if result.subject == FORK else result.subject.removeprefix(_PREFIX)
        by_name.setdefault(name, []).append(result)
    return by_name


def present_needs(
    dtype: str, attention: str, met: frozenset[Need], *, is_chunked: bool
) -> frozenset[Need]:
    """What faults find in a case of a checkpoint in which they find `met`; none is padded."""
    chunks = frozenset({Need.CHUNKS, Need.MASK} if is_chunked else ())
    return needs_met_by(dtype, attention) | chunks | met


def is_visible_in_stages(fault: Fault, dtype: str, attention: str, met: frozenset[Need]) -> bool:
    """Whether the probes have what the fault needs: all but for dtype, attention, checkpoint."""
    probed = frozenset({Need.CHUNKS, Need.PADDING, Need.BOUNDARY, Need.MASK})
    return fault.is_visible(POSITIONS, needs_met_by(dtype, attention) | probed | met)


def is_accident(result: Result) -> bool:
    """Whether it says nothing of the tree: killed from outside, no reference, no room."""
    if result.outcome is Verdict.DIED:
        return any(sign in result.reason for sign in _ACCIDENTS)
    return result.outcome is Verdict.TOO_LARGE


def _is_staged_accident(result: StageResult) -> bool:
    """As `is_accident`, of the probes."""
    return result.has_died and any(sign in result.departure for sign in _ACCIDENTS)


def _chunks(request: Request) -> dict[tuple[str, int], bool]:
    """Whether a case goes through in chunks, by dtype and context."""
    chunks: dict[tuple[str, int], bool] = {}
    for dtype in request.dtypes:
        machine = measure_machine(request.memory_bytes, dtype, request.device)
        for context in request.contexts:
            plan = plan_case(request, dtype, context, machine, request.attention)
            chunks[dtype, context] = not plan.is_whole
    return chunks


def _is_run(
    fault: Fault, request: Request, chunks: dict[tuple[str, int], bool], met: frozenset[Need]
) -> bool:
    return fault.equivalent is not None or any(
        fault.is_visible(
            context, present_needs(dtype, request.attention, met, is_chunked=is_chunked)
        )
        for (dtype, context), is_chunked in chunks.items()
    )


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
    quantity: Quantity, perturbed: Mapping[Perturbation, list[Result]]
) -> list[Threshold]:
    """Of every dtype and context, by the verdict."""
    caught: dict[tuple[str, int], dict[float, bool]] = {}
    for (which, size), results in perturbed.items():
        for result in results if which is quantity else ():
            if not is_accident(result):
                tried = caught.setdefault((result.dtype, result.context), {})
                tried[size] = is_noticed(result.outcome)
    return [find_threshold(tried) for tried in caught.values()]


def _stage_thresholds(
    quantity: Quantity, stages: Mapping[tuple[Perturbation, str], str | None]
) -> list[Threshold]:
    """Of every dtype, by the first stage."""
    caught: dict[str, dict[float, bool]] = {}
    for ((which, size), dtype), stage in stages.items():
        if which is quantity:
            caught.setdefault(dtype, {})[size] = stage is not None
    return [find_threshold(tried) for tried in caught.values()]
