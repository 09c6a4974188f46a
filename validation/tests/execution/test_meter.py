"""A meter and a stopwatch see their blocks and nothing else."""

import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from validation.execution.jobs import ReferenceJob
from validation.execution.meter import Meter, Stopwatch


def test_meter_sees_time_and_memory_of_its_block_alone() -> None:
    """200 MB held inside count; 400 MB freed before do not."""
    before = np.ones(50_000_000)
    del before
    with Meter("cpu") as idle:
        time.sleep(0.02)
    nothing = idle.peak_memory_bytes
    with Meter("cpu") as busy:
        held = np.ones(25_000_000)
    del held
    assert 150e6 < busy.peak_memory_bytes - nothing < 250e6
    assert 150e6 < busy.peak_memory_bytes - busy.resting_memory_bytes < 250e6
    assert idle.seconds >= 0.02


def test_stopwatch_adds_up_what_is_called_alike() -> None:
    """Two blocks of one name are one figure, also where the second ends in an error."""
    watch = Stopwatch("cpu")
    with watch.timing("sleep"):
        time.sleep(0.02)
    with suppress(ValueError), watch.timing("sleep"):
        time.sleep(0.02)
        raise ValueError
    with watch.timing("nothing"):
        pass
    assert list(watch.seconds) == ["sleep", "nothing"]
    assert watch.seconds["nothing"] < 0.02 < 0.04 <= watch.seconds["sleep"]


def test_stopwatch_counts_what_is_within_once() -> None:
    """A block in another is its own alone, in a block or as a function."""
    watch = Stopwatch("cpu")
    nap = watch.timed("nap", time.sleep)
    with watch.timing("day"):
        nap(0.2)
        with watch.timing("nap"):
            nap(0.2)
        time.sleep(0.02)
    nap(0.2)
    with watch.timing("evening"):
        time.sleep(0.02)
    assert watch.seconds["nap"] >= 0.6
    assert 0.02 <= watch.seconds["day"] < 0.2
    assert 0.02 <= watch.seconds["evening"] < 0.2


def _job(device: str, n_devices: int) -> ReferenceJob:
    return ReferenceJob(
        checkpoint=Path("none"),
        n_devices=n_devices,
        dtype="float32",
        attention="sdpa",
        device=device,
        forwards=(),
        chunk=1,
        threads=1,
        seed=0,
        scratch=Path("none"),
        rope_theta=1e4,
    )


def test_all_devices_of_a_job_are_metered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is waited for at both ends, the fullest one counts. Without GPUs torch is replaced."""
    waited: list[str] = []
    reset: list[str] = []
    resting, peaks = {"cuda:0": 5, "cuda:1": 7}, {"cuda:0": 20, "cuda:1": 30}
    monkeypatch.setattr("torch.cuda.synchronize", waited.append)
    monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", reset.append)
    monkeypatch.setattr("torch.cuda.memory_allocated", resting.__getitem__)
    monkeypatch.setattr("torch.cuda.max_memory_allocated", peaks.__getitem__)
    both = ["cuda:0", "cuda:1"]
    with Meter(*_job("cuda", 2).devices) as meter:
        assert waited == reset == both
    assert waited == 2 * both
    assert (meter.resting_memory_bytes, meter.peak_memory_bytes) == (7, 30)
    with Stopwatch(*_job("cuda", 2).devices).timing("work"):
        assert waited == 3 * both
    assert waited == 4 * both


def test_a_job_of_one_device_has_that_one() -> None:
    """By the name that it was asked for with."""
    assert _job("cpu", 1).devices == ("cpu",)
    assert _job("cuda:3", 1).devices == ("cuda:3",)
