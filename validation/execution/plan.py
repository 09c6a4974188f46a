"""Predicts what a case needs, and chooses how many tokens go through a model at a time.

The constants are measured (validation/tests/execution/test_plan.py measures them again); a plan
decides what is attempted, never what is true.
"""

import math
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch

from validation.execution.cases import Request
from validation.execution.jobs import AttentionName, DtypeName
from validation.models.shapes import Shape

_SCORES_BYTES = 2**31
"""Scores of one chunk in fp32, of all heads: with fewer tokens a chunk all keys are rotated more
often, with twice as many a chunk takes half as long again (32k tokens, 2 cores)."""

_MIN_PREFILL = 64

_OWN_GROUP = Path("/proc/self/cgroup")

_PROCESS_BYTES = {"reference": 300 * 2**20, "subject": 560 * 2**20}
"""Interpreter, torch, transformers and TransformerLens' own imports."""

_LENT_LAYERS = {"reference": 2, "subject": 3}
"""Where layers are streamed: the one that runs, the next, and what the next is converted from."""

_SCORE_COPIES = {
    ("reference", 4): 2.5,
    ("reference", 2): 5.6,  # the softmax is in fp32: two bytes become four
    ("subject", 4): 5.0,
    ("subject", 2): 5.8,
}
"""Tensors [heads, prefill, keys] that are alive at once, by model and bytes of a value."""

_LOGIT_BYTES = {
    ("reference", 4): 24,
    ("reference", 2): 16,
    ("subject", 4): 18,
    ("subject", 2): 12,
}
"""For each logit of a chunk, of all streams: the logits, their difference, sums in float64."""

_SCORE_PASSES = {"reference": 9.0, "subject": 15.0}
"""Times that each score is written or read, in eager attention."""

_FETCHED_BYTES_PER_SECOND = 1e10
"""Of weights that a streamed layer is lent, from files or of a seed: nominal, not measured."""


@dataclass(frozen=True)
class CasePlan:
    """What one context needs at one dtype.

    Attributes:
        context: tokens.
        prefill: tokens a forward of the subject; the context itself if it goes through in one.
        reference_prefill: the same of the reference, where it is compared with subjects.
        eager_prefill: the same of eager attention, of which the floor is measured; where fused
            attention is compared, queries at a time within one forward.
        reference_bytes: predicted peak memory of the reference's process.
        subject_bytes: of a subject's process.
        needed_bytes: the most of one process at any time, also while a subject is loaded.
        reference_seconds: predicted time of the reference and its floors, or of the reference alone
            where the floor is lazy: then nothing is said of a floor that is needed after all.
        subject_seconds: of one subject with its comparison.
        refusal: why it does not fit, None if it does.
    """

    context: int
    prefill: int
    reference_prefill: int
    eager_prefill: int
    reference_bytes: int
    subject_bytes: int
    needed_bytes: int
    reference_seconds: float
    subject_seconds: float
    refusal: str | None

    @property
    def is_whole(self) -> bool:
        """Whether all tokens go through in one forward."""
        return self.prefill >= self.context

    def process_bytes(self, who: str) -> int:
        """Predicted peak memory of the process of `reference` or `subject`."""
        return self.reference_bytes if who == "reference" else self.subject_bytes


@dataclass(frozen=True)
class Machine:
    """What limits a case.

    Attributes:
        memory_bytes: what one process may take.
        flops: multiplications and additions a second, in matrix products of a dtype.
        bytes_per_second: read and written by elementwise operations.
    """

    memory_bytes: int
    flops: float
    bytes_per_second: float


def default_memory(device: str) -> int:
    """Bytes that one process may take if the user does not say: most of what is there."""
    if device.startswith("cuda"):
        return int(0.9 * torch.cuda.get_device_properties(device).total_memory)
    return int(0.6 * host_memory())


def host_memory(groups: Path = Path("/sys/fs/cgroup"), own: Path = _OWN_GROUP) -> int:
    """Bytes of memory, or fewer if a control group (container, batch system) allows fewer.

    Args:
        groups: where control groups are mounted (cgroups(7)).
        own: file that names the groups of this process.
    """
    return min((psutil.virtual_memory().total, *_group_limits(groups, own)))


