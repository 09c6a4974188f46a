"""Runs the cases of a request: a reference process for each dtype, then a process for each tree."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from transformer_lens_fork.atomic import building_folder
from validation.execution.cases import Case, Request, Surroundings, case_key
from validation.execution.floors import CHANNEL_FLOOR, KERNEL_FLOOR
from validation.execution.jobs import (
    DtypeName,
    Forward,
    Measured,
    Progress,
    Refused,
    reference_metrics_path,
    subject_metrics_path,
    tokens_path,
)
from validation.execution.plan import CasePlan, Machine, measure_machine, plan_case
from validation.execution.processes import WorkerDied, run_worker
from validation.execution.shards import Place, places
from validation.judgement.floor import ReferenceMetrics
from validation.judgement.metrics import Errors, PositionMetrics
from validation.judgement.verdict import Judgement, Verdict, is_identical, judge
from validation.models.trees import Tree
from validation.reporting.records import finite
from validation.reporting.results import (
    BinRecord,
    FirstDiffering,
    Provenance,
    Result,
    ResultStore,
    SlopeRecord,
)


class Watcher(Protocol):
    """Somebody who is shown how the run goes."""

    def progress(self, who: str, event: Progress) -> None:
        """A layer of `who` is done."""

    def result(self, result: Result, is_new: bool) -> None:
        """A case is finished, now or in an earlier run."""

    def note(self, what: str) -> None:
        """Something happened that a person should know."""


def run_cases(
    request: Request, store: ResultStore, watcher: Watcher, chosen: Sequence[Place] | None = None
) -> list[Result]:
    """Runs what `store` does not hold yet.

    Args:
        request: what is asked for.
        store: of results.
        watcher: is shown how it goes.
        chosen: the dtypes and contexts of the request that are run here; all if None.

    Returns:
        The results of these cases, those of earlier runs too.
    """
    if chosen is None:
        chosen = places(request)
    surroundings = Surroundings.of(request.device)
    results = []
    for dtype in dict.fromkeys(dtype for dtype, _ in chosen):
        machine = measure_machine(request.memory_bytes, dtype, request.device)
        pending: dict[Tree, list[CasePlan]] = {}
        keys: dict[tuple[Tree, int], str] = {}
        for tree in request.trees:
            attention = tree.attention(request.attention)
            for context in (context for kind, context in chosen if kind == dtype):
                plan = plan_case(request, dtype, context, machine, attention)
                case = Case(tree, dtype, plan.context, plan.prefill, plan.eager_prefill)
                key = case_key(request, case, surroundings)
                if result := store.finished(key):
                    watcher.result(result, is_new=False)
                    results.append(result)
                else:
                    pending.setdefault(tree, []).append(plan)
                    keys[tree, context] = key
        attempt = request
        while pending:
            with building_folder(store.folder) as scratch:
                batch = _Batch(
                    attempt,
                    dtype,
                    machine,
                    pending,
                    keys,
                    surroundings,
                    scratch,
                    store.folder,
                    watcher,
                )
                for result in batch.run():
                    store.add(result)
                    watcher.result(result, is_new=True)
                    results.append(result)
            attempt, pending = batch.smaller, batch.again
    return results


@dataclass(frozen=True)
class _Batch:
    """The cases of one dtype, which share a reference.

    Attributes:
        keys: by which the cases are known as they were asked for, however they are run.
        again: cases that did not fit after all, as `smaller` plans them.
    """

    request: Request
    dtype: DtypeName
    machine: Machine
    pending: dict[Tree, list[CasePlan]]
    keys: dict[tuple[Tree, int], str]
    surroundings: Surroundings
    scratch: Path
    folder: Path
    watcher: Watcher
    again: dict[Tree, list[CasePlan]] = field(default_factory=dict)

    @property
    def smaller(self) -> Request:
        """The same with half as much at a time."""
        return replace(self.request, halvings=self.request.halvings + 1)

    def run(self) -> Iterator[Result]:
        np.save(tokens_path(self.scratch), self.request.prompt.tokens)
        # What does not fit is the subject's: another tree may fit at the same context.
        fitting = [p for pending in self.pending.values() for p in pending if p.refusal is None]
        plans = {plan.context: plan for plan in fitting}
        references, death = self._run_reference(
            [plans[context] for context in sorted(plans)],
            has_floors=not self.request.has_lazy_floor,
        )
        for tree, pending in self.pending.items():
            measured = [p for p in pending if p.refusal is None and p.context in references]
            yield from self._run_tree(tree, measured, references)
            for plan in pending:
                if plan.refusal is not None:
                    yield self._result(tree, plan, Verdict.TOO_LARGE, plan.refusal)
                elif plan.context not in references:
                    assert death is not None, "else it has measured every context"
                    yield from self._unmeasured(tree, plan, "reference", death)

    def _run_reference(
        self, plans: list[CasePlan], *, has_floors: bool
    ) -> tuple[dict[int, Measured], WorkerDied | None]:
        """What was measured, and how the worker died if not all was."""
        measured: dict[int, Measured] = {}
        if not plans:
            return measured, None
        forwards = _forwards(plans, [plan.reference_prefill for plan in plans])
        job = self.request.reference_job(
            self.dtype, self.scratch, forwards=forwards, has_floors=has_floors
        )
        try:
            for event in run_worker(job, self._log("reference")):
                if isinstance(event, Progress):
                    self.watcher.progress(f"reference {self.dtype}", event)
                elif isinstance(event, Measured):
                    measured[event.context] = event
        except WorkerDied as death:
            return measured, death
        return measured, None

    def _run_tree(
        self, tree: Tree, plans: list[CasePlan], references: dict[int, Measured]
    ) -> Iterator[Result]:
        # A death costs the case it hit; the others get a new process.
        left = {plan.context: plan for plan in plans}
        floorless: list[tuple[CasePlan, Measured]] = []
        while left:
            forwards = _forwards(left.values(), [plan.prefill for plan in left.values()])
            job = self.request.subject_job(tree, self.dtype, self.scratch, forwards=forwards)
            try:
                for event in run_worker(job, self._log(tree.name)):
                    if isinstance(event, Progress):
                        self.watcher.progress(f"{tree.name} {self.dtype}", event)
                    elif isinstance(event, Measured):
                        plan = left.pop(event.context)
                        if self._needs_floor(plan.context):
                            floorless.append((plan, event))
                        else:
                            yield self._judge(tree, plan, event, references[plan.context])
                    elif isinstance(event, Refused):
                        for plan in left.values():
                            yield self._result(tree, plan, Verdict.REFUSED, event.reason)
                        left.clear()
            except WorkerDied as death:
                if left:  # else it was after its last word
                    plan = left.pop(next(iter(left)))
                    yield from self._unmeasured(tree, plan, "subject", death)
        yield from self._judge_with_floors(tree, floorless, references)

    def _needs_floor(self, context: int) -> bool:
        """Whether a subject that has been measured cannot be judged by what the reference has."""
        if not self.request.has_lazy_floor:
            return False
        itself = ReferenceMetrics.load(reference_metrics_path(self.scratch, context))
        metrics = PositionMetrics.load(subject_metrics_path(self.scratch, context))
        return not itself.floors and not is_identical(metrics, itself)

    def _judge_with_floors(
        self,
        tree: Tree,
        measured: list[tuple[CasePlan, Measured]],
        references: dict[int, Measured],
    ) -> Iterator[Result]:
        """Judges what needs a floor after all, and keeps the floors for the trees that follow."""
        plans = [plan for plan, _ in measured]
        found, death = self._run_reference(plans, has_floors=True)
        references |= found
        for plan, event in measured:
            if plan.context in found:
                yield self._judge(tree, plan, event, found[plan.context])
            else:
                assert death is not None, "else it has measured every context"
                yield from self._unmeasured(tree, plan, "reference", death, "logits differ, and ")

    def _unmeasured(
        self, tree: Tree, plan: CasePlan, who: str, death: WorkerDied, before: str = ""
    ) -> Iterator[Result]:
        """Has a case run again with half as much at a time, if that can help; else it has ended.

        Args:
            tree: the subject.
            plan: of the case.
            who: whose worker died, `reference` or `subject`.
            death: how.
            before: what is said of the case already.
        """
        if death.did_not_fit:
            attention = tree.attention(self.request.attention)
            less = plan_case(self.smaller, self.dtype, plan.context, self.machine, attention)
            if less.process_bytes(who) < plan.process_bytes(who):
                self.again.setdefault(tree, []).append(less)
                worker = who if who == "reference" else tree.name
                self.watcher.note(
                    f"{worker} {self.dtype}, {plan.context} tokens: {death}; once more with "
                    f"{less.prefill} at a time and logits of {self.smaller.chunk}"
                )
                return
        worker = "the reference worker" if who == "reference" else "the worker"
        yield self._result(tree, plan, Verdict.DIED, f"{before}{worker} {death}")

    def _log(self, who: str) -> Path:
        name = "".join(letter if letter.isalnum() else "-" for letter in who).strip("-")
        return self.folder / "logs" / f"{name}-{self.dtype}.log"

    def _judge(self, tree: Tree, plan: CasePlan, measured: Measured, reference: Measured) -> Result:
        metrics = PositionMetrics.load(subject_metrics_path(self.scratch, plan.context))
        itself = ReferenceMetrics.load(reference_metrics_path(self.scratch, plan.context))
        judgement = judge(metrics, itself)
        return self._result(
            tree,
            plan,
            judgement.verdict,
            judgement.reason,
            notes=measured.notes,
            **_figures(metrics, itself, judgement),
            seconds=measured.parts["forward"],
            parts=measured.parts,
            peak_memory_bytes=measured.peak_memory_bytes,
            reference_seconds=reference.parts["forward"],
            reference_parts=reference.parts,
            reference_peak_memory_bytes=reference.peak_memory_bytes,
        )

    def _result(
        self,
        tree: Tree,
        plan: CasePlan,
        verdict: Verdict,
        reason: str,
        notes: tuple[str, ...] = (),
        **figures: object,
    ) -> Result:
        request = self.request
        warnings = [tree.warning] if tree.warning else []
        if request.halvings:
            warnings.append(
                f"ran with 1/{2**request.halvings} of what was planned at a time, {plan.prefill} "
                f"tokens and logits of {request.chunk}, as more did not fit"
            )
        attention = tree.attention(request.attention)
        if attention != request.attention:
            warnings.append(f"has {attention} attention only: the claim is the floor")
        return Result.model_validate(
            {
                "subject": tree.name,
                "base": request.base.name,
                "checkpoint": request.checkpoint.name,
                "dtype": self.dtype,
                "device": request.device,
                "context": plan.context,
                "prefill": plan.prefill,
                "verdict": verdict.name,
                "reason": reason,
                "notes": (*warnings, *notes),
                "planned_peak_memory_bytes": plan.subject_bytes,
                "planned_reference_peak_memory_bytes": plan.reference_bytes,
                "provenance": self._provenance(tree, plan),
                **figures,
            }
        )

    def _provenance(self, tree: Tree, plan: CasePlan) -> Provenance:
        request, surroundings = self.request, self.surroundings
        return Provenance(
            case_key=self.keys[tree, plan.context],
            **surroundings.recorded(),
            tree_sha256=tree.sha256,
            series_sha256=tree.series_sha256,
            sdist_sha256=request.base.sdist_sha256,
            checkpoint_sha256=request.checkpoint.sha256,
            layers=request.checkpoint.shape.layers,
            prompt_sha256=request.prompt.sha256(plan.context),
            prompt_source=request.prompt.source,
            reference_attention=request.attention,
            floor=f"{KERNEL_FLOOR}; {CHANNEL_FLOOR}"
            + ("; where a logit differs" if request.has_lazy_floor else ""),
            eager_prefill=plan.eager_prefill,
            seed=request.seed,
            chunk=request.chunk,
        )


def _forwards(plans: Iterable[CasePlan], prefills: Iterable[int]) -> tuple[Forward, ...]:
    return tuple(
        Forward(context=plan.context, prefill=prefill, eager_prefill=plan.eager_prefill)
        for plan, prefill in zip(plans, prefills, strict=True)
    )


def _figures(
    metrics: PositionMetrics, itself: ReferenceMetrics, judgement: Judgement
) -> dict[str, object]:
    figures: dict[str, object] = {
        "logits_total": metrics.positions * metrics.vocab,
        "logits_differing": int(metrics.differing.sum()),
        "first_differing": _first_differing(metrics),
        "reference_sha256": hashlib.sha256(itself.bits.tobytes()).hexdigest(),
        "max_abs": finite(float(metrics.abs_max.max())),
        "mean_abs": finite(_mean_abs(metrics)),
        "kl_mean": finite(float(metrics.kl.mean())),
        "top1_agreement": judgement.top1_agreement,
        "top1_counted": judgement.top1_counted,
    }
    return figures | _figures_beside_the_floor(itself, judgement) if itself.floors else figures


def _figures_beside_the_floor(itself: ReferenceMetrics, judgement: Judgement) -> dict[str, object]:
    slope = judgement.slope
    return {
        "parity_ratio": finite(judgement.parity_ratio),
        "parity_ratio_by_bin": tuple(finite(bin_.ratio) for bin_ in judgement.bins),
        "power_ratio": finite(judgement.power_ratio),
        "bins": tuple(
            BinRecord(
                start=bin_.start,
                stop=bin_.stop,
                differing=bin_.differing,
                rms=finite(bin_.rms),
                floor_rms=bin_.floor_rms,
                mean_abs=finite(bin_.mean_abs),
                floor_mean_abs=bin_.floor_mean_abs,
                max_abs=finite(bin_.max_abs),
                ratio_interval=bin_.ratio_interval,
            )
            for bin_ in judgement.bins
        ),
        "slope": SlopeRecord(**asdict(slope)) if slope else None,
        "floor_mean_abs": _mean_abs(itself.pooled),
        "floors": {name: _mean_abs(errors) for name, errors in itself.floors.items()},
    }


def _first_differing(metrics: PositionMetrics) -> FirstDiffering | None:
    if not len(metrics.first_differing):
        return None
    position, token = metrics.first_differing.tolist()
    reference, subject = metrics.first_values.tolist()
    return FirstDiffering(
        position=position, token=token, reference=reference, subject=finite(subject)
    )


def _mean_abs(errors: Errors) -> float:
    return float(errors.abs_sum.mean()) / errors.vocab
