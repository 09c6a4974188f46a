"""Compares one reference with every clean deviation and every small fault, in this process.

Run only in a process that imports one tree in its life.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from validation.execution.alarm_grid import SMALL_FAULTS, Setting, Situation
from validation.execution.arithmetic import fix_arithmetic
from validation.execution.clean import Bench, kinds_at, run_chunks, run_clean
from validation.execution.floors import linear, measure_floors
from validation.execution.jobs import Forward, ReferenceJob, SubjectJob
from validation.execution.meter import Stopwatch
from validation.judgement.floor import ReferenceMetrics
from validation.judgement.floor_rules import alternative_floors
from validation.judgement.metrics import PositionMetrics, Stream, stream_metrics
from validation.judgement.verdict import Judgement, Verdict, judge
from validation.models.hashing import files_sha256
from validation.models.random_llamas import save_random_llama
from validation.models.reference import EAGER, final_hidden, load_reference
from validation.models.subject import load_subject
from validation.reporting.alarm_records import (
    AlarmProvenance,
    AlarmRecord,
    ComparisonRecord,
    RuleRecord,
)
from validation.reporting.records import finite
from validation.reporting.results import SlopeRecord
from validation.rope.catalogue import find_fault
from validation.rope.swapping import swapped_code

THREADS = 1

_CHUNK = 1024
"""Positions whose logits are compared at a time."""


def measure_situation(situation: Situation, setting: Setting) -> AlarmRecord:
    """Everything that is compared in one situation.

    Raises:
        SubjectRefused: the tree cannot load the checkpoint.
    """
    start = time.perf_counter()
    fix_arithmetic(THREADS, situation.seed)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Path(scratch) / "llama"
        save_random_llama(situation.llama, situation.seed, checkpoint)
        sha256 = files_sha256(checkpoint, checkpoint.glob("*"))
        bench, expected, itself = _set_up(situation, setting, checkpoint)
        comparisons = tuple(_compare(situation, setting, bench, expected, itself))
    return AlarmRecord(
        llama=situation.llama.name,
        seed=situation.seed,
        dtype=situation.dtype,
        context=situation.context,
        floors={name: floor.rms for name, floor in itself.floors.items()},
        comparisons=comparisons,
        seconds=time.perf_counter() - start,
        provenance=_provenance(setting, setting.key(situation), sha256),
    )


def _set_up(
    situation: Situation, setting: Setting, checkpoint: Path
) -> tuple[Bench, Stream, ReferenceMetrics]:
    """Both models, the reference's logits, and what the reference says of itself."""
    fields = {
        "checkpoint": checkpoint,
        "dtype": situation.dtype,
        "attention": EAGER,
        "device": "cpu",
        "forwards": (),
        "chunk": _CHUNK,
        "threads": THREADS,
        "seed": situation.seed,
        "scratch": checkpoint.parent,
    }
    own = {"tree": setting.tree.path, "loads_itself": True, "is_stock": False, "n_ctx": None}
    job = SubjectJob.model_validate(fields | own)
    theta = situation.llama.rope.theta
    reference_job = ReferenceJob.model_validate({**fields, "rope_theta": theta})
    vocab = situation.llama.shape.vocab
    generator = torch.Generator().manual_seed(situation.seed)
    tokens = torch.randint(vocab, (1, situation.context), generator=generator)

    reference = load_reference(checkpoint, getattr(torch, situation.dtype), "cpu")
    eager = final_hidden(reference, tokens, EAGER, lambda *_: None)
    n_tokens = situation.context
    forward = Forward(context=n_tokens, prefill=n_tokens, eager_prefill=n_tokens)
    itself = measure_floors(
        reference, eager, tokens, forward, reference_job, lambda _: None, Stopwatch("cpu")
    )
    expected = Stream(eager, linear(reference.lm_head.weight))
    return Bench(job, reference, load_subject(job), tokens), expected, itself


def _compare(
    situation: Situation,
    setting: Setting,
    bench: Bench,
    expected: Stream,
    itself: ReferenceMetrics,
) -> Iterator[ComparisonRecord]:
    for kind in kinds_at(situation.context):
        metrics = stream_metrics(expected, run_clean(kind, bench), _CHUNK)
        yield _record(kind.name, metrics, itself, is_clean=kind.is_reordering(situation.dtype))
    for name in SMALL_FAULTS if setting.has_faults else ():
        with swapped_code(find_fault(name), setting.tree.path):
            # In chunks: where one forward is possible any difference is a finding.
            stream = run_chunks(load_subject(bench.job), bench)
        metrics = stream_metrics(expected, stream, _CHUNK)
        yield _record(name, metrics, itself, is_fault=True)


def _record(
    kind: str,
    metrics: PositionMetrics,
    itself: ReferenceMetrics,
    *,
    is_clean: bool = False,
    is_fault: bool = False,
) -> ComparisonRecord:
    judgement = judge(metrics, itself)
    is_identical = judgement.verdict is Verdict.IDENTICAL
    rules = {} if is_identical else alternative_floors(itself)
    slope = judgement.slope
    return ComparisonRecord(
        kind=kind,
        is_clean=is_clean,
        is_fault=is_fault,
        logits_differing=int(metrics.differing.sum()),
        reason=judgement.reason,
        judged=_rule_record(judgement),
        rules={rule: _rule_record(judge(metrics, floor)) for rule, floor in rules.items()},
        ratios=None if is_identical else tuple(finite(bin_.ratio) for bin_ in judgement.bins),
        intervals=None if is_identical else tuple(bin_.ratio_interval for bin_ in judgement.bins),
        slope=SlopeRecord(**asdict(slope)) if slope else None,
        power_ratio=finite(judgement.power_ratio),
        top1_counted=judgement.top1_counted,
    )


def _rule_record(judgement: Judgement) -> RuleRecord:
    worst = max(np.inf if bin_.ratio is None else bin_.ratio for bin_ in judgement.bins)
    return RuleRecord(
        verdict=judgement.verdict.name,
        parity_ratio=finite(judgement.parity_ratio),
        worst_ratio=finite(worst),
    )


def _provenance(setting: Setting, key: str, checkpoint_sha256: str) -> AlarmProvenance:
    surroundings = setting.surroundings
    return AlarmProvenance(
        key=key,
        **surroundings.recorded(),
        tree_sha256=setting.tree.sha256,
        series_sha256=setting.tree.series_sha256,
        sdist_sha256=setting.base.sdist_sha256,
        checkpoint_sha256=checkpoint_sha256,
    )