def _group_limits(groups: Path, own: Path) -> Iterator[int]:
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):  # the second version of control groups, or the first
            name = "memory.limit_in_bytes" if controllers else "memory.max"
            root = groups / controllers
            group = root / path.lstrip("/")
            # In a container the path may be the host's: then the mount itself is the group.
            for folder in {root, *(f for f in (group, *group.parents) if f.is_relative_to(root))}:
                with suppress(OSError, ValueError):  # "max", or none
                    yield int((folder / name).read_text(encoding="ascii"))


def measure_machine(memory_bytes: int, dtype: DtypeName, device: str) -> Machine:
    """Times a matrix product and a copy, in about half a second."""
    kind = getattr(torch, dtype)
    rows = torch.ones(1024, 1024, dtype=kind, device=device)
    block = torch.ones(2**24, dtype=torch.float32, device=device)
    product = _best_seconds(lambda: rows @ rows, device)
    copy = _best_seconds(lambda: block.mul_(1.0), device)
    return Machine(
        memory_bytes=memory_bytes,
        flops=2 * 1024**3 / product,
        bytes_per_second=2 * block.nbytes / copy,
    )


def plan_case(
    request: Request,
    dtype: DtypeName,
    context: int,
    machine: Machine,
    attention: AttentionName,
) -> CasePlan:
    """What a subject with this attention needs beside the reference with the request's.

    Eager attention takes all tokens in one forward if that fits, else the largest chunks that do,
    with 2 GiB of scores at most. The memory of sdpa is linear in the context: all in one forward;
    eager attention beside it never takes more than those 2 GiB of scores.
    """
    shape = request.checkpoint.shape
    size = 2 if dtype != "float32" else 4
    limit = machine.memory_bytes

    # Compared in eager attention, both go through the same chunks. Else each by itself: the floor
    # must not depend on which subjects stand beside it.
    is_shared = request.attention == "eager"

    def needs(who: str, prefill: int | None) -> int:
        # Of the fullest device: weights are spread, activations are wherever the layer is.
        elsewhere = (1 - 1 / request.n_devices) * parameter_bytes(who, shape, size)
        needed = peak_bytes(
            who,
            shape,
            size,
            context,
            prefill,
            request.chunk,
            streams_layers=request.streams_layers,
            in_rows=who == "reference" and not is_shared,
            streams=6 if who == "reference" and request.device != "cpu" else 4,
            repeats_keys=repeats_keys(request.device, dtype),
        )
        return needed - int(elsewhere)

    def choose_prefill(*models: str) -> int:
        is_small = is_shared or _score_bytes(shape, context, context) <= _SCORES_BYTES
        if is_small and max(needs(who, context) for who in models) <= limit:
            return context
        prefill = _MIN_PREFILL
        while _may_double(prefill, context, shape) and (
            max(needs(who, 2 * prefill) for who in models) <= limit
        ):
            prefill *= 2
        return prefill

    def halve(prefill: int) -> int:
        return max(min(prefill, _MIN_PREFILL), prefill >> request.halvings)

    if is_shared:
        own = eager_prefill = halve(choose_prefill("reference", "subject"))
    else:  # the floor's queries are made fewer where they run
        eager_prefill, own = choose_prefill("reference"), halve(choose_prefill("subject"))
    subject_prefill = own if attention == "eager" else None
    reference_bytes = needs("reference", eager_prefill)
    subject_bytes = needs("subject", subject_prefill)
    is_whole = subject_prefill is None and subject_bytes > limit
    how = "in one forward" if is_whole else f"even {subject_prefill or eager_prefill} at a time"
    needed = {how: max(reference_bytes, subject_bytes)}
    on_host = request.device != "cpu" and request.checkpoint.weights_seed is None
    if not request.streams_layers and request.n_devices == 1 and not on_host:
        # Weights are converted from those of the reference's model, which files are read into on
        # the host.
        both = resting_bytes("subject", shape, size) + parameter_bytes("reference", shape, size)
        needed["while the subject is loaded"] = both
    reference_prefill = eager_prefill if is_shared else context
    # Another kernel, plain RoPE and permuted channels; on CUDA two backends.
    floors = 0 if request.has_lazy_floor else 5 if request.device != "cpu" else 3

    def fetching(forwards: int) -> float:
        fetched = size * shape.layers * shape.layer_parameters if request.streams_layers else 0
        return forwards * fetched / _FETCHED_BYTES_PER_SECOND

    when, least = max(needed.items(), key=lambda each: each[1])
    return CasePlan(
        context=context,
        prefill=subject_prefill or context,
        reference_prefill=reference_prefill,
        eager_prefill=eager_prefill,
        reference_bytes=reference_bytes,
        subject_bytes=subject_bytes,
        needed_bytes=least,
        reference_seconds=_seconds(
            "reference",
            shape,
            size,
            context,
            None if request.has_lazy_floor and not is_shared else eager_prefill,
            machine,
            has_floors=not request.has_lazy_floor,
        )
        + fetching(math.ceil(context / reference_prefill) + floors),
        subject_seconds=_seconds("subject", shape, size, context, subject_prefill, machine)
        + fetching(math.ceil(context / (subject_prefill or context))),
        refusal=None
        if least <= limit
        else f"{context} tokens need {least / 2**30:.1f} GiB {when}, "
        f"{limit / 2**30:.1f} GiB may be taken (--memory)",
    )


