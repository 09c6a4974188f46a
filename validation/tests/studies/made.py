"""Records of studies with figures that are chosen, and processes that import the fork."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformer_lens_fork.bases import REPOSITORY
from validation.studies.records import StudyRecord
from validation.tests.reporting.conftest import digest


def make_record(
    study: str, unit: Mapping[str, Any], values: Mapping[str, Any], dtype: str = "float32"
) -> StudyRecord:
    """One unit, measured with nothing in particular."""
    return StudyRecord.model_validate(
        {
            "study": study,
            "unit": dict(unit),
            "checkpoint": "tiny",
            "base": "v3.9.0",
            "dtype": dtype,
            "device": "cpu",
            "values": dict(values),
            "seconds": 1.0,
            "provenance": {
                "key": digest(study, sorted(unit.items()), dtype),
                "harness_sha256": digest("harness"),
                "study_sha256": digest("study"),
                "git_commit": "1f" * 20,
                "git_dirty": False,
                "sdist_sha256": digest("sdist"),
                "tree_sha256": digest("tree"),
                "series_sha256": digest("series"),
                "checkpoint_sha256": digest("checkpoint"),
                "layers": 2,
                "prompt_sha256": digest("prompt"),
                "prompt_source": "text",
                "packages": {"torch": "2"},
                "settings": {"threads": "1"},
                "measured_at": "2026-11-24T00:00:00+00:00",
            },
        }
    )


def run_in_fork(fork: Path, module: str, *arguments: object) -> str:
    """What a module of the tests prints, run where `transformer_lens` is the fork's."""
    process = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
        env=os.environ
        | {
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": os.pathsep.join((str(fork), str(REPOSITORY))),
        },
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout
