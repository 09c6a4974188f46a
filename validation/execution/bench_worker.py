"""One contestant's process: `python -m validation.execution.bench_worker JOB.json`.

It holds one model and does a piece of work for each line on its standard input, until that ends.
"""

import gc
import sys

import torch

from validation.execution.accidents import exhausted, what_ran_out
from validation.execution.arithmetic import fix_arithmetic
from validation.execution.bench_messages import Piece, Ready, Timed
from validation.execution.bench_work import Hooked, Transformers, Worked, do_piece
from validation.execution.events import Reporter
from validation.execution.jobs import Exhausted, Job, ReferenceJob, Refused, SubjectJob, read_job
from validation.execution.meter import Meter
from validation.execution.worker import load_model, load_tokens
from validation.models.subject import SubjectRefused, load_subject


def main(job_file: str) -> None:
    """Loads the model of the job in `job_file` and works until its standard input ends."""
    job = read_job(job_file)
    fix_arithmetic(job.threads, job.seed, job.device)
    with Reporter.from_environment() as reporter:
        try:
            model, notes = _load(job)
            # The tree's import may have changed them.
            fix_arithmetic(job.threads, job.seed, job.device)
            # Loading took more than the model does, and others wait for it. Without CUDA: nothing.
            torch.cuda.empty_cache()
            reporter.send(Ready(notes=notes))
            for line in sys.stdin:
                timed = _work(model, job, Piece.model_validate_json(line))
                torch.cuda.empty_cache()
                reporter.send(timed)
        except SubjectRefused as refusal:
            reporter.send(Refused(reason=str(refusal)))
        except Exception as error:
            if missing := exhausted(error):
                reporter.send(Exhausted(resource=missing, reason=what_ran_out(error)))
            raise


def _load(job: ReferenceJob | SubjectJob) -> tuple[Worked, tuple[str, ...]]:
    if isinstance(job, SubjectJob):
        subject = load_subject(job)
        return Hooked(subject), subject.notes
    model = load_model(job)
    model.set_attn_implementation(job.attention)
    return Transformers(model), ()


def _work(model: Worked, job: Job, piece: Piece) -> Timed:
    tokens = load_tokens(job, piece.context)
    gc.collect()  # neither time nor memory of this piece
    with Meter(*job.devices) as meter:
        chosen = do_piece(model, tokens, piece)
    return Timed(
        seconds=meter.seconds,
        resting_memory_bytes=meter.resting_memory_bytes,
        # The kernel counts the two in different ways, some pages apart.
        peak_memory_bytes=max(meter.peak_memory_bytes, meter.resting_memory_bytes),
        tokens=chosen,
    )


if __name__ == "__main__":
    main(sys.argv[1])