def plan_request(request: Request, *, is_timed: bool = True) -> list[tuple[DtypeName, CasePlan]]:
    """Of every dtype and context, for a subject with the request's attention.

    Args:
        request: what is asked for.
        is_timed: the device is here; else what the plans say of time means nothing.
    """
    plans = []
    for dtype in request.dtypes:
        machine = Machine(request.memory_bytes, flops=1.0, bytes_per_second=1.0)
        if is_timed:
            machine = measure_machine(request.memory_bytes, dtype, request.device)
        plans += [
            (dtype, plan_case(request, dtype, context, machine, request.attention))
            for context in request.contexts
        ]
    return plans


def _may_double(prefill: int, context: int, shape: Shape) -> bool:
    doubled = 2 * prefill
    return doubled < context and _score_bytes(shape, doubled, context) <= _SCORES_BYTES


def _score_bytes(shape: Shape, prefill: int, context: int) -> int:
    """Of one layer, in fp32."""
    return 4 * shape.heads * prefill * context


def resting_bytes(who: str, shape: Shape, size: int, *, streams_layers: bool = False) -> int:
    """Of a process that holds its model and does nothing.

    Args:
        who: `reference` or `subject`.
        shape: the model's.
        size: bytes of a value.
        streams_layers: layers have no weights of their own; those that are lent are counted.
    """
    lent = replace(shape, layers=min(shape.layers, _LENT_LAYERS[who]))
    return _PROCESS_BYTES[who] + parameter_bytes(who, lent if streams_layers else shape, size)


def parameter_bytes(who: str, shape: Shape, size: int) -> int:
    """Of the weights alone."""
    # TransformerLens keeps an unembedding of its own; the reference permutes a copy of one matrix.
    embeddings = 2 if who == "subject" or not shape.is_tied else 1
    return size * (shape.layers * shape.layer_parameters + embeddings * shape.embedding_parameters)


def cache_bytes(shape: Shape, size: int, context: int) -> int:
    """Of one layer's keys and values."""
    return 2 * size * context * shape.kv_heads * shape.head_dim


def repeats_keys(device: str, dtype: DtypeName) -> bool:
    """Whether sdpa gets keys and values of every query head (`arithmetic.repeat_float32_keys`)."""
    return device.startswith("cuda") and dtype == "float32"


