"""One plain sentence a release: what somebody who uses it for Llama 3.1 should know."""

from collections.abc import Iterator

from validation.audit.frequencies import LLAMA_31_8B
from validation.audit.records import AuditRecord, ContextRecord, Ending, FrequencyRecord
from validation.judgement.verdict import Verdict
from validation.reporting.wording import tokens

_ENDINGS = {
    Ending.DIED.name: "its process died",
    Ending.REFUSED.name: "it could not run the checkpoint",
    Ending.NOT_INSTALLED.name: "it cannot be installed here",
}


def sentence(record: AuditRecord) -> str:
    """`2.9.0: wrong from token 1; 13 of 64 frequencies wrong; ...`."""
    return f"{record.name}: {'; '.join(_clauses(record))}."


def first_wrong(record: AuditRecord) -> int | None:
    """The first position that is wrong in any context, None if none is."""
    return min((c.first_wrong for c in record.contexts if c.first_wrong is not None), default=None)


def _clauses(record: AuditRecord) -> Iterator[str]:
    if record.contexts:
        yield _judged(record)
    if llama_31 := record.frequencies.get(LLAMA_31_8B):
        yield _counted(llama_31)
    if record.contexts and (size := _size(record.contexts[-1])):
        yield size
    if record.ending in _ENDINGS:
        how = f" beyond {tokens(record.contexts[-1].context)} tokens" if record.contexts else ""
        yield f"{_ENDINGS[record.ending]}{how} ({record.reason.rstrip('.')})"


def _judged(record: AuditRecord) -> str:
    verdicts = [Verdict[context.verdict] for context in record.contexts]
    reach = f"up to {tokens(record.contexts[-1].context)} tokens"
    if all(verdict is Verdict.IDENTICAL for verdict in verdicts):
        return f"not one logit differs from transformers', {reach}"
    if (position := first_wrong(record)) is not None:
        return f"wrong from token {position:,}"
    if all(verdict.meets(Verdict.AT_FLOOR) for verdict in verdicts):
        return f"no further from transformers than transformers is from itself, {reach}"
    worst = max(verdicts, key=list(Verdict).index)
    return worst.value


def _counted(frequencies: FrequencyRecord) -> str:
    if frequencies.wrong:
        return f"{frequencies.wrong} of {frequencies.total} frequencies wrong"
    return f"all {frequencies.total} frequencies right"


def _size(context: ContextRecord) -> str | None:
    if not context.logits_differing or context.parity_ratio is None:
        return None
    grows = ", growing with the position" if context.verdict == Verdict.DRIFTS.name else ""
    ratio = (
        f"{context.parity_ratio:,.0f}"
        if context.parity_ratio >= 100
        else (f"{context.parity_ratio:.1f}")
    )
    return f"{ratio} times the floor's error at {tokens(context.context)} tokens{grows}"
