"""Runs the exercises of clients, each on the release and on the fork, in processes of their own."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic

from transformer_lens_fork.bases import REPOSITORY
from validation.clients.catalogue import CLIENTS, Client, Exercise
from validation.clients.environments import (
    Environment,
    NotInstallable,
    environment_for,
    packages_of,
)
from validation.clients.observations import read_seen
from validation.execution.accidents import MemoryKills
from validation.execution.cases import Surroundings
from validation.execution.processes import ENVIRONMENT, describe_end, last_lines
from validation.models.hashing import files_sha256
from validation.models.trees import Tree
from validation.reporting.client_records import (
    Attempt,
    ClientProvenance,
    ClientRecord,
    Ending,
)
from validation.reporting.console import Console
from validation.reporting.outputs import LOGS
from validation.reporting.records import RecordFile, newest

_NO_PART = frozenset({"catalogue.py", "environments.py", "judging.py", "run.py"})
"""Of what an exercise computes: a change there runs nothing again."""


@dataclass(frozen=True)
class Trees:
    """The release, the tree that may break a client, and what both are run with."""

    stock: Tree
    fork: Tree
    surroundings: Surroundings


def run_clients(
    clients: tuple[Client, ...], trees: Trees, file: RecordFile[ClientRecord], console: Console
) -> list[ClientRecord]:
    """Runs what `file` does not hold yet, and appends it.

    Returns:
        The record of every exercise, in the clients' order.
    """
    records = []
    for client in clients:
        for record, is_new in _run_client(client, trees, file, console):
            if is_new:
                file.append(record)
            records.append(record)
    return records


def _run_client(
    client: Client, trees: Trees, file: RecordFile[ClientRecord], console: Console
) -> Iterator[tuple[ClientRecord, bool]]:
    refusal, environment, packages = "", None, dict(trees.surroundings.packages)
    try:
        environment = environment_for(client, console.step)
        packages |= packages_of(environment, client)
    except NotInstallable as error:
        refusal = str(error)
    known = {record.provenance.key: record for record in newest(file.records)}
    for exercise in client.exercises:
        provenance = _provenance(client, exercise, trees, packages, environment)
        if found := known.get(provenance.key):
            console.note(f"{client.name}, {exercise.name}: earlier run")
            yield found, False
            continue
        attempts = [
            _attempt(client, exercise, tree, environment, refusal, file.path.parent, console)
            for tree in (trees.stock, trees.fork)
        ]
        yield (
            ClientRecord(
                client=client.name,
                version=packages.get(client.package, client.requirements[0]),
                exercise=exercise.name,
                stock=attempts[0],
                fork=attempts[1],
                provenance=provenance,
            ),
            True,
        )


def _attempt(
    client: Client,
    exercise: Exercise,
    tree: Tree,
    environment: Environment | None,
    refusal: str,
    out: Path,
    console: Console,
) -> Attempt:
    if environment is None:
        return Attempt(ending=Ending.NOT_INSTALLED, reason=refusal)
    if exercise.not_on_stock and not tree.is_judged:
        return Attempt(ending=Ending.NOT_ATTEMPTED, reason=exercise.not_on_stock)
    console.step(f"{client.name}, {exercise.name}, {tree.name}")
    name = f"{client.name}-{exercise.name}-{tree.name}".replace(" ", "-").replace("/", "-")
    log = out / LOGS / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, log.open("ab") as output:
        seen, folder = Path(scratch, "seen.jsonl"), Path(scratch, "folder")
        folder.mkdir()
        arguments = (str(tree.path), exercise.module, exercise.function, str(seen), str(folder))
        start, kills, began = output.tell(), MemoryKills.now(), monotonic()
        result = subprocess.run(
            # -P: what lies in the current directory must not stand in for a client.
            [str(environment.python), "-P", "-m", "validation.clients.worker", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=os.environ | ENVIRONMENT | {"PYTHONPATH": str(REPOSITORY)},
            check=False,
        )
        is_good = result.returncode == 0
        # Its last line says what; those above it say where, which differs between trees.
        said = last_lines(log, start).rpartition(" | ")[2]
        for path, name in ((str(tree.path), "TREE"), (scratch, "FOLDER"), (sys.prefix, "PYTHON")):
            said = said.replace(path, name)
        reason = "" if is_good else f"{describe_end(result.returncode, kills)}: {said}"
        return Attempt(
            ending=Ending.COMPLETED if is_good else Ending.FAILED,
            reason=reason,
            seconds=round(monotonic() - began, 1),
            seen=tuple(read_seen(seen)),
        )


def _provenance(
    client: Client,
    exercise: Exercise,
    trees: Trees,
    packages: dict[str, str],
    environment: Environment | None,
) -> ClientProvenance:
    sources = {tree.name: tree.sha256 for tree in (trees.stock, trees.fork)}
    note = environment.note if environment else ""
    package = REPOSITORY / "validation"
    folders = (package / "clients", package / "models")
    files = [path for folder in folders for path in folder.glob("*.py")]
    others = {f"{other.module.rpartition('.')[2]}.py" for other in _exercises_but_of(client)}
    left_out = _NO_PART | others
    code = files_sha256(package, [path for path in files if path.name not in left_out])
    recorded = trees.surroundings.recorded()
    del recorded["harness_sha256"]
    what = [client.requirements, asdict(exercise), sources, packages, note, code]
    key = hashlib.sha256(json.dumps([what, recorded["settings"]]).encode()).hexdigest()
    return ClientProvenance(
        **recorded | {"packages": packages},
        key=key,
        trees=sources,
        series_sha256=trees.fork.series_sha256,
        note=note,
    )


def _exercises_but_of(client: Client) -> list[Exercise]:
    return [each for other in CLIENTS if other.name != client.name for each in other.exercises]
