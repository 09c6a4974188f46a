"""Records that no model has measured, and a process that has the fork to itself."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from transformer_lens_fork.bases import REPOSITORY
from validation.studies.records import StudyRecord
from validation.tests.reporting.conftest import digest


def record(study: str, unit: Mapping[str, object], values: Mapping[str, object]) -> StudyRecord:
    """One unit with these values."""
    return StudyRecord.model_validate(
        {
            "study": study,
            "unit": unit,
            "checkpoint": "tiny",
            "base": "v3.9.0",
            "dtype": "float32",
            "device": "cpu",
            "values": values,
            "seconds": 1.0,
            "provenance": {
                "key": digest(study, *unit.items()),
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
                "prompt_source": "counting",
                "packages": {"torch": "2"},
                "settings": {"threads": "1"},
                "measured_at": "2026-11-26T00:00:00+00:00",
            },
        }
    )


def run_in_fork(module: str, fork: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a module of the tests in a process of its own, which imports the fork."""
    paths = os.pathsep.join(map(str, (fork, REPOSITORY)))
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": paths},
    )