def forward_bytes(
    who: str,
    shape: Shape,
    size: int,
    context: int,
    eager_prefill: int | None,
    *,
    in_rows: bool = False,
    repeats_keys: bool = False,
) -> float:
    """What a forward to the last norm adds to the resting model.

    Args:
        who: `reference` or `subject`.
        shape: the model's.
        size: bytes of a value.
        context: tokens.
        eager_prefill: tokens at a time through eager attention; None for one forward of all tokens
            through sdpa.
        in_rows: eager attention goes by so many queries within one forward of all tokens.
        repeats_keys: sdpa gets keys and values of every query head.
    """
    if not eager_prefill:
        # One MLP's activations, or queries, keys, values and what is made of them.
        tensors = 7 if repeats_keys else 5
        widest = max(3 * shape.intermediate, tensors * shape.heads * shape.head_dim)
        return size * context * (widest + 6 * shape.hidden)
    scores = _SCORE_COPIES[who, size] * size * shape.heads * eager_prefill * context
    if in_rows and eager_prefill < context:
        heads = 4 * shape.heads * shape.head_dim + 2 * shape.kv_heads * shape.head_dim
        return scores + size * context * (heads + 3 * shape.hidden)
    channels = 6 * shape.hidden + 3 * shape.intermediate + 6 * shape.heads * shape.head_dim
    activations = size * eager_prefill * channels
    # Keys and values are repeated for every head, rotated and concatenated.
    repeated = 4 * size * context * shape.heads * shape.head_dim
    cache = (
        0 if eager_prefill >= context else (shape.layers + 2) * cache_bytes(shape, size, context)
    )
    return scores + activations + repeated + cache + size * context * shape.hidden


def peak_bytes(
    who: str,
    shape: Shape,
    size: int,
    context: int,
    eager_prefill: int | None,
    chunk: int,
    *,
    streams_layers: bool = False,
    in_rows: bool = False,
    streams: int = 4,
    repeats_keys: bool = False,
) -> int:
    """Of the forward, or of comparing the logits, whichever is more.

    Args:
        who: `reference` or `subject`.
        shape: the model's.
        size: bytes of a value.
        context: tokens.
        eager_prefill: tokens at a time through eager attention; None for one forward of all tokens
            through sdpa.
        chunk: positions whose logits are compared at a time.
        streams_layers: a layer has its weights while it runs.
        in_rows: eager attention goes by so many queries within one forward of all tokens.
        streams: of final hidden states that are there at once; CUDA's backends are two more.
        repeats_keys: sdpa gets keys and values of every query head.
    """
    hidden_bytes = size * context * shape.hidden
    forward = forward_bytes(
        who, shape, size, context, eager_prefill, in_rows=in_rows, repeats_keys=repeats_keys
    )
    if who == "reference":
        # The floors' sdpa takes all tokens at once: one MLP's activations and the residual streams.
        repeated = 7 * shape.heads * shape.head_dim if repeats_keys else 0
        widest = max(3 * shape.intermediate, repeated)
        whole = size * context * (widest + 5 * shape.hidden) + 3 * hidden_bytes
        forward = max(forward, whole)
    # An unembedding permuted, or the reference's beside its own.
    heads = size * shape.embedding_parameters * (2 if who == "reference" else 1)
    logits = _LOGIT_BYTES[who, size] * min(chunk, context) * shape.vocab
    compared = streams * hidden_bytes + heads + logits
    resting = resting_bytes(who, shape, size, streams_layers=streams_layers)
    return int(resting + max(forward, compared))


def _seconds(
    who: str,
    shape: Shape,
    size: int,
    context: int,
    eager_prefill: int | None,
    machine: Machine,
    *,
    has_floors: bool = True,
) -> float:
    """Of the forwards and the comparison; sdpa moves no scores.

    Without floors the reference runs one forward, and each of its logits is read once.
    """
    is_whole = (eager_prefill or context) >= context
    # A chunk sees only the keys so far: half of all scores.
    scores = shape.layers * shape.heads * context**2 * (1 if is_whole else 0.5)
    linear = 2 * context * shape.layers * shape.layer_parameters
    products = linear + 4 * scores * shape.head_dim
    logits = 2 * context * shape.embedding_parameters
    moved = context * shape.vocab * 4
    eager = products / machine.flops + (
        _SCORE_PASSES[who] * scores * size / machine.bytes_per_second
    )
    # sdpa leaves out the half of the scores that the mask hides.
    half = 0.5 if is_whole else 1.0
    sdpa = (linear + 4 * half * scores * shape.head_dim) / machine.flops
    forward = sdpa if eager_prefill is None else eager
    if who == "subject":
        return forward + (2 * logits) / machine.flops + 20 * moved / machine.bytes_per_second
    if not has_floors:
        return forward + logits / machine.flops + 2 * moved / machine.bytes_per_second
    floors = 2.5 * sdpa + 4 * logits / machine.flops + 30 * moved / machine.bytes_per_second
    return eager + floors


def _best_seconds(work: object, device: str) -> float:
    assert callable(work)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return best
