"""Which contestants fit the memory at which work, and which may stay in memory side by side."""

from validation.execution.bench_grid import PAIRS, Bench, Contestant, Point
from validation.execution.bench_messages import GENERATED, WorkloadName
from validation.execution.plan import (
    cache_bytes,
    forward_bytes,
    parameter_bytes,
    repeats_keys,
    resting_bytes,
)

_RESTING_SHARE = 0.5
"""Of the memory that models at rest may take: the one that works needs the other half."""

_CUDA_CONTEXT_BYTES = 600 * 2**20
"""Of each process on the device, outside torch's allocator: driver, kernels, cuBLAS."""


def choose_groups(bench: Bench) -> list[tuple[Contestant, ...]]:
    """Who takes turns with whom: all, or where so many models do not fit, each pair by itself."""
    everyone = bench.contestants
    resting = sum(_resting(bench, who) for who in everyone)
    if resting <= _RESTING_SHARE * bench.request.memory_bytes:
        return [everyone]
    groups = (tuple(who for who in everyone if who.name in pair) for pair in PAIRS)
    return [group for group in groups if group]


def plan_points(bench: Bench, group: tuple[Contestant, ...]) -> list[Point]:
    """All work of a group, short contexts first."""
    return [
        _plan_point(bench, group, workload, context)
        for context in bench.request.contexts
        for workload in bench.workloads
    ]


def _plan_point(
    bench: Bench, group: tuple[Contestant, ...], workload: WorkloadName, context: int
) -> Point:
    limit = bench.request.memory_bytes
    resting = {who: _resting(bench, who) for who in group}
    needs = {who: resting[who] + _working(bench, who, workload, context) for who in group}
    refusals: dict[Contestant, str | None] = {}
    for who in group:
        beside = sum(resting.values()) - resting[who]
        refusals[who] = None
        if needs[who] + beside > limit:
            refusals[who] = (
                f"{context} tokens need {needs[who] / 2**30:.1f} GiB beside "
                f"{beside / 2**30:.1f} GiB of the others, {limit / 2**30:.1f} GiB may be taken "
                "(--memory)"
            )
    return Point(workload, context, refusals, needs)


def _resting(bench: Bench, contestant: Contestant) -> int:
    shape, size = bench.request.checkpoint.shape, _value_bytes(bench)
    if bench.request.device.startswith("cuda"):
        return _CUDA_CONTEXT_BYTES + parameter_bytes(contestant.model, shape, size)
    return resting_bytes(contestant.model, shape, size)


def _working(bench: Bench, contestant: Contestant, workload: WorkloadName, context: int) -> int:
    """What the work adds: eager attention takes all tokens at once, as sdpa does."""
    shape, size = bench.request.checkpoint.shape, _value_bytes(bench)
    prefill = context if contestant.attention == "eager" else None
    added = forward_bytes(
        contestant.model,
        shape,
        size,
        context,
        prefill,
        repeats_keys=repeats_keys(bench.request.device, bench.request.dtypes[0]),
    )
    if workload == "generate":
        added += (shape.layers + 2) * cache_bytes(shape, size, context + GENERATED)
    return int(added)


def _value_bytes(bench: Bench) -> int:
    return 4 if bench.request.dtypes[0] == "float32" else 2
