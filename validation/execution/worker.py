"""A worker process: `python -m validation.execution.worker JOB.json`.

It loads one model, runs the job's contexts, and tells the parent how each went.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from validation.execution.accidents import exhausted, what_ran_out
from validation.execution.arithmetic import fix_arithmetic
from validation.execution.events import Reporter
from validation.execution.floors import linear, measure_bits, measure_floors
from validation.execution.jobs import (
    Exhausted,
    Forward,
    Job,
    Measured,
    Progress,
    ReferenceJob,
    Refused,
    SubjectJob,
    head_path,
    read_job,
    reference_hidden_path,
    reference_metrics_path,
    subject_metrics_path,
    tokens_path,
)
from validation.execution.memory import Heap, return_freed_memory
from validation.execution.meter import Meter, Stopwatch
from validation.judgement.metrics import Head, Stream, stream_metrics

if TYPE_CHECKING:
    from validation.models.subject import Subject

_PREFIX = 32
"""Tokens on which a subject's whole forward is compared with its measured parts."""


def main(job_file: str) -> None:
    """Runs the job in `job_file`."""
    job = read_job(job_file)
    fix_arithmetic(job.threads, job.seed, job.device)
    with Reporter.from_environment() as reporter, telling_exhaustion(reporter):
        if isinstance(job, ReferenceJob):
            _run_reference(job, reporter)
        else:
            _run_subject(job, reporter)


@contextmanager
def telling_exhaustion(reporter: Reporter) -> Iterator[None]:
    """Tells the parent if the machine ran out of something, and raises it on."""
    try:
        yield
    except Exception as error:
        if missing := exhausted(error):
            reporter.send(Exhausted(resource=missing, reason=what_ran_out(error)))
        raise


def _run_reference(job: ReferenceJob, reporter: Reporter) -> None:
    from validation.models.reference import final_hidden

    loading = Stopwatch(*job.devices)
    with loading.timing("load"):
        model = load_model(job)
        weight = model.lm_head.weight.detach()
        save_file({"weight": weight.cpu().contiguous()}, head_path(job.scratch))
    if job.probe_tokens:
        from validation.execution.probe_reference import probe_reference

        probe_reference(model, load_tokens(job, job.probe_tokens), job)
    for forward in job.forwards:
        tokens = load_tokens(job, forward.context)
        on_layer = _layers_to(reporter, f"{forward.context} {job.attention}")
        watch = Stopwatch(*job.devices)
        with Meter(*job.devices) as meter:
            hidden = final_hidden(model, tokens, job.attention, on_layer, forward.prefill)
        with watch.timing("files"):
            # Under another name until whole: a later worker must not read half of it.
            path = reference_hidden_path(job.scratch, forward.context)
            save_file({"hidden": hidden.cpu().contiguous()}, path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)
        if job.has_floors:
            told = partial(_layers_to, reporter)
            metrics = measure_floors(model, hidden, tokens, forward, job, told, watch)
        else:
            metrics = measure_bits(model, hidden, job, watch)
        with watch.timing("files"):
            metrics.save(reference_metrics_path(job.scratch, forward.context))
        reporter.send(_measured(meter, forward.context, loading, watch))
        del hidden


def load_model(job: ReferenceJob) -> Any:
    """The reference as the job wants it."""
    from validation.models.reference import load_reference

    return load_reference(
        job.checkpoint,
        getattr(torch, job.dtype),
        job.device,
        job.weights_seed,
        streams_layers=job.streams_layers,
        n_devices=job.n_devices,
    )


def _run_subject(job: SubjectJob, reporter: Reporter) -> None:
    from validation.models.subject import SubjectRefused, load_subject

    loading = Stopwatch(*job.devices)
    try:
        with loading.timing("load"):
            subject = load_subject(job)
            # The tree's import may have changed them.
            fix_arithmetic(job.threads, job.seed, job.device)
            refuse_another_forward(subject, job)
    except SubjectRefused as refusal:
        reporter.send(Refused(reason=str(refusal)))
        return
    if job.probe_tokens:
        from validation.execution.probe_subject import probe_subject

        probe_subject(subject, load_tokens(job, job.probe_tokens), load_head(job), job)
    compare_forwards(subject, job.forwards, job, reporter, loading)


def refuse_another_forward(subject: "Subject", job: SubjectJob) -> None:
    """Raises SubjectRefused unless what is measured is the model's own forward."""
    shortest = min((forward.context for forward in job.forwards), default=_PREFIX)
    subject.refuse_another_forward(load_tokens(job, min(shortest, _PREFIX)))


def load_head(job: Job) -> Head:
    """The reference's unembedding, on the job's device."""
    return linear(load_file(head_path(job.scratch))["weight"].to(job.device))


def compare_forwards(
    subject: "Subject",
    forwards: Sequence[Forward],
    job: SubjectJob,
    reporter: Reporter,
    loading: Stopwatch,
) -> None:
    """Runs contexts, writes how each differs from the reference, and tells the parent.

    Args:
        subject: the loaded model.
        forwards: the contexts.
        job: what the worker runs.
        reporter: told of each.
        loading: what loading took.
    """
    head = load_head(job)
    for forward in forwards:
        context = forward.context
        on_layer = _layers_to(reporter, str(context))
        watch = Stopwatch(*job.devices)
        with Meter(*job.devices) as meter:
            hidden = subject.final_hidden(load_tokens(job, context), on_layer, forward.prefill)
        return_freed_memory()
        with watch.timing("files"):
            reference = load_file(reference_hidden_path(job.scratch, context))["hidden"]
            expected = Stream(reference.to(job.device), watch.timed("unembed", head))
        found = Stream(hidden, watch.timed("unembed", subject.head))
        with watch.timing("compare"):
            metrics = stream_metrics(expected, found, job.chunk)
        with watch.timing("files"):
            metrics.save(subject_metrics_path(job.scratch, context))
        reporter.send(_measured(meter, context, loading, watch, subject.notes))
        del hidden, reference, expected, found


def _layers_to(reporter: Reporter, what: str) -> Callable[[int, int], None]:
    heap = Heap()

    def on_layer(done: int, total: int) -> None:
        reporter.send(Progress(what=what, done=done, total=total))
        heap.tidy()

    return on_layer


def load_tokens(job: Job, context: int) -> Int[Tensor, "1 pos"]:
    """The first ids of the job's prompt, on its device."""
    tokens = np.load(tokens_path(job.scratch), mmap_mode="r")[:context]
    return torch.from_numpy(np.array(tokens))[None].to(job.device)


def _measured(
    meter: Meter,
    context: int,
    loading: Stopwatch,
    watch: Stopwatch,
    notes: tuple[str, ...] = (),
) -> Measured:
    return Measured(
        context=context,
        parts={"forward": meter.seconds} | loading.seconds | watch.seconds,
        peak_memory_bytes=meter.peak_memory_bytes,
        notes=notes,
    )


if __name__ == "__main__":
    main(sys.argv[1])
