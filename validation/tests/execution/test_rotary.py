"""`python -m validation rotary`, as a person would start it."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from validation.tests.conftest import command


def test_every_way_is_timed_or_says_why_not(tmp_path: Path) -> None:
    """The fork rotates as transformers does; of another way it is said how many values differ."""
    process = command(
        *("rotary", "--checkpoint", "random:tiny-llama-3.2-1b", "--contexts", "256"),
        *("--repeats", 3, "--threads", 1, "--out", tmp_path),
    )
    assert process.returncode == 0, process.stdout + process.stderr
    lines = (tmp_path / "rotary.jsonl").read_text(encoding="utf-8").splitlines()
    found: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert [record["context"] for record in found] == [256] * 4
    for record in found:
        assert (len(record["seconds"]) == 3) != bool(record["trouble"]), record
        if record["way"] in ("fork", "transformers"):
            assert record["seconds"]
            assert record["differing"] == 0
        if record["way"] == "Liger-Kernel" and find_spec("liger_kernel") is None:
            assert "No module named 'liger_kernel'" in record["trouble"]
    assert "fork, torch.compile" in process.stdout


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--device", "cuda:99", "'cuda:99' is asked for and"),
        ("--dtype", "int8", "--dtype: 'int8' is not accepted"),
        ("--tree", "nowhere", "has no transformer_lens package"),
    ],
)
def test_bad_input_is_refused(option: str, value: str, says: str, tmp_path: Path) -> None:
    """One sentence, status 2; a GPU that is not there is never passed over."""
    shape = ("--checkpoint", "random:tiny-llama-3.2-1b")
    process = command("rotary", *shape, "--out", tmp_path, option, value)
    assert process.returncode == 2, process.stdout + process.stderr
    assert says in process.stderr
