"""What the report says, in no format yet."""

from collections.abc import Iterable
from dataclasses import dataclass

from validation.judgement.thresholds import FLIP_FACTOR, MAX_RATIO, MAX_SLOPE, THRESHOLDS
from validation.judgement.verdict import Verdict
from validation.models.trees import STOCK
from validation.reporting.results import Result
from validation.reporting.stage_tables import StageSection, compose_stages
from validation.reporting.staged import StageResult
from validation.reporting.tables import (
    Table,
    case_name,
    differing_names,
    flatten,
    shorten,
    tabulate_bins,
    tabulate_cases,
    tabulate_provenance,
    tabulate_times,
    varying_scope,
)
from validation.reporting.wording import count, is_failure, tokens

STAND_IN = (
    "The checkpoint smollm2 is a stand-in: SmolLM2-135M's trained weights with Llama 3.1's RoPE "
    "scaling, with which it was not trained. It is not Llama 3.1."
)

CAPTION = (
    "Mean absolute error of the logits over position, log axes, at each subject's largest context. "
    "The dashed line is the floor: how far the reference moves when only the order of its sums "
    "changes. A subject at the floor runs along it; an error of the position encoding climbs away "
    "from it; zero, for which a log axis has no place, is drawn at the foot."
)


@dataclass(frozen=True)
class Entry:
    """A term and what is said of it."""

    term: str
    text: str


@dataclass(frozen=True)
class CaseDetail:
    """One case by position.

    Attributes:
        name: the case.
        verdict: the name of its verdict.
        is_failure: whether the verdict is a failure.
        reason: what decided it.
        table: errors by position, None if there are none.
    """

    name: str
    verdict: str
    is_failure: bool
    reason: str
    table: Table | None


@dataclass(frozen=True)
class Report:
    """The parts of a report, in order.

    Attributes:
        title: what was compared.
        headlines: the outcome, one sentence a subject; the judged ones first.
        stand_in: what the checkpoint is not, if it is a stand-in.
        cases: the main table, None if there are no cases.
        legend: every verdict and its message.
        stages: where a subject first differs, None if that was not probed.
        times: where the time went, None if no result says.
        caption: how to read the plot.
        details: the cases by position.
        notes: how the subjects were loaded.
        guide: how to read the figures.
        thresholds: every number that a verdict rests on, with its reason.
        common: provenance that all results share, None if there are no cases.
        differing: provenance that differs from case to case, None if there is none.
    """

    title: str
    headlines: tuple[str, ...]
    stand_in: str | None
    cases: Table | None
    legend: tuple[Entry, ...]
    stages: StageSection | None
    times: Table | None
    caption: str
    details: tuple[CaseDetail, ...]
    notes: tuple[Entry, ...]
    guide: tuple[Entry, ...]
    thresholds: tuple[Entry, ...]
    common: Table | None
    differing: Table | None


def compose(results: list[Result], staged: list[StageResult] | None = None) -> Report:
    """Says everything about `results`, which are `arrange`d, and about the staged proofs."""
    common, differing = tabulate_provenance(results) if results else (None, None)
    is_stand_in = any(result.checkpoint.startswith("smollm2") for result in results)
    return Report(
        title=_title(results),
        headlines=_headlines(results),
        stand_in=STAND_IN if is_stand_in else None,
        cases=tabulate_cases(results) if results else None,
        legend=tuple(Entry(verdict.name, verdict.value) for verdict in Verdict),
        stages=compose_stages(staged or []),
        times=tabulate_times(results),
        caption=CAPTION,
        details=tuple(_details(results)),
        notes=_notes(results),
        guide=_guide(results),
        thresholds=tuple(Entry(f"{t.name} {t.value:g}", t.reason) for t in THRESHOLDS),
        common=common,
        differing=differing,
    )


def arrange(results: Iterable[Result]) -> list[Result]:
    """The results by checkpoint, base, attention, device, dtype, context and subject.

    Names come as first seen.

    Where several look like the same case, such as a fork's before and after an edit, the subject's
    name gets what tells them apart.
    """
    results = list(results)
    subjects: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        key = (*_names(result)[:-2], result.subject)
        subjects.setdefault(key, []).append(result)
    told = {r.provenance.case_key: r for group in subjects.values() for r in _told_apart(group)}
    results = [told[result.provenance.case_key] for result in results]
    seen = [dict.fromkeys(names) for names in zip(*map(_names, results), strict=True)]
    ranks = [{name: rank for rank, name in enumerate(names)} for names in seen]

    def order(result: Result) -> tuple[int, ...]:
        *outer, subject = (rank[name] for rank, name in zip(ranks, _names(result), strict=True))
        return (*outer, result.context, subject)

    return sorted(results, key=order)


def _names(result: Result) -> tuple[str, ...]:
    scope = result.checkpoint, result.base, result.attention, result.device
    return (*scope, result.dtype, result.subject)


def _told_apart(results: list[Result]) -> list[Result]:
    """The results of one subject, renamed if cases of it look alike."""
    alike: dict[tuple[str, int], list[dict[str, str]]] = {}
    for result in results:
        alike.setdefault((result.dtype, result.context), []).append(flatten(result.provenance))
    if all(len(fields) == 1 for fields in alike.values()):
        return results
    # These are no part of the case key: they cannot be what tells two cases apart.
    ignored = ("measured_at", "git_commit", "git_dirty")
    differing = (name for fields in alike.values() for name in differing_names(fields))
    names = [name for name in dict.fromkeys(differing) if name not in ignored]
    return [
        result.model_copy(update={"subject": f"{result.subject} ({_mark(result, names)})"})
        for result in results
    ]


