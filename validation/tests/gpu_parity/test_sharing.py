"""Which sizes are run is decided once, and each worker gets GPUs for the largest of them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from validation.gpu_parity import conftest as suite
from validation.gpu_parity.matrix import read_matrix
from validation.gpu_parity.session import Session, least_memory, open_session
from validation.tests.gpu_parity.test_matrix import SIZE

LARGE = SIZE.replace('"1b"', '"8b"') + "gpus = 4\n"


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unlike ones, as far as the suite asks torch before it runs a model."""
    memory = {"cuda:0": 80 * 2**30, "cuda:1": 24 * 2**30}
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(
        "torch.cuda.get_device_properties",
        lambda device: SimpleNamespace(total_memory=memory[device]),
    )


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """Of a matrix whose second size needs four GPUs; on a CPU, where the first one runs."""
    matrix = tmp_path / "matrix.toml"
    matrix.write_text(SIZE + LARGE)
    return open_session(
        list(read_matrix(matrix).values()),
        tmp_path / "out",
        "cpu",
        "fork",
        None,
        has_lazy_floor=False,
        only_fitting=True,
        with_stages=False,
    )


class Config(SimpleNamespace):
    """What the suite asks of pytest's."""

    def getoption(self, name: str) -> Any:
        """By the name on the command line."""
        return getattr(self.option, name.removeprefix("--").replace("-", "_"))


def _config(**options: object) -> Config:
    given = {"help": False, "sizes": None, "shard": "1/1", "memory": None, "subjects": "fork"}
    unused = {"lazy_floor": False, "no_stages": True}
    return Config(option=SimpleNamespace(**given | unused | options), stash=pytest.Stash())


def _node(config: Config, number: int) -> Any:
    return SimpleNamespace(config=config, gateway=SimpleNamespace(id=f"gw{number}"), workerinput={})


def test_what_is_left_out_takes_no_gpus(session: Session) -> None:
    """Two workers of one GPU each, though another size of the matrix asks for four."""
    assert session.left_out == {"8b": "it needs 4 GPUs and there are 2"}
    config: Any = _config(device="cuda")
    config.stash[suite._SESSION] = session
    assert suite.pytest_xdist_auto_num_workers(config) == 2
    nodes = [_node(config, number) for number in range(2)]
    for node in nodes:
        suite.pytest_configure_node(node)
    assert [node.workerinput for node in nodes] == [
        {"sizes": "1b", "cuda_visible_devices": "0"},
        {"sizes": "1b", "cuda_visible_devices": "1"},
    ]


def test_what_fits_is_asked_of_the_smallest_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Unless it is said, by name or in bytes."""
    asked: list[int | None] = []

    def note(*arguments: Any, **_: Any) -> Session:
        asked.append(arguments[4])
        return Session({}, [], tmp_path, has_stages=False)

    monkeypatch.setattr(suite, "open_session", note)
    matrix = tmp_path / "matrix.toml"
    matrix.write_text(SIZE)
    for options in ({}, {"memory": "70g"}, {"sizes": "1b"}):
        config: Any = _config(device="cuda", matrix=matrix, out=tmp_path, **options)
        suite._opened(config)
    assert asked == [least_memory(), 70 * 2**30, None]
    assert least_memory() == int(0.9 * 24 * 2**30)


def test_a_worker_runs_what_it_is_told(tmp_path: Path) -> None:
    """Whatever its own GPU would fit."""
    matrix = tmp_path / "matrix.toml"
    matrix.write_text(SIZE + SIZE.replace('"1b"', '"3b"'))
    config: Any = _config(device="cpu", matrix=matrix, out=tmp_path, sizes="1b,3b")
    config.workerinput = {"sizes": "3b"}
    suite.pytest_configure(config)
    assert [size.name for size in config.stash[suite._SESSION].sizes] == ["3b"]
