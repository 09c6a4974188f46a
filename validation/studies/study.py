"""What a study is, and how one runs: unit after unit, each kept once it is finished."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from transformer_lens_fork.errors import InputError
from validation.execution.asked import Asked, one_of, resolve
from validation.execution.cases import Request, Surroundings
from validation.models.hashing import files_sha256, json_sha256
from validation.models.prompts import build_prompt
from validation.reporting.records import RecordFile
from validation.studies.laboratory import Laboratory
from validation.studies.page import Page
from validation.studies.records import StudyProvenance, StudyRecord, Unit, Values

_TEXT_TOKENS = 98_304
"""All of the text that is Markdown, with SmolLM2's tokenizer: code is no long document."""

_ROOM = 1.5
"""Or so many times what the windows of all seeds take, if that is more: they must not overlap."""

_SEEDS_TRIED = 10_000


@dataclass(frozen=True)
class Study:
    """One study.

    Attributes:
        name: as the command line has it.
        question: what it asks, in one sentence.
        contexts: tokens at the committed settings.
        dtypes: accepted, the committed one first.
        files: the code that measures: a change of it measures anew.
        units: what is to be measured, for contexts and seeds.
        measure: measures one unit.
        compose: says and draws what the records show.
        several_dtypes: every unit is measured in each dtype, and has its `dtype`; `measure` sees to
            it, since the laboratory's model has the first one.
    """

    name: str
    question: str
    contexts: tuple[int, ...]
    dtypes: tuple[str, ...]
    files: tuple[Path, ...]
    units: Callable[[tuple[int, ...], Sequence[int]], list[Unit]]
    measure: Callable[[Laboratory, Unit], Values]
    compose: Callable[[list[StudyRecord]], Page]
    several_dtypes: bool = False


class Watcher(Protocol):
    """Somebody who is shown how the run goes."""

    def counted(self, what: str, done: int, total: int) -> None:
        """One of `total` is done."""


def run_study(
    study: Study,
    request: Request,
    seeds: Sequence[int],
    file: RecordFile[StudyRecord],
    watcher: Watcher,
) -> list[StudyRecord]:
    """Measures what `file` does not hold.

    Args:
        study: which one.
        request: checkpoint, fork, contexts, dtype and device; its prompt is the whole text.
        seeds: each draws its own windows of the text.
        file: where records are kept.
        watcher: is shown what is being measured.

    Returns:
        The records of all units, in the study's order, those of earlier runs too.
    """
    surroundings = Surroundings.of(request.device)
    units = _units(study, request, seeds)
    common = _ingredients(study, request, surroundings)
    keys = [_key(common, unit, _dtype(request, unit)) for unit in units]
    found = {record.provenance.key: record for record in file.records}
    laboratory: Laboratory | None = None
    for done, (unit, key) in enumerate(zip(units, keys, strict=True)):
        watcher.counted(f"{study.name}, {describe(unit)}", done, len(units))
        if key in found:
            continue
        laboratory = laboratory or Laboratory(request)
        started = time.perf_counter()
        values = study.measure(laboratory, unit)
        record = StudyRecord(
            study=study.name,
            unit=unit,
            checkpoint=request.checkpoint.name,
            base=request.base.name,
            dtype=_dtype(request, unit),
            device=request.device,
            values=values,
            seconds=time.perf_counter() - started,
            provenance=_provenance(common, request, key, surroundings),
        )
        file.append(record)
        found[key] = record
    watcher.counted(study.name, len(units), len(units))
    return [found[key] for key in keys]


def window_start(request: Request) -> Callable[[int], int]:
    """Where in the request's text the windows of a seed begin; given the seed."""
    # Of the class, as an instance imports the fork.
    cut: Any = SimpleNamespace(request=request)
    return lambda seed: Laboratory.start(cut, seed)


def choose_seeds(start: Callable[[int], int], window: int, first: int, count: int) -> list[int]:
    """The first seeds whose windows of the text have nothing in common.

    Windows that overlap are not different texts, and what they say alike is no confirmation.

    Args:
        start: of a seed's window in the text.
        window: tokens of the longest one.
        first: the first seed; it is always chosen.
        count: how many.

    Raises:
        InputError: none of many seeds finds room for another window.
    """
    starts: dict[int, int] = {}
    for seed in range(first, first + _SEEDS_TRIED):
        here = start(seed)
        if all(abs(here - other) >= window for other in starts.values()):
            starts[seed] = here
            if len(starts) == count:
                return list(starts)
    raise InputError(
        f"--seeds: {count} is not accepted: from seed {first} on the text has room for "
        f"{len(starts)} windows of {window} tokens that do not overlap; so many are."
    )


