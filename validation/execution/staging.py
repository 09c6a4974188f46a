"""Runs the staged proof: the probes of the reference, then of each tree, and their comparison."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from transformer_lens_fork.atomic import building_folder
from transformer_lens_fork.bases import REPOSITORY
from validation.execution.cases import Case, Request, Surroundings, case_key
from validation.execution.jobs import (
    DtypeName,
    ReferenceJob,
    Refused,
    SubjectJob,
    tokens_path,
)
from validation.execution.probe_files import FLOOR, GRAFTED, PLAIN, ROPE, TOKENS, ProbeFiles
from validation.execution.processes import WorkerDied, run_worker
from validation.judgement.floor import ReferenceMetrics
from validation.judgement.graft import judge_graft
from validation.judgement.metrics import PositionMetrics
from validation.judgement.stages import compare_stages, first_departure
from validation.models.hashing import files_sha256
from validation.models.trees import Tree
from validation.reporting.staged import (
    GraftRecord,
    StageProvenance,
    StageResult,
    StageRow,
    StageStore,
)
from validation.rope.oracles import ORACLES


class StageWatcher(Protocol):
    """Somebody who is shown how the probes go."""

    def step(self, what: str) -> None:
        """Something begins."""

    def staged(self, result: StageResult, is_new: bool) -> None:
        """A subject is probed at one dtype, now or in an earlier run."""


def run_stages(request: Request, store: StageStore, watcher: StageWatcher) -> list[StageResult]:
    """Probes what `store` does not hold yet.

    Returns:
        One result for each subject and dtype of the request, those of earlier runs too.
    """
    surroundings = Surroundings.of(request.device)
    results = []
    for dtype in request.dtypes:
        pending = {}
        for tree in request.trees:
            n_tokens = probe_tokens(request)
            case = Case(tree, dtype, n_tokens, n_tokens, n_tokens)
            provenance = _provenance(request, case, surroundings)
            if result := store.finished(provenance.key):
                watcher.staged(result, is_new=False)
                results.append(result)
            else:
                pending[tree] = provenance
        if pending:
            with building_folder(store.folder) as scratch:
                batch = _Batch(request, dtype, scratch, store.folder / "logs", watcher)
                for result in batch.run(pending):
                    store.add(result)
                    watcher.staged(result, is_new=True)
                    results.append(result)
    return results


def probe_tokens(request: Request) -> int:
    """Tokens of the prompt on which layers and logits are compared."""
    return min(TOKENS, request.contexts[-1])


@dataclass(frozen=True)
class _Batch:
    """The subjects of one dtype, which share a reference."""

    request: Request
    dtype: DtypeName
    scratch: Path
    logs: Path
    watcher: StageWatcher

    def run(self, pending: dict[Tree, StageProvenance]) -> Iterator[StageResult]:
        np.save(tokens_path(self.scratch), self.request.prompt.tokens[: self._tokens])
        self.watcher.step(f"reference {self.dtype}, stages")
        request, own = self.request, {"probe_tokens": self._tokens}
        job = request.reference_job(self.dtype, self.scratch, **own)
        trouble = self._run(job, "reference")
        for tree, provenance in pending.items():
            if trouble:
                yield self._failed(tree, provenance, f"the reference worker {trouble[0]}", True)
                continue
            self.watcher.step(f"{tree.name} {self.dtype}, stages")
            # A tree that ends its process early must not be judged by its predecessor's probes.
            ProbeFiles.of_subject(self.scratch).clear()
            subject_job = request.subject_job(tree, self.dtype, self.scratch, **own)
            failure = self._run(subject_job, tree.name)
            if failure:
                yield self._failed(tree, provenance, *failure)
            else:
                yield self._compare(tree, provenance)

    def _run(self, job: ReferenceJob | SubjectJob, who: str) -> tuple[str, bool] | None:
        """Why there are no probes, and whether the worker died; None if there are."""
        name = "".join(letter if letter.isalnum() else "-" for letter in who).strip("-")
        try:
            for event in run_worker(job, self.logs / f"{name}-{self.dtype}-stages.log"):
                if isinstance(event, Refused):
                    return event.reason, False
        except WorkerDied as death:
            return str(death), True
        if not _has_probes(job):
            return "ended before it had probed anything", True
        return None

    @property
    def _tokens(self) -> int:
        return probe_tokens(self.request)

    def _compare(self, tree: Tree, provenance: StageProvenance) -> StageResult:
        reference = ProbeFiles.of_reference(self.scratch)
        subject = ProbeFiles.of_subject(self.scratch)
        head_dim = reference.shapes(ROPE)["cos"][1]
        oracles = [oracle(self.request.checkpoint.rope, head_dim) for oracle in ORACLES]
        plain, grafted = (
            PositionMetrics.load(subject.metrics_path(who)) for who in (PLAIN, GRAFTED)
        )
        floor = ReferenceMetrics.load(reference.metrics_path(FLOOR)).pooled
        records = compare_stages(reference, subject, oracles, plain, floor)
        graft = judge_graft(reference, subject, plain, grafted, floor)
        return self._result(
            tree,
            provenance,
            departure=first_departure(records),
            has_died=False,
            stages=tuple(map(StageRow.of, records)),
            graft=GraftRecord.of(graft),
        )

    def _failed(
        self, tree: Tree, provenance: StageProvenance, reason: str, has_died: bool
    ) -> StageResult:
        verb = "could not be probed, the worker" if has_died else "was refused,"
        return self._result(tree, provenance, departure=f"{verb} {reason}", has_died=has_died)

    def _result(self, tree: Tree, provenance: StageProvenance, **fields: Any) -> StageResult:
        return StageResult(
            subject=tree.name,
            base=self.request.base.name,
            checkpoint=self.request.checkpoint.name,
            dtype=self.dtype,
            attention=self.request.attention,
            device=self.request.device,
            tokens=self._tokens,
            provenance=provenance,
            **fields,
        )


def _has_probes(job: ReferenceJob | SubjectJob) -> bool:
    if isinstance(job, ReferenceJob):
        return ProbeFiles.of_reference(job.scratch).metrics_path(FLOOR).exists()
    return ProbeFiles.of_subject(job.scratch).metrics_path(GRAFTED).exists()


def _provenance(request: Request, case: Case, surroundings: Surroundings) -> StageProvenance:
    package = REPOSITORY / "validation"
    oracles = files_sha256(package, [package / "rope" / name for name in _ROPE_FILES])
    ingredients = [case_key(request, case, surroundings), oracles]
    return StageProvenance(
        key=hashlib.sha256(json.dumps(ingredients).encode()).hexdigest(),
        **surroundings.recorded(),
        tree_sha256=case.tree.sha256,
        series_sha256=case.tree.series_sha256,
        sdist_sha256=request.base.sdist_sha256,
        checkpoint_sha256=request.checkpoint.sha256,
        prompt_sha256=request.prompt.sha256(case.context),
        seed=request.seed,
    )


_ROPE_FILES = ("angles.py", "oracles.py", "parameter_sets.py")
"""Beside what `Surroundings` hashes, what can change a stage's result."""
