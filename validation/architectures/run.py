"""Runs both trees on every architecture, one after the other, and records how they compare."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from transformer_lens_fork.errors import VerificationError
from validation.architectures.catalogue import Architecture
from validation.architectures.comparison import (
    Sides,
    differing_fields,
    grown_signatures,
    judge,
    narrowed_signatures,
)
from validation.architectures.processes import TreeFailed, TreeProcess
from validation.architectures.records import (
    SURFACE,
    ArchitectureProvenance,
    ArchitectureRecord,
    Surface,
    SurfaceRecord,
    Task,
)
from validation.architectures.verdict import Outcome
from validation.execution.cases import Surroundings
from validation.execution.jobs import DtypeName
from validation.models.hashing import files_sha256, json_sha256
from validation.models.trees import Tree
from validation.reporting.records import RecordFile


class Watcher(Protocol):
    """Somebody who is shown how the run goes."""

    def counted(self, what: str, done: int, total: int) -> None:
        """One of `total` is done."""


@dataclass(frozen=True)
class Pair:
    """What is compared.

    Attributes:
        before: the release.
        after: the fork, or what stands in its place.
        seeds: models of each architecture.
        surroundings: of this process; the trees' have the same.
    """

    before: Tree
    after: Tree
    seeds: int
    surroundings: Surroundings

    def provenance(self, what: dict[str, Any]) -> ArchitectureProvenance:
        """What `what` is measured with; its key is over everything that could change a result."""
        harness = self._harness_sha256()
        ingredients = {
            "what": what,
            "before": self.before.sha256,
            "after": self.after.sha256,
            "harness": harness,
            "packages": self.surroundings.packages,
            "settings": self.surroundings.settings,
        }
        key = json_sha256(ingredients)
        return ArchitectureProvenance(
            key=key,
            before_sha256=self.before.sha256,
            after_sha256=self.after.sha256,
            series_sha256=self.after.series_sha256,
            **self.surroundings.recorded() | {"harness_sha256": harness},
        )

    def provenance_of(self, architecture: Architecture, dtype: DtypeName) -> ArchitectureProvenance:
        """The same of one architecture."""
        return self.provenance(
            {"architecture": asdict(architecture), "dtype": dtype, "seeds": self.seeds}
        )

    def _harness_sha256(self) -> str:
        folder = Path(__file__).parent
        return files_sha256(folder, folder.glob("*.py"))


class _Trees:
    """The processes of both, and a folder for what they leave to each other."""

    def __init__(self, pair: Pair, logs: Path, scratch: Path) -> None:
        self._scratch = scratch
        self._processes = {
            "before": TreeProcess(pair.before.path, logs / "architectures-before.log"),
            "after": TreeProcess(pair.after.path, logs / "architectures-after.log"),
        }

    def close(self) -> None:
        for process in self._processes.values():
            process.close()

    def do(self, task: dict[str, Any]) -> tuple[Path, Path]:
        """Both do it, the release first; returns their folders.

        Raises:
            TreeFailed: one of them cannot, which the message names.
        """
        folders = {}
        for who, process in self._processes.items():
            folders[who] = Path(tempfile.mkdtemp(dir=self._scratch))
            saved = folders["before"] if who == "after" else None
            own = {"folder": str(folders[who]), "saved": saved and str(saved)}
            try:
                process.work(Task.model_validate(task | own))
            except TreeFailed as failure:
                whose = "the release" if who == "before" else "the fork"
                raise TreeFailed(f"{whose}: {failure}") from None
        return folders["before"], folders["after"]


@contextmanager
def _started(pair: Pair, logs: Path) -> Iterator[_Trees]:
    with tempfile.TemporaryDirectory(prefix="parity-architectures-") as scratch:
        trees = _Trees(pair, logs, Path(scratch))
        try:
            yield trees
        finally:
            trees.close()


def run_architectures(
    chosen: tuple[Architecture, ...],
    dtypes: tuple[DtypeName, ...],
    pair: Pair,
    file: RecordFile[ArchitectureRecord],
    watcher: Watcher,
) -> list[ArchitectureRecord]:
    """Compares what `file` does not hold.

    Returns:
        The records of all that are chosen, those of earlier runs too, in order.
    """
    found = {record.provenance.key: record for record in file.records}
    wanted = [
        (architecture, dtype, pair.provenance_of(architecture, dtype))
        for dtype in dtypes
        for architecture in chosen
    ]
    with _started(pair, file.path.parent / "logs") as trees:
        for done, (architecture, dtype, provenance) in enumerate(wanted, 1):
            if provenance.key not in found:
                record = _compare(architecture, dtype, pair, provenance, trees)
                file.append(record)
                found[provenance.key] = record
            said = found[provenance.key]
            watcher.counted(f"{said.architecture}, {dtype}: {said.verdict}", done, len(wanted))
    return [found[provenance.key] for _, _, provenance in wanted]


def _compare(
    architecture: Architecture,
    dtype: DtypeName,
    pair: Pair,
    provenance: ArchitectureProvenance,
    trees: _Trees,
) -> ArchitectureRecord:
    task = {
        "what": "architecture",
        "architecture": architecture.name,
        "dtype": dtype,
        "seeds": pair.seeds,
    }
    about = {
        "architecture": architecture.name,
        "official": architecture.official,
        "reference": architecture.reference,
        "stands_for": architecture.stands_for,
        "dtype": dtype,
        "seeds": pair.seeds,
        "provenance": provenance,
    }
    try:
        folders = trees.do(task)
    except TreeFailed as failure:
        return ArchitectureRecord.model_validate(
            about | _nothing() | {"verdict": Outcome.BROKEN.name, "reason": str(failure)}
        )
    sides = Sides(*folders)
    kinds = {
        "logits": sides.logits(),
        "processed": sides.processed(),
        "gradients": sides.gradients(),
    }
    fields, problems = sides.fields(), sides.problems()
    outcome, reason = judge(kinds, fields, problems)
    return ArchitectureRecord.model_validate(
        {
            **about,
            **kinds,
            "way": sides.before.way,
            "fields": fields,
            "problems": problems,
            "verdict": outcome.name,
            "reason": reason,
        }
    )


def _nothing() -> dict[str, Any]:
    kinds = dict.fromkeys(("logits", "processed", "gradients"))
    return {**kinds, "way": "", "fields": {}, "problems": ()}


def run_surface(pair: Pair, path: Path) -> SurfaceRecord:
    """Compares the two surfaces, unless the file at `path` says how they compare.

    Raises:
        VerificationError: one of the trees cannot be looked at.
    """
    provenance = pair.provenance({"surface": True})
    if path.exists():
        earlier = SurfaceRecord.model_validate_json(path.read_bytes())
        if earlier.provenance.key == provenance.key:
            return earlier
    with _started(pair, path.parent / "logs") as trees:
        try:
            folders = trees.do({"what": "surface"})
        except TreeFailed as failure:
            raise VerificationError(f"The public names cannot be listed: {failure}.") from None
        before, after = (
            Surface.model_validate_json((folder / SURFACE).read_bytes()) for folder in folders
        )
    record = _compare_surfaces(before, after, provenance)
    path.write_text(record.model_dump_json() + "\n", encoding="utf-8")
    return record


def _compare_surfaces(
    before: Surface, after: Surface, provenance: ArchitectureProvenance
) -> SurfaceRecord:
    shared = before.configurations.keys() & after.configurations.keys()
    fields = {
        name: differing_fields(before.configurations[name], after.configurations[name])
        for name in sorted(before.configurations)
        if name in shared
    }
    gone = sorted(before.configurations.keys() - shared)
    return SurfaceRecord(
        signatures=len(before.signatures),
        grown=grown_signatures(before, after),
        added=len(after.signatures.keys() - before.signatures.keys()),
        narrowed=(
            *narrowed_signatures(before, after),
            *(f"the configuration of {name} is gone" for name in gone),
        ),
        configurations=len(shared),
        fields={name: changed for name, changed in fields.items() if changed},
        unimportable=tuple(sorted({*before.unimportable, *after.unimportable})),
        provenance=provenance,
    )
