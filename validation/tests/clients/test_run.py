"""Exercises of a stand-in run on both trees, in processes of their own."""

import sys
from pathlib import Path
from tempfile import gettempdir

import pytest

from transformer_lens_fork.bases import get_base
from validation.clients import run
from validation.clients.catalogue import Client, Exercise
from validation.clients.environments import Environment, NotInstallable
from validation.clients.judging import judge_client
from validation.clients.run import Trees, run_clients
from validation.execution.cases import Surroundings
from validation.models.trees import resolve_tree
from validation.reporting.client_content import compose_clients, write_client_report
from validation.reporting.client_records import CLIENTS, ClientRecord, Outcome
from validation.reporting.console import Console
from validation.reporting.records import RecordFile

_STANDIN = "validation.tests.clients.standin"


def _client(*functions: str) -> Client:
    exercises = tuple(Exercise(name, _STANDIN, name, name) for name in functions)
    return Client("standin", "numpy", ("standin==1",), exercises, "none")


def _run(client: Client, folder: Path) -> list[ClientRecord]:
    base = get_base("v3.9.0")
    stock, fork = (resolve_tree(spec, base, lambda _: None) for spec in ("stock", "fork"))
    file = RecordFile(folder / CLIENTS, ClientRecord, "record")
    with Console() as console:
        return run_clients((client,), Trees(stock, fork, Surroundings.of("cpu")), file, console)


def test_both_trees_are_exercised_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where nothing may differ, exact where transformers is, a break is one; no rerun."""
    here = Environment(Path(sys.executable), "on top of this one")
    monkeypatch.setattr(run, "environment_for", lambda *_: here)
    client = _client("exercise", "exercise_break", "exercise_difference")
    records = _run(client, tmp_path)
    judged = [judge_client(record.stock, record.fork) for record in records]
    assert [outcome for outcome, _ in judged] == [Outcome.EXACT, Outcome.BROKEN, Outcome.DIFFERS]
    assert judged[0][1].startswith("Llama: on the release "), judged[0]
    assert judged[1][1] == "exited with status 1: AssertionError: the fork is not accepted"
    report = write_client_report(records, tmp_path)
    assert report.broken == ("standin, exercise_break", "standin, exercise_difference")
    assert "standin 2" in (tmp_path / "clients.md").read_text(encoding="utf-8")
    assert gettempdir() not in (tmp_path / CLIENTS).read_text(encoding="utf-8")

    def never(*_: object) -> None:
        raise AssertionError("run again")

    monkeypatch.setattr(run, "_attempt", never)
    assert _run(client, tmp_path) == records


def test_what_pip_refuses_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that cannot be installed has a record with pip's reason, and breaks nothing."""

    def refuse(*_: object) -> Environment:
        raise NotInstallable("standin 1 depends on transformers<5")

    monkeypatch.setattr(run, "environment_for", refuse)
    records = _run(_client("exercise"), tmp_path)
    report = compose_clients(records)
    assert report.broken == ()
    assert "standin 1 depends on transformers<5" in report.exercises.rows[0].cells[-1]
