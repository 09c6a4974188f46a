"""The suite as a person starts it, rehearsed on a CPU with two tiny sizes."""

import os
import re
import subprocess
import sys
from configparser import ConfigParser
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from transformer_lens_fork.bases import REPOSITORY
from validation.gpu_parity.cluster import run_shard
from validation.reporting.results import RESULTS, Result
from validation.tests.execution.kills import comparable
from validation.tests.gpu_parity import slurm
from validation.tests.gpu_parity.test_matrix import SIZE

MATRIX = SIZE + SIZE.replace("1b", "8b").replace("llama-3.2", "llama-3.1")

ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if "PYTEST" not in name and name != "PYTHONPATH"
} | {
    "HF_HUB_OFFLINE": "1",
    "COLUMNS": "200",
    "OMP_NUM_THREADS": "1",
}
"""Without what tox adds: that the repository's folder is the working directory is enough."""


def suite(
    folder: Path, *arguments: str, subjects: str = "fork", **variables: str
) -> subprocess.CompletedProcess[str]:
    """`python -m pytest validation/gpu_parity` on a CPU, with results in `folder`."""
    matrix = folder.with_suffix(".toml")
    matrix.write_text(MATRIX)
    options = ("--matrix", str(matrix), "--out", str(folder), "--subjects", subjects, *arguments)
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "validation/gpu_parity",
            "-p",
            "no:cacheprovider",
            *options,
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
        env=ENVIRONMENT | variables,
    )


