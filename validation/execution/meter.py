"""Seconds and peak memory of a block of code, on CPU or CUDA."""

import time

import torch

from validation.execution.memory import (
    peak_memory,
    reset_peak_memory,
    resident_memory,
    return_freed_memory,
)


class Meter:
    """Seconds of a block, and peak memory from its start to when it is asked.

    Attributes:
        seconds: of the block, once it has ended.
        resting_memory_bytes: of the process (CPU) or of the allocator (CUDA) when it began.
    """

    seconds: float
    resting_memory_bytes: int

    def __init__(self, device: str) -> None:
        """For work on `device`."""
        self._device = device if device.startswith("cuda") else None

    def __enter__(self) -> "Meter":
        if self._device:
            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
            self.resting_memory_bytes = torch.cuda.memory_allocated(self._device)
        else:
            # What an earlier block used and freed is not this one's.
            return_freed_memory()
            reset_peak_memory()
            self.resting_memory_bytes = resident_memory()
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        if self._device:
            torch.cuda.synchronize(self._device)
        self.seconds = time.perf_counter() - self._start

    @property
    def peak_memory_bytes(self) -> int:
        """The most at once, of the process (CPU) or of the allocator (CUDA)."""
        if self._device:
            return torch.cuda.max_memory_allocated(self._device)
        return peak_memory()
