"""A worker's heap does not grow by what it no longer uses."""

import os
import subprocess
import sys

import pytest

from transformer_lens_fork.bases import REPOSITORY
from validation.execution.processes import ENVIRONMENT, KEPT_HEAP

_HOLES = """
import sys, torch
from validation.execution.memory import Heap, resident_memory
heap = Heap(64 * 2**20)
heap.tidy()
before = resident_memory()
pairs = [(torch.ones(2**22), torch.ones(2**16)) for _ in range(40)]
kept = [small for _, small in pairs]
del pairs
if sys.argv[1] == "tidy":
    heap.tidy()
print((resident_memory() - before) // 2**20)
"""
"""640 MiB freed in holes of 16, between which 10 MiB in all stay in use."""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")
@pytest.mark.parametrize(("how", "low", "high"), [("tidy", 0, 100), ("leave", 500, 800)])
def test_a_heap_of_holes(how: str, low: int, high: int) -> None:
    """Left alone it stays many times what is in use; tidied it is not."""
    environment = ENVIRONMENT | KEPT_HEAP | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        [sys.executable, "-c", _HOLES, how],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment,
    )
    assert low <= int(process.stdout) <= high, process.stdout
