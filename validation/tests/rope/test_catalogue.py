"""Every fault is a fault, where it says it is one, and those that are none change no bit."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from transformer_lens_fork.bases import REPOSITORY
from validation.models.rope_parameters import Llama3Rope
from validation.rope.catalogue import FAULTS, find_fault
from validation.rope.faults import Fault, edited_source
from validation.rope.parameter_sets import on_the_low_boundary
from validation.rope.perturbations import Quantity, perturbation
from validation.tests.conftest import ROPE, SMALLEST, save_checkpoint
from validation.tests.rope import grafting

_ON_BOUNDARY = 10
"""Of 16 pairs, the one whose wavelength is exactly on the low boundary."""


@pytest.fixture(scope="module")
def seen(fork: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bool]]:
    """In which runs each fault changes logits: all faults in one process."""
    folder = tmp_path_factory.mktemp("tiny")
    save_checkpoint(folder / "plain", **SMALLEST)
    rope = on_the_low_boundary(Llama3Rope(1e6, 4.0, 2.0, 8.0, 4096), 32, _ON_BOUNDARY)
    boundary = {
        "low_freq_factor": rope.low_freq_factor,
        "high_freq_factor": rope.high_freq_factor,
    }
    save_checkpoint(folder / "boundary", **SMALLEST, rope_parameters=ROPE | boundary)
    process = subprocess.run(
        [sys.executable, "-m", "validation.tests.rope.grafting", str(fork), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(fork), str(REPOSITORY)))},
    )
    assert process.returncode == 0, process.stderr
    found: dict[str, dict[str, bool]] = json.loads(process.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_seen_where_it_says(fault: Fault, seen: dict[str, dict[str, bool]]) -> None:
    """Logits differ in every run that has what the fault needs, and in no other."""
    for run, is_seen in seen[fault.name].items():
        length = int(run.partition("+")[0])
        assert is_seen == fault.is_visible(length, grafting.present_in(run)), run
    assert any(seen[fault.name].values()) == (fault.equivalent is None)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_edit_fits_the_fork(fault: Fault, fork: Path) -> None:
    """Each text to edit stands there exactly once, and what comes out is Python."""
    compile(edited_source(fault, fork), str(fault.file), "exec")


def test_the_catalogue_can_be_read() -> None:
    """Names are unique, every mistake is one sentence, and every family has its faults."""
    assert max(Counter(fault.name for fault in FAULTS).values()) == 1
    assert len(FAULTS) >= 40
    for fault in FAULTS:
        assert fault.mistake.endswith("."), fault.name
        assert fault.family != "other", fault.name
    assert find_fault("theta-10000").family == "theta"


@pytest.mark.parametrize("quantity", Quantity)
def test_a_perturbation_of_nothing_changes_nothing(
    quantity: Quantity, seen: dict[str, dict[str, bool]]
) -> None:
    """What is measured of an error of a given size is the error's alone."""
    whole = f"{grafting.WHOLE}"
    assert seen[perturbation(quantity, 0.0).name] == {whole: False}
    assert seen[perturbation(quantity, 1e-6).name] == {whole: True}


def test_grafts_are_undone(seen: dict[str, dict[str, bool]]) -> None:
    """After the last fault the tree gives the first logits again."""
    assert seen[grafting.SOUND] == {f"{grafting.WHOLE}": False}
