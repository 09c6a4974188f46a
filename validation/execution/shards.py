"""One list of cases cut into shards that machines run without knowing of each other."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from transformer_lens_fork.errors import InputError
from validation.execution.cases import Request
from validation.execution.jobs import DtypeName
from validation.execution.plan import Machine, plan_case

_NOMINAL = Machine(memory_bytes=2**36, flops=1e14, bytes_per_second=1e12)
"""What costs are reckoned with: the same on every machine, so that all cut the list alike."""

_T = TypeVar("_T")

Place = tuple[DtypeName, int]
"""Dtype and context: all subjects of a place share a reference."""


@dataclass(frozen=True)
class Shard:
    """Which part of a list is taken.

    Attributes:
        number: from 1.
        count: of all shards.
    """

    number: int = 1
    count: int = 1

    def take(self, things: Iterable[_T], cost: Callable[[_T], float]) -> list[_T]:
        """This shard's things, in their order: the dearest first, each to the shard with least.

        No shard is dearer than 4/3 of what the best cut could reach (Graham 1969, "Bounds on
        multiprocessing timing anomalies", section 4).
        """
        costs = [(cost(thing), index, thing) for index, thing in enumerate(things)]
        loads = [0.0] * self.count
        taken = []
        for amount, index, thing in sorted(costs, key=lambda each: (-each[0], each[1])):
            least = loads.index(min(loads))
            loads[least] += amount
            if least == self.number - 1:
                taken.append((index, thing))
        return [thing for _, thing in sorted(taken, key=lambda each: each[0])]


_ALL = Shard()


def parse_shard(text: str) -> Shard:
    """The shard of words such as `2/5`.

    Raises:
        InputError: there is no such shard.
    """
    match = re.fullmatch(r"([1-9]\d{0,3})/([1-9]\d{0,3})", text)
    shard = Shard(int(match[1]), int(match[2])) if match else None
    if shard is None or shard.number > shard.count:
        raise InputError(f"--shard: {text!r} is not accepted; one of N shards such as 2/5 is.")
    return shard


def places(request: Request, shard: Shard = _ALL) -> list[Place]:
    """The dtypes and contexts of `request` that are the shard's."""
    every = [(dtype, context) for dtype in request.dtypes for context in request.contexts]
    return shard.take(every, lambda place: nominal_seconds(request, *place))


def nominal_seconds(request: Request, dtype: DtypeName, context: int) -> float:
    """Of a place, with all its subjects, on a machine that need not exist."""
    plans = [
        plan_case(request, dtype, context, _NOMINAL, tree.attention(request.attention))
        for tree in request.trees
    ]
    return plans[0].reference_seconds + sum(plan.subject_seconds for plan in plans)