def prepare(
    study: Study, arguments: Mapping[str, object], texts: int, report: Callable[[str], None]
) -> Request:
    """Finds what the arguments name, with the study's own contexts and dtype where they say none.

    Args:
        study: which one.
        arguments: the command line's, by name.
        texts: how many windows are to be cut from the text.
        report: receives what is being done, for people.

    Returns:
        The request, whose prompt is the whole text that windows are cut from.

    Raises:
        InputError: an argument names nothing, or nothing that this study takes.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    contexts = ",".join(map(str, study.contexts))
    dtypes = ",".join(study.dtypes) if study.several_dtypes else study.dtypes[0]
    defaults = {"contexts": contexts, "dtype": dtypes, "layers": None, "threads": None}
    asked = Asked.checked(defaults | given)
    if len(asked.dtypes) > 1 and not study.several_dtypes:
        raise InputError(f"--dtype: {given['dtype']!r} is not accepted; one dtype is.")
    for dtype in asked.dtypes:
        one_of("--dtype", dtype, study.dtypes)
    request = resolve(asked, report)
    if not request.trees[0].has_choice_of_attention:
        raise InputError(
            f"--tree: {request.trees[0].name!r} has no fused attention; 'fork', or a copy of it, "
            "is accepted."
        )
    n_tokens = max(_TEXT_TOKENS, int(_ROOM * texts * request.contexts[-1]))
    prompt = build_prompt(request.checkpoint, n_tokens, request.seed)
    return replace(request, prompt=prompt)


def of_study(study: Study, file: RecordFile[StudyRecord]) -> list[StudyRecord]:
    """The newest record of every unit that a file holds, in the order of the file.

    Raises:
        InputError: there is none, or one of another study.
    """
    others = {record.study for record in file.records} - {study.name}
    if others or not file.records:
        raise InputError(
            f"--out: {str(file.path)!r} has records of {', '.join(others) or 'nothing'}; some of "
            f"{study.name} and of nothing else are accepted."
        )
    return list({describe(record.unit): record for record in file.records}.values())


def describe(unit: Unit) -> str:
    """A unit as people read it."""
    return ", ".join(f"{name} {value}" for name, value in unit.items())


def seeds_of(records: Iterable[StudyRecord]) -> list[int]:
    """The seeds that were measured, ascending."""
    return sorted({int(record.unit["seed"]) for record in records if "seed" in record.unit})


def _units(study: Study, request: Request, seeds: Sequence[int]) -> list[Unit]:
    units = study.units(request.contexts, seeds)
    if not study.several_dtypes:
        return units
    return [{"dtype": dtype, **unit} for dtype in request.dtypes for unit in units]


def _dtype(request: Request, unit: Unit) -> str:
    return str(unit.get("dtype", request.dtypes[0]))


def _ingredients(study: Study, request: Request, surroundings: Surroundings) -> dict[str, Any]:
    """What could change the result of any unit: read and hashed once for all of them."""
    folder = Path(__file__).parent
    return {
        "study": study.name,
        "code": files_sha256(folder, [folder / "laboratory.py", *study.files]),
        "tree": request.trees[0].sha256,
        "checkpoint": request.checkpoint.sha256,
        "layers": request.checkpoint.shape.layers,
        # Of the longest context, which says where a seed's window begins.
        "contexts": request.contexts[-1],
        "prompt": request.prompt.sha256(len(request.prompt.tokens)),
        "device": request.device,
        "packages": surroundings.packages,
        "settings": surroundings.settings,
    }


def _key(common: dict[str, Any], unit: Unit, dtype: str) -> str:
    return json_sha256(common | {"unit": unit, "dtype": dtype})


def _provenance(
    common: dict[str, Any], request: Request, key: str, surroundings: Surroundings
) -> StudyProvenance:
    (tree,) = request.trees
    return StudyProvenance(
        key=key,
        study_sha256=common["code"],
        **surroundings.recorded(),
        sdist_sha256=request.base.sdist_sha256,
        tree_sha256=tree.sha256,
        series_sha256=tree.series_sha256,
        checkpoint_sha256=request.checkpoint.sha256,
        layers=request.checkpoint.shape.layers,
        prompt_sha256=common["prompt"],
        prompt_source=request.prompt.source,
    )
