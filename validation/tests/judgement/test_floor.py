"""What the reference says of itself survives a file, and several floors make one."""

from pathlib import Path

import numpy as np
import pytest

from validation.judgement.floor import ReferenceMetrics
from validation.tests.judgement.streams import floor_metrics, subject_metrics


def test_metrics_survive_a_file(tmp_path: Path) -> None:
    """Names, figures and bits are what was saved, and no half file is left."""
    saved = floor_metrics(128)
    saved.save(tmp_path / "reference.npz")
    loaded = ReferenceMetrics.load(tmp_path / "reference.npz")
    assert list(loaded.floors) == ["kernel", "channels"]
    for name, errors in loaded.floors.items():
        np.testing.assert_array_equal(errors.square_sum, saved.floors[name].square_sum)
        assert errors.vocab == saved.floors[name].vocab
    assert loaded.plain is not None
    assert saved.plain is not None
    np.testing.assert_array_equal(loaded.plain.abs_max, saved.plain.abs_max)
    np.testing.assert_array_equal(loaded.bits, saved.bits)
    assert [path.name for path in tmp_path.iterdir()] == ["reference.npz"]


def test_bits_alone_survive_a_file(tmp_path: Path) -> None:
    """Where no floor was measured there is none afterwards."""
    ReferenceMetrics({}, None, np.arange(8)).save(tmp_path / "reference.npz")
    loaded = ReferenceMetrics.load(tmp_path / "reference.npz")
    assert (loaded.floors, loaded.plain) == ({}, None)
    np.testing.assert_array_equal(loaded.bits, np.arange(8))


def test_pooled_floor() -> None:
    """Mean squares and largest maxima: neither floor alone decides."""
    one, other = subject_metrics(64, scale=1.0), subject_metrics(64, scale=3.0)
    floors = {"one": one.prefix(64), "other": other.prefix(64)}
    pooled = ReferenceMetrics(floors, one.prefix(64), np.zeros(64, dtype=np.int64)).pooled
    assert pooled.rms == pytest.approx(np.sqrt((one.rms**2 + other.rms**2) / 2))
    np.testing.assert_array_equal(pooled.abs_max, np.maximum(one.abs_max, other.abs_max))
    assert pooled.vocab == one.vocab


def test_no_floor_is_refused() -> None:
    """Nothing to divide by."""
    none = ReferenceMetrics({}, subject_metrics(8).prefix(8), np.zeros(8, dtype=np.int64))
    with pytest.raises(ValueError, match="at least one reordering"):
        _ = none.pooled
