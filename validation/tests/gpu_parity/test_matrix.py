"""The matrix names every size, and what it does not say is refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from transformer_lens_fork.bases import REPOSITORY
from transformer_lens_fork.errors import InputError
from validation.gpu_parity.matrix import choose, read_matrix
from validation.gpu_parity.session import open_session
from validation.models.random_weights import parse_random

SIZE = """
[[size]]
name = "1b"
checkpoint = "random:tiny-llama-3.2-1b"
dtypes = ["float32"]
contexts = "64,96"
runner = "none"
timeout_minutes = 1
"""


def test_the_matrix_has_every_size() -> None:
    """Of which each is a shape that there is, to 64k tokens."""
    sizes = read_matrix()
    shapes = {parsed.shape for size in sizes.values() if (parsed := parse_random(size.checkpoint))}
    assert shapes == {
        *("llama-3.2-1b", "llama-3.2-3b", "llama-3.1-8b"),
        *("llama-3.1-70b", "llama-3.3-70b", "llama-3.1-405b"),
    }
    assert all(size.contexts == "1k:64k" for size in sizes.values())
    assert all(
        size.streams_layers == ("70b" in name or "405b" in name) for name, size in sizes.items()
    )


def test_a_workflow_can_read_it() -> None:
    """As GitHub's `matrix.include`, without torch or transformers."""
    code = "import sys, runpy; sys.modules['torch'] = sys.modules['transformers'] = None; "
    code += "runpy.run_module('validation.gpu_parity.matrix', run_name='__main__')"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    ).stdout
    (jobs,) = json.loads(output).values()
    assert [job["name"] for job in jobs] == list(read_matrix())
    assert all(set(job) == {"name", "runner", "gpus", "timeout_minutes"} for job in jobs)


def test_sizes_are_chosen_by_name(tmp_path: Path) -> None:
    """In the order of the matrix; another name is refused with those there are."""
    file = tmp_path / "matrix.toml"
    file.write_text(SIZE + SIZE.replace("1b", "3b"))
    matrix = read_matrix(file)
    assert [size.name for size in choose(matrix, "3b,1b")] == ["1b", "3b"]
    with pytest.raises(InputError, match=r"^--sizes: '2b' is not accepted; 1b, 3b are\.$"):
        choose(matrix, "1b,2b")


@pytest.mark.parametrize(
    ("streams_layers", "named", "subjects"),
    [
        (False, None, ["fork", "stock"]),
        (True, None, ["fork"]),
        (True, "stock,fork", ["stock", "fork"]),
    ],
)
def test_streamed_layers_are_fetched_for_the_fork_alone(
    streams_layers: bool, named: str | None, subjects: list[str], tmp_path: Path
) -> None:
    """With a floor where one is needed; whoever names subjects gets them."""
    file = tmp_path / "matrix.toml"
    file.write_text(SIZE + f"streams_layers = {str(streams_layers).lower()}\n")
    session = open_session(
        list(read_matrix(file).values()),
        tmp_path,
        "cpu",
        named,
        None,
        has_lazy_floor=False,
        only_fitting=False,
        with_stages=False,
    )
    (request,) = session.requests.values()
    assert [tree.name for tree in request.trees] == subjects
    assert request.streams_layers == request.has_lazy_floor == streams_layers


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[[size]\n", "Expected"),
        (SIZE.replace('"float32"', '"float64"'), "size.0.dtypes.0: Input should be"),
        (SIZE + "gpu = 2\n", "size.0.gpu: Extra inputs"),
        (SIZE.replace("timeout_minutes = 1", ""), "size.0.timeout_minutes: Field required"),
        (SIZE.replace("64,96", "64:32"), "size.0: contexts: '64:32' goes down"),
        (SIZE + "gpus = 2\nstreams_layers = true\n", "size.0: gpus is 2 and streams_layers true"),
        (SIZE + SIZE, "several sizes are called 1b"),
        ("size = []\n", "size: Tuple should have at least 1 item"),
    ],
)
def test_another_file_is_refused(content: str, says: str, tmp_path: Path) -> None:
    """In one sentence, with what is wrong where."""
    file = tmp_path / "matrix.toml"
    file.write_text(content)
    with pytest.raises(InputError, match=r"^--matrix: .* is not accepted") as refusal:
        read_matrix(file)
    assert says in str(refusal.value)


def test_every_runner_is_known_to_the_linter() -> None:
    """A label that is misspelt would wait for a machine for ever."""
    known = (REPOSITORY / ".github" / "actionlint.yaml").read_text(encoding="utf-8")
    labels = {line.strip(" -") for line in known.splitlines() if line.strip().startswith("- ")}
    assert labels == {size.runner for size in read_matrix().values()}
