"""Runs the cases of a request: a reference process for each dtype, then a process for each tree."""

import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Protocol

import numpy as np

from transformer_lens_fork.atomic import building_folder
from transformer_lens_fork.bases import REPOSITORY
from validation.execution.cases import Case, Request, Surroundings, case_key
from validation.execution.jobs import (
    DtypeName,
    Measured,
    Progress,
    ReferenceJob,
    Refused,
    SubjectJob,
    metrics_path,
)
from validation.execution.processes import WorkerDied, run_worker
from validation.execution.worker import FLOOR, SUBJECT
from validation.judgement.metrics import PositionMetrics
from validation.judgement.verdict import Judgement, Verdict, judge
from validation.models.reference import EAGER, SDPA
from validation.models.trees import STOCK, Tree
from validation.reporting.results import BinRecord, Provenance, Result, ResultStore, SlopeRecord


class Watcher(Protocol):
    """Somebody who is shown how the run goes."""

    def progress(self, who: str, event: Progress) -> None:
        """A layer of `who` is done."""

    def result(self, result: Result, is_new: bool) -> None:
        """A case is finished, now or in an earlier run."""


def run_cases(request: Request, store: ResultStore, watcher: Watcher) -> list[Result]:
    """Runs what `store` does not hold yet.

    Returns:
        The results of all cases of the request, those of earlier runs too.
    """
    surroundings = Surroundings.of(request.device)
    results = []
    for dtype in request.dtypes:
        pending: dict[Tree, list[int]] = {}
        for tree in request.trees:
            for context in request.contexts:
                key = case_key(request, Case(tree, dtype, context), surroundings)
                if result := store.finished(key):
                    watcher.result(result, is_new=False)
                    results.append(result)
                else:
                    pending.setdefault(tree, []).append(context)
        if pending:
            with building_folder(store.folder) as scratch:
                batch = _Batch(
                    request, dtype, pending, surroundings, scratch, store.folder, watcher
                )
                for result in batch.run():
                    store.add(result)
                    watcher.result(result, is_new=True)
                    results.append(result)
    return results


