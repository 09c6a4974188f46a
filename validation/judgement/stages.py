"""At which stage a subject first leaves the reference: compares what the probes of both wrote.

No tolerance up to the rotated queries and keys: these stages are exact where exact is possible.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import torch
from jaxtyping import Float
from torch import Tensor

from validation.execution.probe_files import (
    LAYER_FLOOR,
    PADDED,
    PARAMETER_SETS,
    ROPE,
    ROTATION,
    WHOLE,
    ProbeFiles,
    hidden_name,
    initial_name,
    padding,
    prompt_parts,
    trouble_name,
)
from validation.judgement.bins import Bin, bin_errors
from validation.judgement.metrics import Errors, PositionMetrics
from validation.judgement.tally import Place, Tally
from validation.judgement.thresholds import MAX_RATIO
from validation.judgement.verdict import Verdict
from validation.rope.oracles import Oracle, slices

MAX_LAYER_RATIO = 4.0
"""Of a layer's RMS error over its floor's, where the floor is enough. Twice what logits may have:
the floor reorders the sums of attention alone, while another norm rounds in two places of a layer.
An honest tree (v2.8.0's fork, SmolLM2, fp32) has 2.1 in its worst layer, a wrong table (the double
reciprocal of stock 3.9.0) above 20."""


class Stage(Enum):
    """A stage of the proof, in the order of the computation; the value is the message."""

    INV_FREQ = "inverse frequencies"
    ANGLES = "angles"
    TABLES = "cosines and sines"
    ROTATED_QK = "rotated queries and keys"
    LAYER = "one layer on identical input"
    LOGITS = "logits"

    @property
    def unit(self) -> str:
        """Of the largest error."""
        return {Stage.INV_FREQ: "relative", Stage.ANGLES: "rad"}.get(self, "absolute")

    @property
    def is_exact(self) -> bool:
        """Whether only identity passes: no matrix product touches it."""
        return self not in (Stage.LAYER, Stage.LOGITS)


@dataclass(frozen=True)
class Distance:
    """How far both sides are from an oracle: informs, never decides.

    Attributes:
        oracle: its name.
        reference_differing: numbers of the reference that are not the oracle's.
        reference_largest: the largest difference, in the stage's unit.
        subject_differing: numbers of the subject that are not the oracle's.
        subject_largest: the largest difference.
    """

    oracle: str
    reference_differing: int
    reference_largest: float
    subject_differing: int
    subject_largest: float


@dataclass(frozen=True)
class StageRecord:
    """The subject against the reference at one stage.

    Attributes:
        stage: which.
        compared: numbers compared; 0 if the subject's could not be observed.
        differing: numbers whose bits differ, or that the subject does not have.
        first: where the first one is.
        largest: largest error in the stage's unit; Inf for what is missing or not finite.
        largest_at: where it is.
        floor_ratio: error over the floor's, of the worst layer; None for exact stages, or if only
            the floor is zero.
        distances: from the oracles, for the stages they compute.
        trouble: what the subject raised.
    """

    stage: Stage
    compared: int
    differing: int
    first: Place | None
    largest: float
    largest_at: Place | None
    floor_ratio: float | None = None
    distances: tuple[Distance, ...] = ()
    trouble: str = ""

    @property
    def is_identical(self) -> bool:
        """Whether something was compared and nothing differs."""
        return self.compared > 0 and self.differing == 0

    def meets(self, required: Verdict) -> bool:
        """Whether this is identical, or at the floor where that is enough."""
        if self.stage.is_exact or required is Verdict.IDENTICAL:
            return self.is_identical
        limit = MAX_LAYER_RATIO if self.stage is Stage.LAYER else MAX_RATIO
        at_floor = self.floor_ratio is not None and self.floor_ratio <= limit
        return self.is_identical or (self.compared > 0 and at_floor)


def compare_stages(
    reference: ProbeFiles,
    subject: ProbeFiles,
    oracles: list[Oracle],
    logits: PositionMetrics,
    floor: Errors,
) -> list[StageRecord]:
    """Every stage, in order.

    Args:
        reference: what `transformers` computed.
        subject: what the tree computed, on the same inputs.
        oracles: that inform.
        logits: the subject's, on the prompt of the probes.
        floor: the reference's, reordered, on the same.
    """
    return [
        _inv_freq(reference, subject, oracles),
        _angles(reference, subject, oracles),
        _tables(reference, subject, oracles),
        _rotation(reference, subject),
        _layers(reference, subject),
        compare_logits(logits, floor),
    ]


def first_departure(records: list[StageRecord]) -> str:
    """Where the subject first leaves the reference, by how much, as one sentence."""
    for record in records:
        if not record.is_identical:
            return _sentence(record)
    compared = sum(record.compared for record in records)
    return f"identical to transformers at every stage: 0 of {compared:,} numbers differ"


def _sentence(record: StageRecord) -> str:
    name = f"{record.stage.name} ({record.stage.value})"
    if not record.compared:
        return f"could not be observed at {name}: {record.trouble or 'nothing was computed'}"
    unit = {"relative": " (relative)", "rad": " rad", "absolute": ""}[record.stage.unit]
    largest = f"{record.largest:.2e}{unit}" if record.largest < float("inf") else "numbers missing"
    return (
        f"first leaves transformers at {name}: {record.differing:,} of {record.compared:,} numbers "
        f"differ, first at {record.first}; the largest error is {largest}, at {record.largest_at}"
    )


def _inv_freq(reference: ProbeFiles, subject: ProbeFiles, oracles: list[Oracle]) -> StageRecord:
    wanted = reference.rows(ROPE, "inv_freq")
    tally = Tally(len(wanted), is_relative=True)
    observed = {}
    for key in _angle_keys(subject):
        angles = subject.rows_if_any(ROPE, key, range(1, 2))
        if len(angles):
            observed[key] = angles
            tally.add(angles, wanted[None], start=1, what=_WHAT[key])
    found = observed.get("angles")

    def distance(oracle: Oracle) -> Distance:
        exact = oracle.inv_freq()[None]
        sides = [Tally(len(wanted), is_relative=True) for _ in range(2)]
        sides[0].add(wanted[None], exact)
        if found is not None:
            sides[1].add(found, exact)
        return _distance(oracle, *sides)

    return _record(Stage.INV_FREQ, tally, subject, ROPE, tuple(map(distance, oracles)))


def _angles(reference: ProbeFiles, subject: ProbeFiles, oracles: list[Oracle]) -> StageRecord:
    positions, pairs = reference.shapes(ROPE)["angles"]
    tally = Tally(pairs)
    sides = {oracle: (Tally(pairs), Tally(pairs)) for oracle in oracles}
    keys = _angle_keys(subject)
    for span in slices(positions):
        wanted = reference.rows(ROPE, "angles", span)
        found = {key: subject.rows_if_any(ROPE, key, span) for key in keys}
        for key in keys:
            tally.add(found[key], wanted, start=span.start, what=_WHAT[key])
        for oracle, (ours, theirs) in sides.items():
            exact = oracle.angles(span)
            ours.add(wanted, exact)
            if keys:
                theirs.add(found["angles"], exact)
    distances = tuple(_distance(oracle, *both) for oracle, both in sides.items())
    return _record(Stage.ANGLES, tally, subject, ROPE, distances)


_WHAT = {"angles": "", "angles_of_sin": "of the sine"}


def _angle_keys(subject: ProbeFiles) -> list[str]:
    return [key for key in _WHAT if key in subject.shapes(ROPE)]


def _tables(reference: ProbeFiles, subject: ProbeFiles, oracles: list[Oracle]) -> StageRecord:
    positions, head_dim = reference.shapes(ROPE)["cos"]
    half = head_dim // 2
    tally = Tally(half)
    sides = {oracle: (Tally(half), Tally(half)) for oracle in oracles}
    for span in slices(positions):
        wanted = {key: reference.rows(ROPE, key, span) for key in ("cos", "sin")}
        found = {key: subject.rows_if_any(ROPE, key, span) for key in wanted}
        for key, table in wanted.items():
            tally.add(found[key], table, start=span.start, what=key)
        for oracle, (ours, theirs) in sides.items():
            exact = dict(zip(wanted, oracle.tables(span, wanted["cos"].dtype), strict=True))
            for key, table in exact.items():
                ours.add(wanted[key], table)
                theirs.add(found[key], table)
    for layer in range(_n_layers(reference)):
        for key, shape in subject.shapes(initial_name(layer)).items():
            own = subject.rows_if_any(initial_name(layer), key, range(shape[0]))
            table = reference.rows(ROPE, key, range(shape[0]))
            tally.add(own, table, layer=layer, what=f"{key}, as first built")
    for key, shape in reference.shapes(PARAMETER_SETS).items():
        rows = range(shape[0])
        name, _, function = key.partition("/")
        tally.add(
            subject.rows_if_any(PARAMETER_SETS, key, rows),
            reference.rows(PARAMETER_SETS, key, rows),
            what=f"{function} at {name} parameters",
        )
    distances = tuple(_distance(oracle, *both) for oracle, both in sides.items())
    return _record(Stage.TABLES, tally, subject, ROPE, distances)


def _rotation(reference: ProbeFiles, subject: ProbeFiles) -> StageRecord:
    positions, head_dim = reference.shapes(ROTATION)["q"]
    tally = Tally(head_dim // 2)
    for span in slices(positions):
        for name in ("q", "k"):
            wanted = reference.rows(ROTATION, f"rotated_{name}", span)
            for key, what in ((f"rotated_{name}", name), (f"chunked_{name}", f"{name}, in chunks")):
                found = subject.rows_if_any(ROTATION, key, span)
                tally.add(found, wanted, start=span.start, what=what)
    return _record(Stage.ROTATED_QK, tally, subject, ROTATION)


def _layers(reference: ProbeFiles, subject: ProbeFiles) -> StageRecord:
    tokens, _ = reference.shapes(hidden_name(WHOLE, 0))["hidden"]
    floor = reference.rows(LAYER_FLOOR, "mean_square")
    total = Tally(None)
    ratios: list[float | None] = []
    trouble = []
    parts = list(_layer_parts(tokens, _padded_tokens(reference)))
    for layer in range(len(floor)):
        for part in parts:
            span = range(part.row, part.row + len(part.slots))
            wanted = reference.rows(hidden_name(part.name, layer + 1), "hidden", span)
            found = subject.rows_if_any(hidden_name(part.name, layer), "hidden", span)
            own = Tally(None)
            own.add(found, wanted, start=part.slots.start, layer=layer, what=part.what)
            total.merge(own)
            ratios.append(_ratio(own.rms, _rms(floor[layer, part.slots.start : part.slots.stop])))
        trouble.append(subject.note(trouble_name(layer), "trouble") or "")
    worst = None if None in ratios else max(ratio for ratio in ratios if ratio is not None)
    return StageRecord(
        stage=Stage.LAYER,
        floor_ratio=worst,
        trouble="; ".join(filter(None, trouble)),
        **total.figures(),
    )


@dataclass(frozen=True)
class _Part:
    """Tokens that go through a layer: the file's rows from `row` on, at `slots` of a forward."""

    name: str
    what: str
    row: int
    slots: range


