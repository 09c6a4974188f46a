"""What the study of position encodings says: every sentence and figure from its records."""

from collections.abc import Iterator, Sequence

from validation.reporting.tables import Column, Row, Table
from validation.reporting.wording import count, tokens
from validation.studies.encodings_pictures import picture_attention, picture_losses
from validation.studies.encodings_results import BASELINE, NAMES, SUBJECT, Measured, collect
from validation.studies.losses import compared, listed, listed_by_value, perplexity, signed, span
from validation.studies.page import Page
from validation.studies.records import StudyRecord
from validation.studies.texts import METHOD, say_agreement


def compose(records: list[StudyRecord]) -> Page:
    """The page.

    Args:
        records: of this study, of any contexts and seeds.

    Raises:
        InputError: plain RoPE, with which all is compared, was not read.
    """
    checks = [record for record in records if "compared_with" in record.unit]
    measured = collect(record for record in records if "seed" in record.unit)
    last = measured[-1]
    return Page(
        title="Position encodings beyond the trained length",
        question="What does a model that was trained with RoPE lose, and where, if its positions "
        "are encoded otherwise, without fine-tuning?",
        method=_method(last),
        findings=tuple(_findings(last, checks)),
        pictures=(picture_losses(last), picture_attention(last)),
        tables=(
            *(table for each in measured for table in _tabulate_losses(each)),
            _tabulate_attention(last),
            *([_tabulate_checks(checks)] if checks else []),
        ),
        limits=_limits(last),
    )


def _findings(last: Measured, checks: Sequence[StudyRecord]) -> Iterator[str]:
    if checks:
        yield _sentence_on_checks(checks)
    trained = last.trained
    if last.reaches_beyond:
        yield _sentence_on_order(last, trained, last.context)
        if SUBJECT in last.others:
            yield _sentence_on_subject(last, trained, last.context)
    else:
        yield (
            f"No context goes beyond the {tokens(trained)} tokens of training: linear "
            "interpolation, dynamic NTK, YaRN and LongRoPE have factor 1 here, which is plain RoPE."
        )
    if last.others:
        yield _sentence_on_cost(last, min(trained, last.context))
    yield _sentence_on_attention(last)
    yield _sentence_on_seeds(last)


def _sentence_on_checks(checks: Sequence[StudyRecord]) -> str:
    differing = sum(int(str(record.values["values_differing"])) for record in checks)
    total = sum(int(str(record.values["values"])) for record in checks)
    schemes = [NAMES[str(record.unit["scheme"])] for record in checks]
    layers = checks[0].provenance.layers
    wrong = [NAMES[str(r.unit["scheme"])] for r in checks if r.values["values_differing"]]
    where = f", under {listed(wrong)}" if wrong else ""
    return (
        f"Beside Hugging Face's own model under {listed(list(dict.fromkeys(schemes)))}, "
        f"{count(differing)} of the fork's {count(total)} values of the final hidden states "
        f"differ{where} ({layers} layer{'s' * (layers > 1)}, {checks[0].dtype})."
    )


def _sentence_on_order(last: Measured, start: int, stop: int) -> str:
    losses = {name: last.loss(name, start, stop) for name in last.readings}
    ordered = sorted(losses, key=lambda name: losses[name].value)
    said = ", ".join(
        f"{NAMES[name]} {losses[name]} (perplexity {perplexity(losses[name])})" for name in ordered
    )
    return f"At positions {span(start, stop)}, which no training text had, losses in nats: {said}."


def _sentence_on_subject(last: Measured, start: int, stop: int) -> str:
    against = [
        (f"{NAMES[other]}'s", compared(last.excess(SUBJECT, other, start, stop)))
        for other in last.readings
        if other != SUBJECT and last.common(SUBJECT, other)
    ]
    said = "; ".join(f"{words} beside {other}" for other, words in against)
    by_range = "; ".join(
        f"at {span(*where)} {compared(last.excess(SUBJECT, BASELINE, *where))}"
        for where in last.ranges
        if where[0] >= start
    )
    return (
        f"There, on the same text, {NAMES[SUBJECT]}'s loss is {said}. Beside plain RoPE's, range "
        f"by range, it is {by_range}."
    )


def _sentence_on_cost(last: Measured, stop: int) -> str:
    said = listed_by_value(
        (NAMES[name], compared(last.excess(name, BASELINE, 0, stop))) for name in last.others
    )
    return (
        f"At positions {span(0, stop)}, which training texts had, the loss beside plain RoPE's "
        f"{last.loss(BASELINE, 0, stop)} nats is: {said}."
    )


def _sentence_on_attention(last: Measured) -> str:
    where, number = span(*last.query_ranges[-1]), len(last.query_ranges) - 1
    entropy, score = (_say_extremes(last, each) for each in (None, number))
    return (
        f"Attention of queries at positions {where}, means over heads and layers: the entropy in "
        f"nats is {entropy}; the largest score among keys {where} tokens away, the first token "
        f"of the text among them, is {score}."
    )


def _say_extremes(last: Measured, number: int | None) -> str:
    """The lowest, the highest and the subject's; of entropies, or of scores at a distance."""
    found = {name: last.of_queries(name, number) for name in last.readings}
    ordered = sorted(found, key=lambda name: found[name].value)
    low, high = (f"{NAMES[name]}, {found[name]}" for name in (ordered[0], ordered[-1]))
    said = f"lowest under {low}, and highest under {high}"
    if SUBJECT not in last.others:
        return said
    excess = compared(last.excess_of_queries(SUBJECT, BASELINE, number), "")
    return f"{said}, {NAMES[SUBJECT]}'s {excess} beside plain RoPE's {found[BASELINE]}"


