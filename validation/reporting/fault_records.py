"""What became of every fault, and the smallest errors that are noticed, as lines of JSON."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from transformer_lens_fork.atomic import building_folder
from validation.execution.fault_run import (
    SOUND,
    Measured,
    is_accident,
    is_visible_in_stages,
    present_needs,
)
from validation.judgement.kills import Outcome, is_noticed, judge_fault
from validation.judgement.sensitivity import find_threshold
from validation.judgement.verdict import Verdict
from validation.reporting.records import Amount, Count, Record
from validation.reporting.results import Result
from validation.rope.faults import Fault, Need
from validation.rope.perturbations import Quantity

FAULTS = "faults.jsonl"
EFFECTS = "mde.jsonl"

Criterion = Literal["beyond the floor", "differs at all", "differs at a stage"]


class FaultRecord(Record):
    """One fault at one dtype and context.

    Attributes:
        is_visible: whether the case has what the fault needs in order to show.
        verdict: of the tree that has the fault; None if it was not run.
        reason: why that verdict, or why the fault was not run.
        outcome: name of an `Outcome`: what the logits alone say.
        is_visible_in_stages: whether the probes of the stages have what the fault needs.
        first_stage: the first stage at which the tree leaves the reference and the sound fork does
            not; None if there is none.
        case_key: of the case in results.jsonl.
    """

    fault: str
    family: str
    mistake: str
    equivalent: str | None
    dtype: str
    context: Annotated[int, Field(ge=1)]
    is_visible: bool
    is_visible_in_stages: bool
    verdict: str | None
    reason: str
    outcome: str
    parity_ratio: Amount | None = None
    logits_differing: Count | None = None
    logits_total: Count | None = None
    max_abs: Amount | None = None
    first_stage: str | None = None
    case_key: str | None = None

    @model_validator(mode="after")
    def _has_known_names(self) -> Self:
        if self.outcome not in Outcome.__members__:
            raise ValueError(f"outcome is {self.outcome!r}; accepted are {[*Outcome.__members__]}")
        return self

    @property
    def result(self) -> Outcome:
        """The outcome as the enum."""
        return Outcome[self.outcome]

    @property
    def is_caught(self) -> bool:
        """Whether the logits or a stage noticed the fault."""
        return self.result.is_caught or self.first_stage is not None


class EffectRecord(Record):
    """The smallest relative error that is noticed, at one dtype and context.

    Attributes:
        quantity: what is wrong: `factor`, or every `angle`.
        criterion: noticed by a failing verdict, because any logit differs, or at a stage.
        context: tokens; None for the stages, which see all positions whatever the context.
        caught: the smallest size that was noticed together with all larger ones.
        missed: the largest size that was not.
    """

    quantity: str
    criterion: Criterion
    dtype: str
    context: Annotated[int, Field(ge=1)] | None
    caught: Amount | None
    missed: Amount | None
    tried: Count


def record_faults(faults: Iterable[Fault], measured: Measured) -> list[FaultRecord]:
    """One record for each fault and each case of the sound fork, in the catalogue's order.

    Args:
        faults: those that were asked for, run or not.
        measured: what the run gave.
    """
    records = []
    for fault in faults:
        found = {_case(result): result for result in measured.faulty.get(fault.name, ())}
        for sound in measured.sound:
            stage = measured.first_stages[fault.name, sound.dtype]
            if stage == measured.first_stages[SOUND, sound.dtype]:
                stage = None  # not the fault's doing
            result = found.get(_case(sound))
            records.append(_record(fault, sound, result, stage, measured.met))
    return records


def record_effects(measured: Measured) -> list[EffectRecord]:
    """One record for each quantity, criterion and case of the sound fork, or dtype for stages."""
    criteria: tuple[Criterion, ...] = ("beyond the floor", "differs at all")
    dtypes = dict.fromkeys(result.dtype for result in measured.sound)
    records = []
    for quantity in Quantity:
        if any(which is quantity for which, _ in measured.perturbed):
            records += [
                _effect(quantity, c, sound, measured) for c in criteria for sound in measured.sound
            ]
            records += [_stage_effect(quantity, dtype, measured) for dtype in dtypes]
    return records


def _case(result: Result) -> tuple[str, int]:
    return result.dtype, result.context


def _record(
    fault: Fault,
    sound: Result,
    result: Result | None,
    first_stage: str | None,
    met: frozenset[Need],
) -> FaultRecord:
    is_chunked = sound.prefill < sound.context
    present = present_needs(sound.dtype, sound.attention, met, is_chunked=is_chunked)
    is_visible = fault.is_visible(sound.context, present)
    outcome = judge_fault(
        fault,
        result.outcome if result else None,
        sound.outcome,
        is_visible=is_visible,
        is_accident=result is not None and is_accident(result),
    )
    figures = {} if result is None else _figures(result)
    return FaultRecord.model_validate(
        {
            "fault": fault.name,
            "family": fault.family,
            "mistake": fault.mistake,
            "equivalent": fault.equivalent,
            "dtype": sound.dtype,
            "context": sound.context,
            "is_visible": is_visible,
            "is_visible_in_stages": is_visible_in_stages(fault, sound.dtype, sound.attention, met),
            "first_stage": first_stage,
            "verdict": result.verdict if result else None,
            "reason": result.reason if result else why_hidden(fault),
            "outcome": outcome.name,
            **figures,
        }
    )


def _figures(result: Result) -> dict[str, object]:
    return {
        "parity_ratio": result.parity_ratio,
        "logits_differing": result.logits_differing,
        "logits_total": result.logits_total,
        "max_abs": result.max_abs,
        "case_key": result.provenance.case_key,
    }


def why_hidden(fault: Fault) -> str:
    """What a fault needs in order to show."""
    needs = [need.value for need in sorted(fault.needs, key=lambda need: need.name)]
    if fault.hidden_up_to:
        needs.append(f"more than {fault.hidden_up_to} tokens")
    return f"needs {' and '.join(needs)}" if needs else "needs nothing"


def _effect(
    quantity: Quantity, criterion: Criterion, sound: Result, measured: Measured
) -> EffectRecord:
    is_strict = criterion == "beyond the floor"
    weakest = Verdict.AT_FLOOR if is_strict else Verdict.IDENTICAL
    tried = {
        size: is_noticed(result.outcome) if is_strict else not result.outcome.meets(weakest)
        for (which, size), results in measured.perturbed.items()
        if which is quantity
        for result in results
        if _case(result) == _case(sound) and not is_accident(result)
    }
    # Where the sound fork itself differs, that a perturbed one does says nothing.
    is_telling = sound.outcome.meets(weakest)
    found = find_threshold(tried if is_telling else {})
    return EffectRecord(
        quantity=quantity.value,
        criterion=criterion,
        dtype=sound.dtype,
        context=sound.context,
        caught=found.caught,
        missed=found.missed,
        tried=len(tried),
    )


def _stage_effect(quantity: Quantity, dtype: str, measured: Measured) -> EffectRecord:
    tried = {
        size: stage is not None
        for ((which, size), found), stage in measured.perturbed_stages.items()
        if which is quantity and found == dtype
    }
    # A fork that leaves the reference by itself hides what a perturbation does.
    found = find_threshold({} if measured.first_stages[SOUND, dtype] else tried)
    return EffectRecord(
        quantity=quantity.value,
        criterion="differs at a stage",
        dtype=dtype,
        context=None,
        caught=found.caught,
        missed=found.missed,
        tried=len(tried),
    )


def write_records(folder: Path, name: str, records: Iterable[BaseModel]) -> None:
    """Writes one JSON line a record, the file whole or not at all."""
    with building_folder(folder) as scratch:
        text = "".join(f"{record.model_dump_json()}\n" for record in records)
        (scratch / name).write_text(text, encoding="utf-8")
        (scratch / name).replace(folder / name)
