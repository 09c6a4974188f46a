"""The process of one release: `python -m validation.audit.worker JOB.json`.

It runs in the release's environment, with another transformers than the reference's perhaps.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from validation.audit.frequencies import observe_bridge, observe_hooked
from validation.audit.jobs import AuditJob, frequencies_path
from validation.audit.loading import NamedLlama, load_bridge
from validation.execution.accidents import exhausted
from validation.execution.arithmetic import fix_arithmetic
from validation.execution.events import Reporter
from validation.execution.jobs import Forward, Refused
from validation.execution.meter import Stopwatch
from validation.execution.worker import (
    compare_forwards,
    refuse_another_forward,
    telling_exhaustion,
)
from validation.models.subject import Subject, SubjectRefused, first_line, import_from

_PATH = re.compile(r" \(/[^)]*\)")
"""Where a module lies, which Python adds to what it cannot import."""


def main(job_file: str) -> None:
    """Runs the job in `job_file`."""
    job = AuditJob.model_validate_json(Path(job_file).read_bytes())
    fix_arithmetic(job.threads, job.seed, job.device)
    with Reporter.from_environment() as reporter, telling_exhaustion(reporter):
        try:
            _import(job)
            for load, forwards in _loads(job):
                loading = Stopwatch(job.device)
                with loading.timing("load"):
                    subject = load()
                    # The import, or the loading, may have changed them.
                    fix_arithmetic(job.threads, job.seed, job.device)
                    refuse_another_forward(subject, job)
                compare_forwards(subject, forwards, job, reporter, loading)
                del subject
        except SubjectRefused as refusal:
            reporter.send(Refused(reason=str(refusal)))


def _import(job: AuditJob) -> None:
    try:
        import_from(job.tree)
    except Exception as error:  # a release may raise anything
        why = _PATH.sub("", first_line(error, job))
        raise SubjectRefused(f"importing it raised {why}") from error


def _loads(job: AuditJob) -> Iterator[tuple[Callable[[], Subject], Sequence[Forward]]]:
    """Ways to load the checkpoint, each with the contexts that are run so."""
    if job.model == "TransformerBridge":
        yield partial(_bridge, job), job.forwards
        return
    named = NamedLlama.of_release()
    # Its context length is part of what a release has for Llama 3.1, up to 2.15.0 even of RoPE:
    # another is given only where its own does not reach.
    reach = named.n_ctx(0)
    within = [forward for forward in job.forwards if forward.context <= reach]
    beyond = [forward for forward in job.forwards if forward.context > reach]
    for forwards in filter(None, (within, beyond)):
        yield partial(_hooked, job, named, forwards[-1].context), forwards


def _hooked(job: AuditJob, named: NamedLlama, contexts: int) -> Subject:
    subject = named.load(job, contexts)
    if frequencies_path(job.scratch).exists():  # the first way of loading is the users'
        return subject
    return _observed(subject, lambda: observe_hooked(subject.model, named.cfg, job.scratch))


def _bridge(job: AuditJob) -> Subject:
    subject = load_bridge(job)
    return _observed(subject, lambda: observe_bridge(subject.model, job))


def _observed(subject: Subject, observe: Callable[[], None]) -> Subject:
    try:
        observe()
    except Exception as error:  # a release may raise anything
        if exhausted(error):
            raise
        note = f"its frequencies were not seen: {type(error).__name__}: {error}"
        return replace(subject, notes=(*subject.notes, note))
    return subject


if __name__ == "__main__":
    main(sys.argv[1])
