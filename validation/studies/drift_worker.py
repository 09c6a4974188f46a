"""A process of its own for one tree: `python -m validation.studies.drift_worker JOB.json`.

Writes what every query attends to most, and every loss, as `drift.py` takes them: with the job's
attention, and a tree that has fused attention with that, too.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from validation.execution.arithmetic import fix_arithmetic
from validation.execution.events import Reporter
from validation.execution.jobs import Forward, Measured, Refused, SubjectJob, read_job
from validation.execution.meter import Meter
from validation.execution.worker import load_tokens, telling_exhaustion
from validation.models.subject import Subject, SubjectRefused, load_subject
from validation.models.trees import ATTENTION_FIELD
from validation.studies.drift import losses_of, watching

FUSED = "sdpa"


def main(job_file: str) -> None:
    """Runs the job in `job_file`."""
    job = read_job(job_file)
    assert isinstance(job, SubjectJob)
    fix_arithmetic(job.threads, job.seed)
    with Reporter.from_environment() as reporter, telling_exhaustion(reporter):
        try:
            subject = load_subject(job)
        except SubjectRefused as refusal:
            reporter.send(Refused(reason=str(refusal)))
            return
        # The tree's import may have changed it.
        fix_arithmetic(job.threads, job.seed)
        for forward in job.forwards:
            with Meter(job.device) as meter:
                _run(subject, job, forward)
            reporter.send(
                Measured(
                    context=forward.context,
                    parts={"forward": meter.seconds},
                    peak_memory_bytes=meter.peak_memory_bytes,
                    notes=subject.notes,
                )
            )


def found_path(scratch: Path, attention: str) -> Path:
    """Where a run's findings are: `top` [layer, head, query] and `loss` [pos-1]."""
    return scratch / f"{attention}.npz"


def _run(subject: Subject, job: SubjectJob, forward: Forward) -> None:
    _run_with(subject, job, forward.context, forward.prefill, job.attention)
    configuration = subject.model.cfg
    if hasattr(configuration, ATTENTION_FIELD):
        setattr(configuration, ATTENTION_FIELD, FUSED)
        _run_with(subject, job, forward.context, forward.context, FUSED)
        setattr(configuration, ATTENTION_FIELD, job.attention)


def _run_with(
    subject: Subject, job: SubjectJob, context: int, prefill: int, attention: str
) -> None:
    tokens = load_tokens(job, context)
    found: dict[int, list[torch.Tensor]] = {}
    with torch.no_grad(), subject.model.hooks(fwd_hooks=watching(subject.model, found)):
        hidden = subject.final_hidden(tokens, lambda *_: None, prefill)
        loss = losses_of(hidden, subject.head, tokens)
    top = torch.stack([torch.cat(found[layer], dim=1) for layer in sorted(found)])
    np.savez(found_path(job.scratch, attention), top=top.numpy(), loss=loss.cpu().numpy())


if __name__ == "__main__":
    main(sys.argv[1])
