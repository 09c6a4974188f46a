"""Runs every release against one reference, and keeps what came of it."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from transformer_lens_fork.atomic import building_folder
from transformer_lens_fork.bases import REPOSITORY
from transformer_lens_fork.errors import InputError, VerificationError
from validation.audit.environments import CannotInstall, Environment, environment_for
from validation.audit.frequencies import compare_frequencies
from validation.audit.jobs import AuditJob
from validation.audit.records import (
    AuditProvenance,
    AuditRecord,
    ContextRecord,
    Ending,
    FrequencyRecord,
)
from validation.audit.releases import Generation, generation_of
from validation.audit.sentences import sentence
from validation.execution.cases import Request, Surroundings
from validation.execution.jobs import (
    AttentionName,
    DtypeName,
    Forward,
    Measured,
    Progress,
    Refused,
    reference_metrics_path,
    subject_metrics_path,
    tokens_path,
)
from validation.execution.plan import measure_machine, plan_case
from validation.execution.processes import WorkerDied, run_worker
from validation.judgement.first_wrong import first_wrong_position
from validation.judgement.floor import ReferenceMetrics
from validation.judgement.metrics import PositionMetrics
from validation.judgement.verdict import judge
from validation.models.hashing import files_sha256, json_sha256
from validation.models.sources import source_sha256
from validation.models.trees import Tree
from validation.reporting.outputs import LOGS
from validation.reporting.records import RecordFile, finite

DTYPE: DtypeName = "float32"

_MODULE = "validation.audit.worker"

_MEASURING = ("environments.py", "frequencies.py", "loading.py", "run.py", "worker.py")
"""Of this folder, what can change a record; with what `Surroundings` hashes."""


class AuditWatcher(Protocol):
    """Somebody who is shown how the audit goes."""

    def step(self, what: str) -> None:
        """Something begins."""

    def note(self, what: str) -> None:
        """Something to keep."""

    def progress(self, who: str, event: Progress) -> None:
        """A layer of `who` is done."""


@dataclass(frozen=True)
class Audited:
    """A release with one attention.

    Attributes:
        release: its version.
        generation: how it is run, None if `releases.toml` does not say.
        attention: the reference's, and what its model is asked for.
    """

    release: str
    generation: Generation | None
    attention: AttentionName


def audited(releases: Sequence[str]) -> list[Audited]:
    """Each release with each of its attentions."""
    generations = [(release, generation_of(release)) for release in releases]
    return [
        Audited(release, generation, attention)
        for release, generation in generations
        for attention in (generation.attentions if generation else ("eager",))
    ]


def run_audit(
    request: Request,
    subjects: Sequence[Audited],
    file: RecordFile[AuditRecord],
    watcher: AuditWatcher,
) -> list[AuditRecord]:
    """Runs what `file` does not hold yet.

    Args:
        request: checkpoint, contexts, prompt and settings; its trees are not run.
        subjects: releases, in the order in which they are shown.
        file: of records.
        watcher: is shown how it goes.

    Returns:
        A record for every subject, those of earlier runs too.

    Raises:
        InputError: a context does not fit the memory in one forward.
    """
    _refuse_chunks(request)
    surroundings = Surroundings.of(request.device)
    keys = {subject: _key(request, subject, surroundings) for subject in subjects}
    known = {r.provenance.key: r for r in file.records if r.is_finished}
    found = {subject: known[key] for subject, key in keys.items() if key in known}
    for attention in dict.fromkeys(subject.attention for subject in subjects):
        pending = [s for s in subjects if s.attention == attention and s not in found]
        if not pending:
            continue
        with building_folder(file.path.parent) as scratch:
            audit = _Audit(request, attention, surroundings, scratch, file.path.parent, watcher)
            for subject, record in audit.run(pending, keys):
                file.append(record)
                found[subject] = record
                watcher.note(f"{len(found)} of {len(subjects)}: {sentence(record)}")
    return [found[subject] for subject in subjects]


def _refuse_chunks(request: Request) -> None:
    machine = measure_machine(request.memory_bytes, DTYPE, request.device)
    for context in request.contexts:
        plan = plan_case(request, DTYPE, context, machine, "eager")
        if plan.refusal or not plan.is_whole:
            raise InputError(
                f"--contexts: {context} tokens do not fit {machine.memory_bytes / 2**30:.1f} GiB "
                "in one forward, which releases are run in; fewer are accepted, or more --memory."
            )


@dataclass(frozen=True)
class _Audit:
    """The releases with one attention, which share a reference."""

    request: Request
    attention: AttentionName
    surroundings: Surroundings
    scratch: Path
    folder: Path
    watcher: AuditWatcher

    def run(
        self, pending: list[Audited], keys: dict[Audited, str]
    ) -> Iterator[tuple[Audited, AuditRecord]]:
        np.save(tokens_path(self.scratch), self.request.prompt.tokens)
        self._run_reference()
        for subject in pending:
            fields = self._measure(subject)
            yield subject, self._record(subject, keys[subject], fields)

    @property
    def _forwards(self) -> tuple[Forward, ...]:
        contexts = self.request.contexts
        return tuple(Forward(context=c, prefill=c, eager_prefill=c) for c in contexts)

    def _run_reference(self) -> None:
        """Once for all: without it there is nothing to say of any release."""
        job = self.request.reference_job(
            DTYPE, self.scratch, forwards=self._forwards, attention=self.attention
        )
        log = self.folder / LOGS / f"reference-{self.attention}.log"
        try:
            for event in run_worker(job, log):
                if isinstance(event, Progress):
                    self.watcher.progress("reference", event)
        except WorkerDied as death:
            raise VerificationError(f"the reference worker {death}") from None

    def _measure(self, subject: Audited) -> dict[str, Any]:
        """The fields of the record that say how it went."""
        if subject.generation is None:
            return _unmeasured(Ending.NOT_INSTALLED, "releases.toml does not say how it is run")
        try:
            environment = environment_for(subject.release, subject.generation, self.watcher.step)
        except CannotInstall as error:
            return _unmeasured(Ending.NOT_INSTALLED, str(error))
        contexts: list[ContextRecord] = []
        ending, reason = Ending.MEASURED, ""
        try:
            for event in self._events(subject, subject.generation, environment):
                if isinstance(event, Progress):
                    self.watcher.progress(subject.release, event)
                elif isinstance(event, Measured):
                    contexts.append(self._judge(event))
                else:
                    ending, reason = Ending.REFUSED, event.reason
        except WorkerDied as death:
            ending, reason = Ending.DIED, f"the worker {death}"
        frequencies = compare_frequencies(self.scratch, self.request.checkpoint.rope)
        return {
            "ending": ending.name,
            "reason": reason,
            "wheel_sha256": environment.wheel_sha256,
            "tree_sha256": source_sha256(environment.tree),
            "installed": environment.packages,
            "overridden": environment.overridden,
            "contexts": tuple(contexts),
            "frequencies": {n: FrequencyRecord(**asdict(w)) for n, w in frequencies.items()},
        }

    def _events(
        self, subject: Audited, generation: Generation, environment: Environment
    ) -> Iterator[Progress | Measured | Refused]:
        tree = Tree(subject.release, environment.tree, "", None, loads_itself=False)
        own = {"forwards": self._forwards, "attention": self.attention}
        job = self.request.subject_job(tree, DTYPE, self.scratch, **own)
        fields = job.model_dump() | {"model": generation.model}
        log = self.folder / LOGS / f"{subject.release}-{self.attention}.log"
        return run_worker(AuditJob.model_validate(fields), log, environment.python, _MODULE)

    def _judge(self, measured: Measured) -> ContextRecord:
        metrics = PositionMetrics.load(subject_metrics_path(self.scratch, measured.context))
        itself = ReferenceMetrics.load(reference_metrics_path(self.scratch, measured.context))
        judgement, floor = judge(metrics, itself), itself.pooled
        ratios = [bin_.ratio for bin_ in judgement.bins]
        vocab = metrics.vocab
        return ContextRecord(
            context=measured.context,
            verdict=judgement.verdict.name,
            reason=judgement.reason,
            notes=measured.notes,
            logits_total=metrics.positions * vocab,
            logits_differing=int(metrics.differing.sum()),
            first_differing=next(iter(metrics.first_differing.tolist()), None),
            first_wrong=first_wrong_position(metrics, floor),
            parity_ratio=finite(judgement.parity_ratio),
            largest_ratio=None
            if None in ratios
            else finite(max(r for r in ratios if r is not None)),
            mean_abs=finite(float(metrics.abs_sum.mean()) / vocab),
            floor_mean_abs=float(floor.abs_sum.mean()) / vocab,
            max_abs=finite(float(metrics.abs_max.max())),
            kl_mean=finite(float(metrics.kl.mean())),
            top1_agreement=judgement.top1_agreement,
            seconds=measured.parts["forward"],
        )

    def _record(self, subject: Audited, key: str, fields: dict[str, Any]) -> AuditRecord:
        request = self.request
        provenance = AuditProvenance(
            key=key,
            **self.surroundings.recorded(),
            checkpoint_sha256=request.checkpoint.sha256,
            prompt_sha256=request.prompt.sha256(request.contexts[-1]),
            prompt_source=request.prompt.source,
            layers=request.checkpoint.shape.layers,
            seed=request.seed,
            chunk=request.chunk,
        )
        return AuditRecord(
            release=subject.release,
            model=subject.generation.model if subject.generation else "",
            attention=subject.attention,
            checkpoint=request.checkpoint.name,
            dtype=DTYPE,
            provenance=provenance,
            **fields,
        )


def _unmeasured(ending: Ending, reason: str) -> dict[str, Any]:
    return {
        "ending": ending.name,
        "reason": reason,
        "wheel_sha256": None,
        "tree_sha256": None,
        "installed": {},
        "overridden": (),
        "contexts": (),
        "frequencies": {},
    }


def _key(request: Request, subject: Audited, surroundings: Surroundings) -> str:
    """A sha256 over everything that could change the record of a release."""
    package = REPOSITORY / "validation"
    code = [package / "audit" / name for name in _MEASURING]
    rope = [package / "rope" / name for name in ("angles.py", "oracles.py")]
    generation = subject.generation
    ingredients = {
        "release": subject.release,
        "generation": generation and generation.model_dump(exclude={"releases", "why"}),
        "attention": subject.attention,
        "dtype": DTYPE,
        "device": request.device,
        "contexts": request.contexts,
        "checkpoint": request.checkpoint.sha256,
        "layers": request.checkpoint.shape.layers,
        "prompt": request.prompt.sha256(request.contexts[-1]),
        "chunk": request.chunk,
        "seed": request.seed,
        "audit": files_sha256(package, [*code, *rope]),
        "harness": surroundings.harness_sha256,
        "packages": surroundings.packages,
        "settings": surroundings.settings,
    }
    return json_sha256(ingredients)
