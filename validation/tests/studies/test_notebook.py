"""The notebook runs from its first cell to its last, and is committed without outputs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from transformer_lens_fork.bases import REPOSITORY
from validation.models.checkpoints import resolve_checkpoint
from validation.models.truncation import truncate

NOTEBOOK = REPOSITORY / "validation" / "studies" / "long_range_intervention.ipynb"

_RUN = """
import sys
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""
"""In a process of its own: the client's event loop and sockets are none of these tests'."""


def cells() -> list[dict[str, Any]]:
    """Of the notebook as it is committed."""
    found: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return found


def test_no_outputs_are_committed() -> None:
    """Nor how often a cell was run."""
    code = [cell for cell in cells() if cell["cell_type"] == "code"]
    assert len(code) > 5
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)


def test_text_says_what_each_cell_of_code_is_for() -> None:
    """Two cells of code never follow each other, and text comes first and last."""
    kinds = "".join(cell["cell_type"][0] for cell in cells())
    assert kinds.startswith("mc")
    assert kinds.endswith("cm")
    assert "cc" not in kinds


def test_it_runs_headless(fork: Path, tmp_path: Path) -> None:
    """On two layers and 512 tokens; moving all tokens changes losses by rounding alone."""
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    checkpoint = truncate(resolve_checkpoint("smollm2", print), 2, print)
    beside = tmp_path / "tree"
    beside.mkdir()
    # The kernel imports the fork, and nothing else that lies beside it.
    (beside / "transformer_lens").symlink_to(fork / "transformer_lens")
    process = subprocess.run(
        [sys.executable, "-c", _RUN, str(NOTEBOOK), str(tmp_path / "run.ipynb")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join((str(beside), str(REPOSITORY))),
            "IPYTHONDIR": str(tmp_path / "ipython"),
            "JUPYTER_RUNTIME_DIR": str(tmp_path / "jupyter"),
            "HF_HUB_OFFLINE": "1",
            "LLAMA31_CHECKPOINT": str(checkpoint.path),
            "LLAMA31_CONTEXT": "512",
        },
    )
    assert process.returncode == 0, process.stderr
    outputs = [
        output
        for cell in json.loads((tmp_path / "run.ipynb").read_text(encoding="utf-8"))["cells"]
        for output in cell.get("outputs", [])
    ]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    said = "".join("".join(output.get("text", "")) for output in outputs)
    largest = said.partition("largest change of any loss: ")[2].split()[0]
    # Angles of 1000 radians are rounded by 3e-5, at each of two layers.
    assert 0 < float(largest) < 1e-2
    assert "first quarter moved away: " in said