def _sentence_on_seeds(last: Measured) -> str:
    spans = [(0, min(last.trained, last.context))]
    if last.reaches_beyond:
        spans.append((last.trained, last.context))
    checks = {
        f"{NAMES[name]} at {span(*where)}": last.excess_of_seeds(
            name, BASELINE, *where, last.common(name, BASELINE)
        )
        for name in last.others
        for where in spans
    }
    return say_agreement("differences from plain RoPE", checks)


def _tabulate_losses(measured: Measured) -> Iterator[Table]:
    columns = [Column("scheme", "text"), Column("positions", "text")]
    headings = ("loss, nats", "perplexity", "beside plain RoPE, nats")
    rows = [
        Row(
            (
                NAMES[name],
                span(*each),
                str(measured.loss(name, *each)),
                perplexity(measured.loss(name, *each)),
                signed(measured.excess(name, BASELINE, *each)) if name in measured.others else "-",
            )
        )
        for name in measured.readings
        for each in measured.ranges
    ]
    caption = f"Losses by position, {tokens(measured.context)} tokens of context"
    yield Table(caption, (*columns, *map(Column, headings)), tuple(rows))


def _tabulate_attention(last: Measured) -> Table:
    number = len(last.query_ranges) - 1
    far = span(*last.query_ranges[-1])
    rows = [
        Row(
            (
                NAMES[name],
                f"{last.one(name, 'factor'):.4g}" if name not in _WITHOUT_FACTOR else "-",
                f"{last.one(name, 'attention_scaling'):.4g}",
                str(last.of_queries(name, None)),
                str(last.of_queries(name, number)),
                f"{max(last.each(name, 'largest_score_of_all')):.4g}",
            )
        )
        for name in last.readings
    ]
    headings = (
        "factor",
        "cos and sin times",
        f"entropy of queries {far}, nats",
        f"largest score, keys {far} away",
        "largest score of all",
    )
    columns = (Column("scheme", "text"), *map(Column, headings))
    return Table(f"Attention, {tokens(last.context)} tokens of context", columns, tuple(rows))


_WITHOUT_FACTOR = ("plain", "llama3", "p-rope", "alibi")
"""Schemes whose factor is not the one that covers the context."""


def _tabulate_checks(checks: Sequence[StudyRecord]) -> Table:
    rows = [
        Row(
            (
                NAMES[str(record.unit["scheme"])],
                tokens(int(record.unit["context"])),
                str(record.values["checked_tokens"]),
                f"{_number(record, 'values_differing')} of {_number(record, 'values')}",
                str(record.values["largest_difference"]),
            )
        )
        for record in checks
    ]
    headings = ("frequencies for", "tokens", "values that differ", "largest difference")
    return Table(
        "The fork beside Hugging Face's own model under the same scheme: final hidden states",
        (Column("scheme", "text"), *map(Column, headings)),
        tuple(rows),
    )


def _method(last: Measured) -> tuple[str, ...]:
    factor = last.one(BASELINE, "factor")
    return (
        "One forward of the fork over a window of real text gives the loss at every position; "
        "frequencies are those of `transformers` (`ROPE_INIT_FUNCTIONS`), handed to "
        "`rotary_inv_freq`, and nothing is fine-tuned. Losses are means of blocks of 64 positions; "
        "within a text intervals are block bootstraps, and differences are taken block by block on "
        "the same text.",
        METHOD,
        f"Linear interpolation, YaRN and LongRoPE take the factor that just covers the context, "
        f"{factor:.4g} for {tokens(last.context)} tokens after {tokens(last.trained)} of training "
        "(1 for contexts that are no longer); dynamic NTK finds the same from the length itself. "
        "Llama 3.1 takes the checkpoint's own parameters, whatever the context is. LongRoPE's "
        "factors are searched for each model and none exist for this one: they are declared to be "
        "NTK's, so that it differs from dynamic NTK by its attention scaling alone. p-RoPE "
        "(Barbero et al. 2024) rotates the fastest 75 % of the pairs and lets the others turn by "
        "1e-30 radians a token, which is no rotation; `transformers` calls it proportional. ALiBi "
        "(Press et al. 2022) stands in place of all rotation: what it adds to scores is a product "
        "of extra columns of queries and keys, so that fused attention computes it.",
        "The fork is compared with Hugging Face's own model under the same `rope_parameters` and "
        "fused attention. Dynamic NTK and LongRoPE depend on the length of the text: there trained "
        "length and text are shortened by the same factor, which leaves the frequencies what they "
        "are. Entropies and scores are of 16 queries in every doubling range of positions, by "
        "`attention_rows`.",
    )


def _limits(last: Measured) -> tuple[str, ...]:
    return (
        "A model of 135 million parameters stands in for Llama 3.1. Which scheme degrades and "
        "where is a property of these weights, which were trained with plain RoPE: Llama 3.1's own "
        "were trained further with its scaling, and fine-tuned schemes may order otherwise.",
        "The loss of the next token asks little of far text. That a scheme's loss stays low does "
        "not say that the model finds what is far away.",
        "The text is the documentation of one library, a window of it for each seed: intervals are "
        "of such windows, not of texts at large.",
        f"Nothing was measured beyond {tokens(last.context)} tokens; `--contexts 1k:64k` goes on.",
    )


def _number(record: StudyRecord, name: str) -> str:
    return count(int(str(record.values[name])))
