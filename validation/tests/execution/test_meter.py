"""A meter and a stopwatch see their blocks and nothing else."""

import time
from contextlib import suppress

import numpy as np

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