def _layer_parts(tokens: int, padded: int) -> Iterator[_Part]:
    """The prompt whole and in chunks, and the rows of a padded batch without their pads."""
    for name, span in prompt_parts(tokens).items():
        yield _Part(name, "" if name == WHOLE else name.replace("-", " "), 0, span)
    for number, pads in enumerate(padding(padded)):
        what = f"row {number} of a batch, padded by {pads} on the left"
        yield _Part(PADDED, what, number * padded + pads, range(pads, padded))


def _padded_tokens(reference: ProbeFiles) -> int:
    rows, _ = reference.shapes(hidden_name(PADDED, 0))["hidden"]
    return rows // 2


def compare_logits(logits: PositionMetrics, floor: Errors) -> StageRecord:
    """The last stage, from what is measured position by position anyway."""
    differing = torch.from_numpy(logits.differing)
    errors = torch.from_numpy(logits.abs_max)
    first = differing.nonzero()
    largest = float(errors.max()) if bool(errors.isfinite().all()) else float("inf")
    return StageRecord(
        stage=Stage.LOGITS,
        compared=logits.positions * logits.vocab,
        differing=int(differing.sum()),
        first=Place(position=int(first[0])) if len(first) else None,
        largest=largest,
        largest_at=Place(position=int(errors.argmax())) if len(first) else None,
        floor_ratio=worst_ratio(bin_errors(logits, floor)[0]),
    )


def worst_ratio(bins: list[Bin]) -> float | None:
    """Of the bins' ratios the largest, None if one is not defined or not finite."""
    ratios = [bin_.ratio for bin_ in bins]
    if any(ratio is None or not ratio < float("inf") for ratio in ratios):
        return None
    return max(ratio for ratio in ratios if ratio is not None)


def _rms(mean_square: Float[Tensor, "pos"]) -> float:
    return float(mean_square.mean().sqrt())


def _ratio(rms: float, floor: float) -> float | None:
    if rms == 0:
        return 0.0
    return rms / floor if floor > 0 and rms < float("inf") else None


def _record(
    stage: Stage,
    tally: Tally,
    subject: ProbeFiles,
    name: str,
    distances: tuple[Distance, ...] = (),
) -> StageRecord:
    trouble = subject.note(name, "trouble") or ""
    return StageRecord(stage=stage, distances=distances, trouble=trouble, **tally.figures())


def _distance(oracle: Oracle, ours: Tally, theirs: Tally) -> Distance:
    return Distance(oracle.name, ours.differing, ours.largest, theirs.differing, theirs.largest)


def _n_layers(reference: ProbeFiles) -> int:
    return reference.shapes(LAYER_FLOOR)["mean_square"][0]
