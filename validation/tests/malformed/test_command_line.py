"""The same in a process of its own; and the fixture that all the others rest on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from transformer_lens_fork.bases import REPOSITORY
from validation.models.checkpoints import Checkpoint, resolve_checkpoint
from validation.reporting.results import RESULTS
from validation.tests.malformed.conftest import Refused, ignore


def test_the_fixture_sees_a_traceback(refusal: Refused) -> None:
    """An exception that nobody expected is not taken for a refusal."""
    with pytest.raises(ZeroDivisionError):
        refusal(lambda: 1 // 0)


def test_a_sound_checkpoint_is_accepted(checkpoint: Path, refusal: Refused) -> None:
    """So the refusals above are not for another reason."""
    found: list[Checkpoint] = []
    assert refusal(lambda: found.append(resolve_checkpoint(str(checkpoint), ignore))) is None
    assert found


def test_the_command_line_says_the_same(
    checkpoint: Path, fork: Path, lines: list[bytes], tmp_path: Path
) -> None:
    """A handful of the above in a process of its own: one sentence, status 2, nothing computed."""
    config = json.loads((checkpoint / "config.json").read_bytes())
    config["rope_parameters"]["factor"] = float("nan")
    edited = json.loads(lines[1]) | {"verdict": "IDENTICAL", "logits_differing": 0}
    files = {
        "nan/config.json": json.dumps(config).encode(),
        "nan/model.safetensors": (checkpoint / "model.safetensors").read_bytes(),
        "cut/config.json": (checkpoint / "config.json").read_bytes(),
        "cut/model.safetensors": (checkpoint / "model.safetensors").read_bytes()[:5000],
        "edited/results.jsonl": json.dumps(edited).encode() + b"\n",
        "empty/torch.py": b"",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(content)
    for option, value, says in (
        ("--checkpoint", tmp_path / "nan", "factor in the llama3 RoPE scaling"),
        ("--checkpoint", tmp_path / "cut", "is corrupt or truncated"),
        ("--out", tmp_path / "edited", "IDENTICAL contradicts max_abs"),
        ("--subjects", tmp_path / "empty", "has no transformer_lens package"),
    ):
        options = {"--checkpoint": checkpoint, "--subjects": fork, "--out": tmp_path / "out"}
        arguments = [str(word) for pair in (options | {option: value}).items() for word in pair]
        process = subprocess.run(
            [sys.executable, "-m", "validation", "run", "--contexts", "64", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=REPOSITORY,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
        assert process.returncode == 2, process.stderr
        assert process.stdout == ""
        *before, sentence = process.stderr.splitlines()
        assert sentence.startswith(f"error: {option}: ")
        assert says in sentence
        assert not [line for line in before if "error" in line.lower() or "Traceback" in line]
        assert not list(tmp_path.glob("*/report.md"))
    assert (tmp_path / "edited" / RESULTS).read_bytes() == files["edited/results.jsonl"]