def _mark(result: Result, names: list[str]) -> str:
    fields = {name: shorten(flatten(result.provenance).get(name), 8) for name in names}
    if not fields:
        return f"case {result.provenance.case_key[:8]}"
    return ", ".join(f"{name.removesuffix('_sha256')} {value}" for name, value in fields.items())


def _title(results: list[Result]) -> str:
    if not results:
        return "TransformerLens against transformers"
    bases = _listed(f"TransformerLens {result.base.removeprefix('v')}" for result in results)
    checkpoints = _listed(result.checkpoint for result in results)
    devices = _listed(result.device for result in results)
    return f"{bases} against transformers: {checkpoints} on {devices}"


def _listed(words: Iterable[str]) -> str:
    *most, last = dict.fromkeys(words)
    return f"{', '.join(most)} and {last}" if most else last


def _headlines(results: list[Result]) -> tuple[str, ...]:
    if not results:
        return ("No case has finished.",)
    # The released code is there for comparison.
    subjects = sorted(dict.fromkeys(r.subject for r in results), key=lambda name: name == STOCK)
    scope = varying_scope(results)
    return tuple(_headline([r for r in results if r.subject == name], scope) for name in subjects)


def _headline(results: list[Result], scope: tuple[str, ...]) -> str:
    """The outcome of one subject: the whole if it is identical, else its weakest case."""
    order = list(Verdict)
    weakest = max(results, key=lambda r: (order.index(r.outcome), r.parity_ratio or 0.0, r.context))
    subject = weakest.subject
    if weakest.outcome is Verdict.IDENTICAL:
        total = count(sum(result.logits_total or 0 for result in results))
        cases = [_listed(r.dtype for r in results), _listed(tokens(r.context) for r in results)]
        cases += [_listed(getattr(result, name) for result in results) for name in scope]
        several = f"{len(results)} cases: " if len(results) > 1 else ""
        return f"{subject}: not one of {total} logits differs ({several}{', '.join(cases)})."
    where = case_name(weakest, scope).removeprefix(f"{subject}, ")
    sentence = weakest.reason.rstrip(".")
    if len(results) == 1:
        return f"{subject}: {weakest.verdict} ({where}), {sentence}."
    passed = sum(not is_failure(result) for result in results)
    return (
        f"{subject}: {passed} of {len(results)} cases are {Verdict.AT_FLOOR.name} or better; the "
        f"weakest is {weakest.verdict} ({where}), {sentence}."
    )


def _details(results: list[Result]) -> Iterable[CaseDetail]:
    scope = varying_scope(results)
    for result in results:
        name = case_name(result, scope)
        yield CaseDetail(
            name=name,
            verdict=result.verdict,
            is_failure=is_failure(result),
            reason=result.reason,
            table=tabulate_bins(result, name),
        )


def _notes(results: list[Result]) -> tuple[Entry, ...]:
    notes: dict[str, dict[str, None]] = {}
    for result in results:
        who = notes.setdefault(f"{result.subject}, {result.dtype}", {})
        who.update(dict.fromkeys(result.notes))
    return tuple(Entry(who, "; ".join(said)) for who, said in notes.items() if said)


def _guide(results: list[Result]) -> tuple[Entry, ...]:
    attention = _listed(r.provenance.reference_attention for r in results) if results else "its own"
    floor = f" ({_listed(r.provenance.floor for r in results)})" if results else ""
    return (
        Entry(
            "Reference",
            f"transformers with {attention} attention, on the same weights, tokens and device and "
            "at the same dtype as the subject. Errors are differences of logits from it.",
        ),
        Entry(
            Verdict.IDENTICAL.name,
            "counted, not measured: no logit has another value than the reference's, at any "
            "position. No tolerance is involved.",
        ),
        Entry(
            Verdict.AT_FLOOR.name,
            "relative, where identity cannot be had: floating point sums depend on their order, so "
            "the reference differs from itself when its sums are reordered. That difference, "
            f"measured in the same run{floor}, is the floor.",
        ),
        Entry(
            "x floor",
            "the subject's RMS error over the floor's, over all positions. In every range of "
            f"positions it may be at most {MAX_RATIO:g}.",
        ),
        Entry(
            "slope",
            "x floor grows as position to this power; in brackets the 95 % confidence interval. "
            "Reordered sums have slope 0, an error linear in position has 1. The interval's lower "
            f"end may be at most {MAX_SLOPE:g}.",
        ),
        Entry(
            "plain RoPE",
            "how many times the floor the reference itself moves if its RoPE is not scaled, in the "
            f"range where that is most. Where it is at most {MAX_RATIO:g}, a subject at the floor "
            f"proves nothing: {Verdict.BLIND.name}.",
        ),
        Entry("KL", "divergence of the subject's next-token distribution, in nats, mean."),
        Entry(
            "top-1 agreement",
            "positions at which both hold the same token for the most likely. A disagreement "
            "counts against the subject only where the reference's two most likely tokens are "
            f"more than {FLIP_FACTOR:g} times the floor's largest error apart.",
        ),
        Entry(
            "at a time",
            "tokens that go through a model in one forward; fewer than all go through its cache of "
            "keys and values in turn, the same number on both sides.",
        ),
        Entry("time", "of the forward, without loading and without the comparison."),
        Entry(
            "where the time went",
            "loading is once for all contexts of a process, and counts in neither share. Forwards "
            "end with the last norm; both models' unembeddings, which belong to them, are run "
            "where logits are compared. The floor is the reference's other forwards. What remains "
            "beside all forwards compares logits and writes files; the floor's share comes on top "
            "of it beside the two forwards.",
        ),
        Entry("peak memory", "of the process: weights, forward and comparison of the logits."),
    )
