"""What one process of the suite knows: its sizes, its cases, and their results as they come."""

import os
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path

from transformer_lens_fork.errors import InputError
from validation.execution.asked import resolve
from validation.execution.cases import Request
from validation.execution.jobs import DtypeName
from validation.execution.plan import default_memory, plan_request
from validation.execution.run import run_cases
from validation.execution.shards import Place, Shard, nominal_seconds, places
from validation.execution.staging import run_stages
from validation.gpu_parity.matrix import Size
from validation.reporting.console import Console, print_plans
from validation.reporting.outputs import refuse_unusable_folder
from validation.reporting.results import Result, ResultStore
from validation.reporting.staged import StageStore
from validation.reporting.wording import tokens


@dataclass(frozen=True)
class Unit:
    """One size at one dtype and context, with all its subjects: what a test judges.

    Attributes:
        size: the entry of the matrix.
        place: dtype and context.
    """

    size: Size
    place: Place

    @property
    def name(self) -> str:
        """Such as `1b-bfloat16-64k`."""
        dtype, context = self.place
        return f"{self.size.name}-{dtype}-{tokens(context)}"


@dataclass
class Session:
    """The sizes that are run, and what has been measured.

    Attributes:
        requests: what is asked for, by the size's name.
        sizes: in the order of the matrix.
        out: folder of results; each size has one of its own in it.
        has_stages: whether it is looked where a tree first differs.
        left_out: why a size is not run, by its name.
    """

    requests: dict[str, Request]
    sizes: list[Size]
    out: Path
    has_stages: bool
    left_out: dict[str, str] = field(default_factory=dict)
    _results: dict[tuple[str, DtypeName], list[Result]] = field(default_factory=dict)

    @property
    def gpus_each(self) -> int:
        """What the largest of the sizes needs."""
        return max(size.gpus for size in self.sizes)

    def units(self, shard: Shard) -> list[Unit]:
        """The shard's part of everything, size by size."""
        every = [Unit(size, place) for size in self.sizes for place in places(self._of(size))]
        return shard.take(every, lambda unit: nominal_seconds(self._of(unit.size), *unit.place))

    def _of(self, size: Size) -> Request:
        return self.requests[size.name]

    def results(self, unit: Unit, units: Sequence[Unit]) -> list[Result]:
        """Of a unit; with it all others of its size and dtype are run, on weights loaded once.

        Args:
            unit: whose results are wanted.
            units: those that this process runs.
        """
        dtype, context = unit.place
        batch = unit.size.name, dtype
        if batch not in self._results:
            mine = [each.place for each in units if each.size == unit.size]
            chosen = [place for place in mine if place[0] == dtype]
            self._results[batch] = self._run(unit.size, dtype, chosen)
        return [result for result in self._results[batch] if result.context == context]

    def _run(self, size: Size, dtype: DtypeName, chosen: list[Place]) -> list[Result]:
        folder = self.out / size.name
        refuse_unusable_folder(folder)
        request = replace(self._of(size), dtypes=(dtype,))
        with Console() as console:
            if self.has_stages and (dtype, request.contexts[0]) in chosen:
                run_stages(request, StageStore(folder), console)
            return run_cases(request, ResultStore(folder), console, chosen)

    def describe(self) -> str:
        """The plan of every size, as `plan` prints it, and which are left out."""
        parts = []
        for size in self.sizes:
            request = self._of(size)
            with StringIO() as text, redirect_stdout(text):
                print_plans(plan_request(request), len(request.trees), request.memory_bytes)
                parts.append(f"{size.name}: {size.checkpoint}\n{text.getvalue()}")
        parts += [f"{name} is left out: {reason}" for name, reason in self.left_out.items()]
        return "\n".join(parts)


def open_session(
    sizes: list[Size],
    out: Path,
    device: str,
    subjects: str | None,
    memory_bytes: int | None,
    *,
    has_lazy_floor: bool,
    only_fitting: bool,
    with_stages: bool,
) -> Session:
    """Finds what the sizes need.

    Args:
        sizes: of the matrix.
        out: folder of results.
        device: `cuda` or `cpu`.
        subjects: as `--subjects` takes them; the sizes' own if None.
        memory_bytes: what one process may take; by default most of the device's.
        has_lazy_floor: measure the floor only where a subject differs, of every size.
        only_fitting: leave out what does not fit; else it fails when it is run.
        with_stages: also find where a tree first differs.

    Raises:
        InputError: there is no such device or subject, or nothing fits.
    """
    session = Session({}, [], out, with_stages)
    with Console() as console:
        for size in sizes:
            n_gpus = len(visible_gpus())
            if only_fitting and 0 < n_gpus < size.gpus:
                session.left_out[size.name] = f"it needs {size.gpus} GPUs and there are {n_gpus}"
                continue
            asked = size.asked(device, subjects, memory_bytes)
            is_lazy = has_lazy_floor or asked.has_lazy_floor
            request = resolve(replace(asked, has_lazy_floor=is_lazy), console.step)
            plans = plan_request(request) if only_fitting else []
            if refusals := [plan.refusal for _, plan in plans if plan.refusal]:
                session.left_out[size.name] = refusals[0]
                continue
            session.requests[size.name] = request
            session.sizes.append(size)
    if not session.sizes:
        raise InputError(f"--sizes: none fits {device}: {next(iter(session.left_out.values()))}.")
    return session


def least_memory() -> int | None:
    """Bytes that one process may take of each GPU that it sees; None without any."""
    numbers = range(len(visible_gpus()))
    return min((default_memory(f"cuda:{number}") for number in numbers), default=None)


def visible_gpus() -> list[str]:
    """The GPUs that this process sees, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name.strip() for name in named.split(",")] if named else list(map(str, range(count)))
    return names[:count]
