"""Seconds and peak memory of blocks of code, on CPU or CUDA."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from validation.execution.memory import (
    peak_memory,
    reset_peak_memory,
    resident_memory,
    return_freed_memory,
)

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


class Meter:
    """Seconds of a block, and peak memory from its start to when it is asked.

    Attributes:
        seconds: of the block, once it has ended.
        resting_memory_bytes: of the process (CPU) or of the allocator (CUDA) when it began, where
            it was most.
    """

    seconds: float
    resting_memory_bytes: int

    def __init__(self, *devices: str) -> None:
        """For work on these devices: the CPU, or all GPUs that a model is spread over."""
        self._gpus = _gpus(devices)

    def __enter__(self) -> "Meter":
        if self._gpus:
            _synchronize(self._gpus)
            for gpu in self._gpus:
                torch.cuda.reset_peak_memory_stats(gpu)
            self.resting_memory_bytes = max(map(torch.cuda.memory_allocated, self._gpus))
        else:
            # What an earlier block used and freed is not this one's.
            return_freed_memory()
            reset_peak_memory()
            self.resting_memory_bytes = resident_memory()
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        _synchronize(self._gpus)
        self.seconds = time.perf_counter() - self._start

    @property
    def peak_memory_bytes(self) -> int:
        """The most at once, of the process (CPU) or of the allocator on the fullest GPU (CUDA)."""
        if self._gpus:
            return max(map(torch.cuda.max_memory_allocated, self._gpus))
        return peak_memory()


class Stopwatch:
    """Adds up the seconds of several kinds of work; what is within another does not count as that.

    Attributes:
        seconds: by the name of the work.
    """

    def __init__(self, *devices: str) -> None:
        """For work on these devices, as of a `Meter`."""
        self._gpus = _gpus(devices)
        self.seconds: dict[str, float] = {}
        self._within = 0.0

    @contextmanager
    def timing(self, work: str) -> Iterator[None]:
        """Counts the block as `work`, to the end of what it has asked the device for."""
        beside, self._within = self._within, 0.0
        start = self._now()
        try:
            yield
        finally:
            whole = self._now() - start
            self.seconds[work] = self.seconds.get(work, 0.0) + whole - self._within
            self._within = beside + whole

    def timed(self, work: str, function: Callable[[_Given], _Made]) -> Callable[[_Given], _Made]:
        """The function, each call of which counts as `work`."""

        def call(given: _Given) -> _Made:
            with self.timing(work):
                return function(given)

        return call

    def _now(self) -> float:
        _synchronize(self._gpus)
        return time.perf_counter()


def _gpus(devices: Iterable[str]) -> tuple[str, ...]:
    return tuple(device for device in devices if device.startswith("cuda"))


def _synchronize(gpus: Iterable[str]) -> None:
    """Each by itself: torch waits for one device at a time (torch.cuda.synchronize)."""
    for gpu in gpus:
        torch.cuda.synchronize(gpu)