@dataclass(frozen=True)
class _Batch:
    """The cases of one dtype, which share a reference."""

    request: Request
    dtype: DtypeName
    pending: dict[Tree, list[int]]
    surroundings: Surroundings
    scratch: Path
    folder: Path
    watcher: Watcher

    def run(self) -> Iterator[Result]:
        np.save(self.scratch / "tokens.npy", self.request.prompt.tokens)
        contexts = sorted({context for pending in self.pending.values() for context in pending})
        references, death = self._run_reference(contexts)
        for tree, pending in self.pending.items():
            yield from self._run_tree(tree, [c for c in pending if c in references], references)
            for context in pending:
                if context not in references:
                    reason = f"the reference worker {death}"
                    yield self._result(Case(tree, self.dtype, context), Verdict.DIED, reason)

    def _run_reference(self, contexts: list[int]) -> tuple[dict[int, Measured], str]:
        """What was measured, and how the worker died if not all was."""
        job = ReferenceJob.model_validate(self._job_fields(contexts))
        measured: dict[int, Measured] = {}
        try:
            for event in run_worker(job, self._log("reference")):
                if isinstance(event, Progress):
                    self.watcher.progress(f"reference {self.dtype}", event)
                elif isinstance(event, Measured):
                    measured[event.context] = event
        except WorkerDied as death:
            return measured, str(death)
        return measured, ""

    def _run_tree(
        self, tree: Tree, contexts: list[int], references: dict[int, Measured]
    ) -> Iterator[Result]:
        # A death costs the case it hit; the others get a new process.
        while contexts:
            job = self._subject_job(tree, contexts)
            try:
                for event in run_worker(job, self._log(tree.name)):
                    if isinstance(event, Progress):
                        self.watcher.progress(f"{tree.name} {self.dtype}", event)
                    elif isinstance(event, Measured):
                        contexts.remove(event.context)
                        yield self._judge(tree, event, references[event.context])
                    elif isinstance(event, Refused):
                        for context in contexts:
                            case = Case(tree, self.dtype, context)
                            yield self._result(case, Verdict.REFUSED, event.reason)
                        return
            except WorkerDied as death:
                case = Case(tree, self.dtype, contexts.pop(0))
                yield self._result(case, Verdict.DIED, f"the worker {death}")

    def _subject_job(self, tree: Tree, contexts: list[int]) -> SubjectJob:
        is_stock = tree.name == STOCK
        fields = self._job_fields(contexts) | {
            "tree": tree.path,
            "loads_itself": tree.loads_itself,
            "is_stock": is_stock,
            # Releases before 3.5.0 hold n_ctx x n_ctx mask buffers: no more than stock needs.
            "n_ctx": self.request.contexts[-1] if is_stock else None,
        }
        return SubjectJob.model_validate(fields)

    def _job_fields(self, contexts: list[int]) -> dict[str, object]:
        request = self.request
        return {
            "checkpoint": request.checkpoint.path,
            "dtype": self.dtype,
            "device": request.device,
            "contexts": tuple(contexts),
            "chunk": request.chunk,
            "threads": request.threads,
            "seed": request.seed,
            "scratch": self.scratch,
        }

    def _log(self, who: str) -> Path:
        name = "".join(letter if letter.isalnum() else "-" for letter in who).strip("-")
        return self.folder / "logs" / f"{name}-{self.dtype}.log"

    def _judge(self, tree: Tree, measured: Measured, reference: Measured) -> Result:
        context = measured.context
        metrics = PositionMetrics.load(metrics_path(self.scratch, SUBJECT, context))
        floor = PositionMetrics.load(metrics_path(self.scratch, FLOOR, context))
        judgement = judge(metrics, floor)
        return self._result(
            Case(tree, self.dtype, context),
            judgement.verdict,
            judgement.reason,
            notes=measured.notes,
            **_figures(metrics, floor, judgement),
            seconds=measured.seconds,
            peak_memory_bytes=measured.peak_memory_bytes,
            reference_seconds=reference.seconds,
            reference_peak_memory_bytes=reference.peak_memory_bytes,
        )

    def _result(
        self,
        case: Case,
        verdict: Verdict,
        reason: str,
        notes: tuple[str, ...] = (),
        **figures: object,
    ) -> Result:
        request = self.request
        warning = (case.tree.warning,) if case.tree.warning else ()
        return Result.model_validate(
            {
                "subject": case.tree.name,
                "base": request.base.name,
                "checkpoint": request.checkpoint.name,
                "dtype": case.dtype,
                "device": request.device,
                "context": case.context,
                "verdict": verdict.name,
                "reason": reason,
                "notes": (*warning, *notes),
                "provenance": self._provenance(case),
                **figures,
            }
        )

    def _provenance(self, case: Case) -> Provenance:
        request = self.request
        commit, is_dirty = _git_state()
        return Provenance(
            case_key=case_key(request, case, self.surroundings),
            harness_sha256=self.surroundings.harness_sha256,
            git_commit=commit,
            git_dirty=is_dirty,
            tree_sha256=case.tree.sha256,
            series_sha256=case.tree.series_sha256,
            sdist_sha256=request.base.sdist_sha256,
            checkpoint_sha256=request.checkpoint.sha256,
            prompt_sha256=request.prompt.sha256(case.context),
            prompt_source=request.prompt.source,
            reference_attention=EAGER,
            floor=f"{SDPA} against {EAGER}, same process",
            seed=request.seed,
            chunk=request.chunk,
            packages=self.surroundings.packages,
            settings=self.surroundings.settings,
            measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def _figures(
    metrics: PositionMetrics, floor: PositionMetrics, judgement: Judgement
) -> dict[str, object]:
    slope = judgement.slope
    return {
        "logits_total": metrics.positions * metrics.vocab,
        "logits_differing": int(metrics.differing.sum()),
        "parity_ratio": _finite(judgement.parity_ratio),
        "parity_ratio_by_bin": tuple(_finite(bin_.ratio) for bin_ in judgement.bins),
        "bins": tuple(
            BinRecord(
                start=bin_.start,
                stop=bin_.stop,
                differing=bin_.differing,
                rms=_finite(bin_.rms),
                floor_rms=bin_.floor_rms,
                mean_abs=_finite(bin_.mean_abs),
                floor_mean_abs=bin_.floor_mean_abs,
                max_abs=_finite(bin_.max_abs),
            )
            for bin_ in judgement.bins
        ),
        "slope": SlopeRecord(**asdict(slope)) if slope else None,
        "max_abs": _finite(float(metrics.abs_max.max())),
        "mean_abs": _finite(float(metrics.abs_sum.mean()) / metrics.vocab),
        "floor_mean_abs": float(floor.abs_sum.mean()) / floor.vocab,
        "kl_mean": _finite(float(metrics.kl.mean())),
        "top1_agreement": judgement.top1_agreement,
        "top1_counted": judgement.top1_counted,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


def _git_state() -> tuple[str, bool]:
    """This repository's commit, and whether files differ from it; ("unknown", True) without git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(REPOSITORY), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain"))
    except (subprocess.CalledProcessError, FileNotFoundError):
        return "unknown", True
