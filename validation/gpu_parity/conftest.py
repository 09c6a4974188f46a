"""The suite's options, its cases, and who runs them: one worker a GPU, one GPU a worker."""

import os
from pathlib import Path
from typing import Any

import pytest

from transformer_lens_fork.errors import InputError, VerificationError
from validation.execution.asked import parse_memory
from validation.execution.shards import parse_shard
from validation.gpu_parity.matrix import MATRIX, choose, read_matrix
from validation.gpu_parity.session import Session, Unit, least_memory, open_session, visible_gpus

_SESSION = pytest.StashKey[Session]()
_UNITS = pytest.StashKey[list[Unit]]()
_GPUS = "cuda_visible_devices"
_SIZES = "sizes"


def pytest_addoption(parser: pytest.Parser) -> None:
    """What can be chosen."""
    group = parser.getgroup("gpu-parity", "Llama 3.x sizes on the GPUs that are there")
    group.addoption(
        "--sizes", help="Names in the matrix, comma-separated; by default all that fit."
    )
    group.addoption("--matrix", type=Path, default=MATRIX, help="File with the sizes.")
    group.addoption("--device", default="cuda", help="cuda, or cpu for a rehearsal.")
    group.addoption("--out", type=Path, default=Path("results/gpu-parity"), help="For results.")
    group.addoption(
        "--subjects",
        help="As `python -m validation run` has; by default fork,stock, of streamed layers fork.",
    )
    group.addoption("--memory", help="What one process may take, such as 70g.")
    group.addoption(
        "--lazy-floor",
        action="store_true",
        help="Measure the floor only where a logit differs: what is IDENTICAL needs none.",
    )
    group.addoption("--no-stages", action="store_true", help="Do not look where it first differs.")
    group.addoption("--shard", default="1/1", help="I/N: the I-th of N parts of all cases.")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Finds the cases; what is missing ends the run before it begins.

    Raises:
        UsageError: CUDA is asked for and absent, an option is not accepted, or a subject cannot be
            made.
    """
    if config.option.help:
        return
    if own := _given(config, _GPUS):
        # Before torch looks.
        os.environ["CUDA_VISIBLE_DEVICES"] = own
    n_workers = None if _is_worker(config) else getattr(config.option, "numprocesses", None)
    if n_workers and config.option.dist != "loadgroup":
        raise pytest.UsageError(
            f"--dist: {config.option.dist!r} with -n would make the weights of a size in several "
            "workers, which write to one folder; 'loadgroup' is accepted."
        )
    _opened(config)


def _opened(config: pytest.Config) -> Session:
    """The process' session; xdist asks for the number of workers before anything is configured."""
    if _SESSION not in config.stash:
        try:
            session = _open(config)
            config.stash[_UNITS] = session.units(parse_shard(config.getoption("--shard")))
        except (InputError, VerificationError) as error:
            raise pytest.UsageError(str(error)) from None
        config.stash[_SESSION] = session
    return config.stash[_SESSION]


def _open(config: pytest.Config) -> Session:
    # Which sizes fit is decided once: workers with unlike GPUs would collect unlike tests.
    names = _given(config, _SIZES) or config.getoption("--sizes")
    device = config.getoption("--device")
    if device not in ("cpu", "cuda"):
        raise InputError(f"--device: {device!r} is not accepted; cuda, or cpu, is.")
    if device == "cpu" and names is None:
        raise InputError("--sizes: on a CPU the sizes must be named; they take days otherwise.")
    if names is None and parse_shard(config.getoption("--shard")).count > 1:
        raise InputError(
            "--shard: without --sizes each machine would cut the list of those that fit it; with "
            "--sizes all cut one list."
        )
    memory = config.getoption("--memory")
    memory_bytes = None if memory is None else parse_memory(memory)
    if memory_bytes is None and names is None:
        memory_bytes = least_memory()
    matrix = read_matrix(config.getoption("--matrix"))
    return open_session(
        list(matrix.values()) if names is None else choose(matrix, names),
        config.getoption("--out").resolve(),
        device,
        config.getoption("--subjects"),
        memory_bytes,
        has_lazy_floor=config.getoption("--lazy-floor"),
        only_fitting=names is None,
        with_stages=not config.getoption("--no-stages"),
    )


def pytest_report_header(config: pytest.Config) -> list[str]:
    """The plan comes first."""
    if _is_worker(config) or _SESSION not in config.stash:
        return []
    return config.stash[_SESSION].describe().splitlines()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a unit; all of a size on one worker, so that its weights are made once."""
    if "unit" in metafunc.fixturenames:
        units = metafunc.config.stash[_UNITS]
        marked = [
            pytest.param(unit, id=unit.name, marks=pytest.mark.xdist_group(unit.size.name))
            for unit in units
        ]
        metafunc.parametrize("unit", marked)


@pytest.fixture
def session(request: pytest.FixtureRequest) -> Session:
    """The process' own."""
    return request.config.stash[_SESSION]


@pytest.fixture
def units(request: pytest.FixtureRequest) -> list[Unit]:
    """All cases of the shard."""
    return request.config.stash[_UNITS]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """One report of all sizes, in OUT."""
    config = session.config
    if _is_worker(config) or config.option.collectonly or _SESSION not in config.stash:
        return
    from validation.reporting.merging import merge
    from validation.reporting.report import write_report
    from validation.reporting.results import RESULTS

    mine = config.stash[_SESSION]
    folders = [mine.out / size.name for size in mine.sizes]
    folders = [folder for folder in folders if (folder / RESULTS).exists()]
    if folders:
        results, staged = merge(folders, mine.out)
        write_report(results, mine.out, staged)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Where the report is."""
    session = config.stash.get(_SESSION, None)
    if session and (page := session.out / "report.html").exists():
        terminalreporter.write_line(f"Report: {page}")


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _given(config: pytest.Config, what: str) -> str | None:
    """What the controller told this process, if it is a worker."""
    given: str | None = getattr(config, "workerinput", {}).get(what)
    return given


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """As many as there are GPUs for; one on a CPU, which is shared anyhow."""
    if config.option.help or config.getoption("--device") != "cuda":
        return 1
    return max(1, len(visible_gpus()) // _opened(config).gpus_each)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Gives each worker the sizes that are run, and GPUs of its own."""
    session = _opened(node.config)
    node.workerinput[_SIZES] = ",".join(size.name for size in session.sizes)
    if node.config.getoption("--device") == "cuda":
        gpus, each = visible_gpus(), session.gpus_each
        first = int(node.gateway.id[2:]) * each
        node.workerinput[_GPUS] = ",".join(gpus[(first + i) % len(gpus)] for i in range(each))
