"""What every size of the matrix would need on one GPU, before anybody runs it."""

import numpy as np

from transformer_lens_fork.bases import get_base
from validation.execution.asked import parse_contexts
from validation.execution.cases import Request
from validation.execution.jobs import DtypeName
from validation.execution.plan import Machine, plan_case
from validation.gpu_parity.matrix import Size, read_matrix
from validation.models.checkpoints import resolve_checkpoint
from validation.models.prompts import Prompt
from validation.reporting.tables import Column, Row, Table
from validation.reporting.wording import tokens

_GPU = Machine(memory_bytes=139 * 2**30, flops=1e14, bytes_per_second=1e12)
"""One NVIDIA H200; how fast it is changes no figure here."""


def tabulate_planned() -> Table:
    """Peak memory in GiB of one process, of weights that stay and of streamed ones."""
    rows = []
    contexts: tuple[int, ...] = ()
    for size in read_matrix().values():
        contexts = parse_contexts(size.contexts)
        for dtype in size.dtypes:
            for streams_layers in (False, True):
                request = _request(size, dtype, streams_layers=streams_layers)
                layers = "streamed" if streams_layers else "kept"
                peaks = (f"{_peak(request, context):.0f}" for context in contexts)
                rows.append(Row((size.name, dtype, layers, *peaks)))
    names = (Column(name, "text") for name in ("size", "dtype", "layers"))
    columns = (*names, *(Column(tokens(context)) for context in contexts))
    return Table("Planned peak memory, GiB, by size and tokens", columns, tuple(rows))


def _request(size: Size, dtype: DtypeName, *, streams_layers: bool) -> Request:
    return Request(
        checkpoint=resolve_checkpoint(size.checkpoint, lambda _: None),
        trees=(),
        contexts=parse_contexts(size.contexts),
        dtypes=(dtype,),
        attention="sdpa",
        device="cuda",
        base=get_base("v3.9.0"),
        prompt=Prompt(np.zeros(0, dtype=np.int64), "none"),
        seed=0,
        threads=1,
        memory_bytes=_GPU.memory_bytes,
        streams_layers=streams_layers,
    )


def _peak(request: Request, context: int) -> float:
    plan = plan_case(request, request.dtypes[0], context, _GPU, "sdpa")
    return plan.needed_bytes / 2**30