def cluster(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`python -m validation.gpu_parity.cluster`."""
    return subprocess.run(
        [sys.executable, "-m", "validation.gpu_parity.cluster", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
        env=ENVIRONMENT | variables,
    )


def measured(folder: Path) -> dict[str, dict[str, object]]:
    """The results in a folder by case, without what no two runs have in common."""
    lines = (folder / RESULTS).read_text(encoding="utf-8").splitlines()
    found = [Result.model_validate_json(line) for line in lines]
    assert len({result.provenance.case_key for result in found}) == len(found)
    return {result.provenance.case_key: comparable(result) for result in found}


@pytest.mark.long
def test_workers_and_shards_give_what_one_process_gives(tmp_path: Path) -> None:
    """One process, two workers, and two tasks of a cluster: the same cases, the same figures.

    The cluster is a SLURM of one node where Debian's is installed, else submitit's stand-in.
    """
    # The staged proof has tests of its own.
    cpu = ("--device", "cpu", "--no-stages", "--sizes")
    # The size of the second worker; most of the time goes into starting processes for more.
    alone = suite(tmp_path / "alone", *cpu, "8b")
    assert alone.returncode == 0, alone.stdout + alone.stderr
    expected = measured(tmp_path / "alone")
    assert len(expected) == 2

    junit = tmp_path / "junit.xml"
    workers = ("-n", "2", "--dist", "loadgroup", f"--junitxml={junit}")
    together = suite(tmp_path / "workers", *cpu, "1b,8b", *workers)
    assert together.returncode == 0, together.stdout + together.stderr
    assert "random:tiny-llama-3.1-8b" in together.stdout, "the plan comes first"
    assert "4 passed" in together.stdout
    cases = ElementTree.parse(junit).iter("testcase")  # our own file
    properties = {p.get("name"): p.get("value") for case in cases for p in case.iter("property")}
    assert properties["fork: verdict"] == "IDENTICAL"
    found = measured(tmp_path / "workers")
    assert len(found) == 4
    assert {key: found[key] for key in expected} == expected

    matrix = ("--matrix", str(tmp_path / "alone.toml"), "--subjects", "fork")
    own = ("--shards", "2", "--gpus", "0", "--out", str(tmp_path / "all"))
    has_slurm = slurm.is_installed()
    node: AbstractContextManager[dict[str, str]]
    node = slurm.one_node() if has_slurm else nullcontext({})
    with node as variables:
        where = ("--cluster", "slurm" if has_slurm else "local")
        shards = cluster(*where, *own, "--", *cpu, "8b", *matrix, **variables)
    assert shards.returncode == 0, shards.stdout + shards.stderr
    assert "2 of 2 judged cases are IDENTICAL or better" in shards.stdout
    for number in (1, 2):
        assert len(measured(tmp_path / "all" / f"shard-{number}")) == 1
    assert measured(tmp_path / "all") == expected
    for folder in ("alone", "workers", "all"):
        assert (tmp_path / folder / "report.html").exists()


@pytest.mark.skipif(not slurm.is_installed(), reason="needs Debian's SLURM")
def test_what_sbatch_refuses_is_one_sentence(tmp_path: Path) -> None:
    """A partition that is not there, GPUs on a node without: its own words, and no traceback."""
    refused = {("--partition", "gone", "--gpus", "0"): "partition", ("--gpus", "1"): "gres"}
    with slurm.one_node() as node:
        for arguments, word in refused.items():
            process = cluster(*arguments, "--out", str(tmp_path), **node)
            assert process.returncode == 2
            assert "error: --cluster: sbatch does not take the array (" in process.stderr
            assert word in process.stderr.rpartition("): ")[2]
            assert "Traceback" not in process.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("workers", [(), ("-n", "auto", "--dist", "loadgroup")])
def test_without_cuda_it_fails(workers: tuple[str, ...], tmp_path: Path) -> None:
    """It neither passes nor skips."""
    process = suite(tmp_path / "out", "--sizes", "1b", *workers)
    assert process.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--device: 'cuda' is asked for and torch" in process.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--device", "cpu"), "--sizes: on a CPU the sizes must be named"),
        (("--device", "cpu", "--sizes", ""), "--sizes: '' has an empty item"),
        (("--device", "tpu"), "--device: 'tpu' is not accepted"),
        (("--device", "cpu", "--sizes", "2b"), "--sizes: '2b' is not accepted; 1b, 8b are."),
        (("--shard", "1/2"), "--shard: without --sizes"),
        (("--device", "cpu", "--sizes", "1b", "-n", "1"), "--dist: 'load' with -n"),
    ],
)
def test_bad_input_is_refused(arguments: tuple[str, ...], says: str, tmp_path: Path) -> None:
    """Before anything is loaded."""
    process = suite(tmp_path / "out", *arguments)
    assert process.returncode == pytest.ExitCode.USAGE_ERROR
    assert says in process.stderr


def test_what_cannot_be_fetched_is_said(tmp_path: Path) -> None:
    """In one sentence, where there is no network and the cache has no release."""
    arguments = ("--device", "cpu", "--sizes", "1b")
    alone = {"PIP_NO_INDEX": "1", "LLAMA31_PARITY_CACHE": str(tmp_path / "cache")}
    process = suite(tmp_path / "out", *arguments, subjects="stock", **alone)
    assert process.returncode == pytest.ExitCode.USAGE_ERROR
    assert "\nERROR: pip cannot download transformer-lens 3.9.0: " in process.stderr
    assert "Traceback" not in process.stderr


def test_help_needs_nothing(tmp_path: Path) -> None:
    """Neither a GPU nor a choice of sizes."""
    process = suite(tmp_path / "out", "--help", "-n", "auto")
    assert process.returncode == 0, process.stderr
    assert "Names in the matrix, comma-separated" in process.stdout


def test_a_cluster_on_one_machine_has_no_gpus(tmp_path: Path) -> None:
    """All its tasks would take the first."""
    process = cluster("--cluster", "local", "--gpus", "1", "--out", str(tmp_path))
    assert process.returncode == 2
    assert "--gpus: 1 with --cluster local" in process.stderr


def test_without_slurm_it_is_said(tmp_path: Path) -> None:
    """In one sentence, before anything is written."""
    process = cluster("--out", str(tmp_path / "out"), PATH=str(tmp_path))
    assert process.returncode == 2
    assert process.stderr == (
        "error: --cluster: 'slurm' is asked for and there is no srun on the PATH; 'local' with "
        "--gpus 0 is accepted here.\n"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("gpus", "workers"), [(0, []), (1, []), (4, ["-n", "auto"])])
def test_a_task_uses_all_its_gpus(
    gpus: int, workers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a worker a GPU, or as many GPUs a worker as a size needs."""
    commands: list[list[str]] = []

    def note(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr("validation.gpu_parity.cluster.subprocess.run", note)
    assert run_shard(2, count=3, out=tmp_path, gpus=gpus, arguments=["--sizes", "1b"]) == 3
    (command,) = commands
    assert command[-2:] == ["--sizes", "1b"]
    assert [word for word in command if word in ("-n", "auto")] == workers
    assert ("loadgroup" in command) == bool(workers)
    assert "-W default" in " ".join(command)


def test_warnings_end_no_run() -> None:
    """What is an error in the tests is none in any command that runs the suite."""
    settings = ConfigParser(interpolation=None)
    settings.read(REPOSITORY / "tox.ini", encoding="utf-8")
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    places = (settings["testenv:gpu-parity"]["commands"], readme)
    commands = re.findall(r"pytest .*validation/gpu_parity", "\n".join(places))
    assert commands == ["pytest -W default validation/gpu_parity"] * 2
