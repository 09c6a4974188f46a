"""The study `drift`: what the release's error does to heads and losses, beside a reordering's."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from transformer_lens_fork.errors import InputError
from validation.execution.cases import Request
from validation.execution.jobs import DtypeName, Forward, Refused, tokens_path
from validation.execution.processes import run_worker
from validation.models.trees import STOCK, Tree, resolve_tree
from validation.studies.blocks import means_of_blocks, ranges_of
from validation.studies.drift import changed_tops, moved_by
from validation.studies.drift_findings import MOVES_NATS, SIDES
from validation.studies.drift_page import compose
from validation.studies.drift_worker import FUSED, found_path
from validation.studies.laboratory import Laboratory
from validation.studies.records import Unit, Values
from validation.studies.study import Study

_MOST_SCORES = 3 * 2**26
"""Of a layer, in one forward: 768 MiB in fp32, and eager attention holds a few times that. Beyond
it queries go through the KV cache in chunks, the same on both sides."""

_SHORTEST = 128


def list_units(contexts: tuple[int, ...], seeds: Sequence[int]) -> list[Unit]:
    """One for every context and seed; the framework makes them for every dtype."""
    return [{"context": context, "seed": seed} for context in contexts for seed in seeds]


def measure(laboratory: Laboratory, unit: Unit) -> Values:
    """Runs the release and the fork in processes of their own and compares them.

    Raises:
        InputError: the context is too short, or the release cannot run the checkpoint.
    """
    request, context = laboratory.request, int(unit["context"])
    if context < _SHORTEST:
        raise InputError(
            f"--contexts: {context} is too short; {_SHORTEST} tokens or more are accepted."
        )
    window = laboratory.window(context, int(unit["seed"]))
    stock = resolve_tree(STOCK, request.base, lambda _: None)
    with TemporaryDirectory() as folder:
        found: dict[str, dict[str, NDArray[np.float64]]] = {}
        for tree in (stock, request.trees[0]):
            scratch = Path(folder) / str(len(found))
            scratch.mkdir()
            np.save(tokens_path(scratch), window)
            found |= _run(request, tree, unit, scratch)
    reference = found["fork"]
    values: Values = {
        "reference_loss_nats_by_block": means_of_blocks(reference["loss"]).tolist(),
        "keys_of_one_forward": _prefill(request, context),
    }
    for side, name in zip(SIDES, ("stock", "fork fused"), strict=True):
        values |= {
            f"{side}_{what}": value for what, value in _compare(reference, found[name]).items()
        }
    return values


def _run(
    request: Request, tree: Tree, unit: Unit, scratch: Path
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """What a tree's process found, by attention: `stock`, or `fork` and `fork fused`."""
    context, dtype = int(unit["context"]), unit["dtype"]
    prefill = _prefill(request, context)
    forward = Forward(context=context, prefill=prefill, eager_prefill=prefill)
    job = request.subject_job(tree, _dtype(dtype), scratch, attention="eager", forwards=(forward,))
    worker = run_worker(job, scratch / "log.txt", module="validation.studies.drift_worker")
    for event in worker:
        if isinstance(event, Refused):
            raise InputError(
                f"--checkpoint: TransformerLens {request.base.version} does not run "
                f"{request.checkpoint.name!r}: {event.reason}; one that it runs is accepted."
            )
    name = STOCK if tree.name == STOCK else "fork"
    files = {name: found_path(scratch, "eager"), f"{name} fused": found_path(scratch, FUSED)}
    found = {}
    for run, path in files.items():
        if path.exists():
            with np.load(path) as file:
                found[run] = {"top": file["top"], "loss": file["loss"].astype(np.float64)}
    return found


def _compare(
    reference: dict[str, NDArray[np.float64]], other: dict[str, NDArray[np.float64]]
) -> Values:
    changed = changed_tops(reference["top"], other["top"])
    delta = other["loss"] - reference["loss"]
    moved = [
        moved_by(reference["top"][..., start:stop], other["top"][..., start:stop])
        for start, stop in ranges_of(changed.shape[-1])
    ]
    return {
        "top_changed_share_by_block": means_of_blocks(changed.mean((0, 1))).tolist(),
        "top_changed_share_by_layer_and_head": changed.mean(-1).tolist(),
        "top_changed_by_range": [len(each) for each in moved],
        "top_moved_median_tokens_by_range": [
            float(np.median(each)) if len(each) else 0.0 for each in moved
        ],
        "loss_delta_nats_by_block": means_of_blocks(delta).tolist(),
        "loss_abs_delta_nats_by_block": means_of_blocks(np.abs(delta)).tolist(),
        **{
            f"loss_moved_{limit}_share_by_block": means_of_blocks(
                (np.abs(delta) > limit).astype(float)
            ).tolist()
            for limit in MOVES_NATS
        },
    }


def _prefill(request: Request, context: int) -> int:
    """Tokens a forward of eager attention: all, or a power of two."""
    rows = _MOST_SCORES // (request.checkpoint.shape.heads * context)
    return context if rows >= context else 2 ** max(6, rows.bit_length() - 1)


def _dtype(name: object) -> DtypeName:
    (found,) = (each for each in STUDY.dtypes if each == name)
    return found  # type: ignore[return-value]  # one of STUDY's


_FOLDER = Path(__file__).parent

STUDY = Study(
    name="drift",
    question=(
        "What does the error of stock TransformerLens do downstream: which heads attend to another "
        "position most, and which tokens' losses move, by position and dtype?"
    ),
    contexts=(4096,),
    dtypes=("float32", "bfloat16"),
    files=tuple(
        _FOLDER / name for name in ("blocks.py", "drift.py", "drift_study.py", "drift_worker.py")
    ),
    units=list_units,
    measure=measure,
    compose=compose,
    several_dtypes=True,
)
