"""The suite as a SLURM array, a shard a task: `python -m validation.gpu_parity.cluster`."""

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from transformer_lens_fork.bases import REPOSITORY
from transformer_lens_fork.errors import InputError, exit_statuses

_HELP = """
Submits the sizes of the matrix as an array of tasks, each of which runs its shard of all cases with
pytest validation/gpu_parity, and waits for them; then the results are merged into OUT.

\b
OUT/shard-I/     what each task measured; a task that is submitted again goes on where it was
OUT/submitit/    what the tasks printed
OUT/report.html  all of it, as `python -m validation report` puts it together

\b
Example:
  python -m validation.gpu_parity.cluster --shards 8 --partition gpu --out results/cluster -- \\
      --sizes 1b,3b,8b

--cluster local rehearses this here, on the CPU: with --gpus 0, and after -- with --device cpu and a
--matrix of small sizes.

Exit status: 0 every task passed, 1 one did not, 2 the input is not accepted.
"""

_CLUSTERS = ("slurm", "local")


def main(
    out: Annotated[Path, typer.Option(help="Folder that all tasks see, for results.")],
    shards: Annotated[int, typer.Option(help="Tasks of the array.", min=1)] = 4,
    cluster: Annotated[
        str, typer.Option(help="slurm; or local, a rehearsal here, on the CPU.")
    ] = "slurm",
    partition: Annotated[str | None, typer.Option(help="Of SLURM; else its default.")] = None,
    gpus: Annotated[int, typer.Option(help="Of a task, which uses them all.", min=0)] = 1,
    minutes: Annotated[int, typer.Option(help="That a task may take.", min=1)] = 240,
    at_once: Annotated[int, typer.Option(help="Tasks that run at the same time.", min=1)] = 8,
    arguments: Annotated[
        list[str] | None, typer.Argument(help="For the suite, after --; as in tox -e gpu-parity.")
    ] = None,
) -> None:
    """Run the shards on a cluster and merge what they measured."""
    with exit_statuses():
        passed = _run(
            out.resolve(), shards, cluster, partition, gpus, minutes, at_once, arguments or []
        )
    raise typer.Exit(0 if passed else 1)


def _run(
    out: Path,
    shards: int,
    cluster: str,
    partition: str | None,
    gpus: int,
    minutes: int,
    at_once: int,
    arguments: list[str],
) -> bool:
    if cluster not in _CLUSTERS:
        raise InputError(f"--cluster: {cluster!r} is not accepted; {' or '.join(_CLUSTERS)} is.")
    if cluster == "local" and gpus:
        raise InputError(
            f"--gpus: {gpus} with --cluster local, whose tasks would all take the same; 0 is "
            "accepted (`python -m pytest -W default validation/gpu_parity -n auto --dist "
            "loadgroup` has a worker a GPU)."
        )
    if cluster == "slurm" and shutil.which("srun") is None:
        raise InputError(
            "--cluster: 'slurm' is asked for and there is no srun on the PATH; 'local' with "
            "--gpus 0 is accepted here."
        )
    try:
        import submitit
    except ImportError:
        raise InputError("--cluster: submitit is not installed; `pip install submitit`.") from None
    out.mkdir(parents=True, exist_ok=True)
    executor = submitit.AutoExecutor(folder=out / "submitit", cluster=cluster)
    executor.update_parameters(
        name="gpu-parity",
        timeout_min=minutes,
        gpus_per_node=gpus,
        slurm_array_parallelism=at_once,
        **({"slurm_partition": partition} if partition else {}),
    )
    numbers = range(1, shards + 1)
    work = partial(run_shard, count=shards, out=out, gpus=gpus, arguments=arguments)
    try:
        jobs = executor.map_array(work, numbers)
    except submitit.core.utils.FailedJobError as error:
        said = " ".join(str(error).split())
        raise InputError(
            f"--cluster: sbatch does not take the array (--partition {partition or 'by default'}, "
            f"--gpus {gpus}): {said}"
        ) from None
    statuses = {}
    for number, job in zip(numbers, jobs, strict=True):
        statuses[number] = _status(job)
        print(f"shard {number} of {shards}: exit status {statuses[number]}", flush=True)
    # Of a task that was ended, what each size had measured by then.
    measured = sorted({file.parent for n in numbers for file in _results(out / f"shard-{n}")})
    if not measured:
        print("No shard measured anything.")
        return False
    merge = [sys.executable, "-m", "validation", "report", *map(str, measured)]
    options = ["--out", str(out), "--require", "identical"]
    merged = subprocess.run([*merge, *options], check=False, cwd=REPOSITORY)
    return merged.returncode == 0 and not any(statuses.values())


def _results(folder: Path) -> list[Path]:
    return [*folder.glob("results.jsonl"), *folder.glob("*/results.jsonl")]


def _status(job: Any) -> int | str:
    """Of a task; what became of it where it has none: it was cancelled, or ran out of time."""
    try:
        status: int = job.result()
    except Exception as error:  # its own, and whatever ended the task
        return f"{type(error).__name__}, see what it printed"
    return status


def run_shard(number: int, *, count: int, out: Path, gpus: int, arguments: list[str]) -> int:
    """Runs one shard on all its GPUs; returns pytest's exit status, 0 for a shard without cases."""
    command = [sys.executable, "-m", "pytest", "-W", "default", "validation/gpu_parity"]
    own = ["--shard", f"{number}/{count}", "--out", str(out / f"shard-{number}")]
    workers = ["-n", "auto", "--dist", "loadgroup"] if gpus > 1 else []
    command += ["-p", "no:cacheprovider", *own, *workers, *arguments]
    return subprocess.run(command, check=False, cwd=REPOSITORY).returncode


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(help=_HELP)(main)
    app()
