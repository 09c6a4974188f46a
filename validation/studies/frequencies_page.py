"""The study `frequencies` as people read it."""

from collections.abc import Sequence

import numpy as np

from validation.reporting.tables import Column, Row, Table
from validation.reporting.wording import ABSENT, tokens
from validation.studies.contrasts import agreement, contrast, direction, head_name, loaded
from validation.studies.estimates import Estimate
from validation.studies.frequencies import BANDS, FAR, FIRST, LOOK_UP, OTHER_SINK, PREVIOUS
from validation.studies.frequencies_figures import Context, Selectivity, by_context
from validation.studies.frequencies_plots import draw_bands, draw_pairs
from validation.studies.losses import listed
from validation.studies.page import Page, Picture
from validation.studies.records import StudyRecord
from validation.studies.texts import METHOD

QUESTION = (
    "What does each rotary frequency add to attention scores, and which bands carry the sinks, the "
    "previous-token heads and the far look-ups?"
)

_LISTED = 5
"""Heads of each landmark in the table."""

_METHOD = (
    "A score q.k/sqrt(d) is a sum over pairs of dimensions that RoPE turns by one frequency each. "
    "For 64 queries in the later half of the context, every score of every head is split into what "
    "each pair adds. Bands are Llama 3.1's, by unscaled wavelength: high ones (shorter than the "
    "original context over high_freq_factor) are kept, low ones (longer than it over "
    "low_freq_factor) are slowed by the whole factor, medium ones by part of it.",
    "A pair's contribution to a landmark is what it adds to the landmark's score less what it adds "
    "to the mean score of the query's keys. Over all pairs that is the log of how much more "
    "attention the landmark gets than the geometric mean of the keys: adding the same to every key "
    "counts for nothing.",
    "Landmarks, and the attention from which on a head counts as one of theirs (mean of queries): "
    f"the {FIRST} (0.5); the {OTHER_SINK}, the key, but the first, that has most attention of all "
    f"queries (0.1); the {PREVIOUS} (0.2); the {LOOK_UP}, the key more than {FAR} tokens away "
    "whose attention most exceeds what the other queries give it (0.05 more). Figures are means "
    "over a landmark's heads; within a text intervals are over queries, those within 64 positions "
    "drawn together.",
    METHOD,
)

_LIMITS = (
    "A model of 135M parameters with 30 layers of 9 heads is a stand-in: Llama 3.1's frequencies "
    "start from another base, its heads are wider, and it was trained with the scaling; which of "
    "its heads use which band has to be measured there.",
    "SmolLM2 was trained to 8k tokens without the scaling that it carries here: what low and "
    "medium bands add is what weights trained with faster ones make of slower ones.",
    "Bands have different numbers of pairs: a band's part grows with their number, a pair's mean "
    "does not.",
    "What a pair adds depends on content as much as on position; the study does not tell the two "
    "apart, and no frequency was changed here.",
    "The far look-up is the largest of thousands of excesses: a head without any look-ups has one, "
    "too, only a small one, and the threshold is a choice.",
    "Intervals hold a landmark's heads fixed and are of windows of one kind of text; which "
    "heads count differs between them.",
    "Windows begin in the middle of a document and without a special token: the first token is any "
    "token of the text.",
)


def compose(records: list[StudyRecord]) -> Page:
    """Says and draws what the records show."""
    contexts = by_context(records)
    longest = contexts[-1]
    findings = [_say_landmark(contexts, landmark) for landmark in longest.landmarks]
    findings += [*_say_pairs(longest), _say_distance(longest)]
    return Page(
        title="Rotary frequencies: what each adds to attention",
        question=QUESTION,
        method=_METHOD,
        findings=tuple(findings),
        pictures=(_picture_pairs(contexts), _picture_bands(longest)),
        tables=(_tabulate_bands(contexts), _tabulate_heads(longest)),
        limits=_LIMITS,
    )


def _say_landmark(contexts: Sequence[Context], landmark: str) -> str:
    longest = contexts[-1]
    of_seeds = longest.heads(landmark)
    found = longest.selectivity(landmark)
    where = f"{tokens(longest.tokens)} tokens"
    if found is None:
        return f"No head of {longest.n_heads} is one of the {landmark}'s, in {where}."
    counts = listed([str(len(heads)) for heads in of_seeds])
    common = len(set.intersection(*map(set, of_seeds)))
    in_common = f" ({common} in all seeds)" if len(of_seeds) > 1 else ""
    shares = {band: found.share(band) for band in longest.present}
    most = max(longest.present, key=lambda band: shares[band].value)
    parts = ", ".join(f"{band} {_percent(share)}" for band, share in shares.items())
    sentence = (
        f"{landmark.capitalize()}, {counts} of {longest.n_heads} heads{in_common}, {where}: "
        f"of {found.total} nats over the mean key, {parts}. The {most} band's part is the largest "
        f"({agreement(_shares_by_seed(longest, landmark, most))}), "
        f"{_against_next(found, most, longest.present)}."
    )
    shortest = contexts[0]
    before = shortest.selectivity(landmark) if landmark in shortest.landmarks else None
    if shortest is longest or before is None:
        return sentence
    was = before.share(most)
    return (
        f"{sentence} That part is {contrast(shares[most], was)} in {tokens(shortest.tokens)} "
        f"tokens, {_percent(was)}."
    )


def _against_next(found: Selectivity, most: str, bands: Sequence[str]) -> str:
    """Whether the largest part, and the largest mean of a pair, are beyond the uncertainty."""
    others = [band for band in bands if band != most]
    if not others:
        return "there is no other"
    second = max(others, key=lambda band: found.share(band).value)
    said = contrast(found.share(most), found.share(second))
    pair = max(bands, key=lambda band: found.of_a_pair(band).value)
    return (
        f"{said} the {second} one's; a pair adds most in the {pair} band, "
        f"{found.of_a_pair(pair)} nats"
    )


def _shares_by_seed(context: Context, landmark: str, band: str) -> list[Estimate]:
    """A band's part in each seed that has heads."""
    of_seeds = (context.selectivity(landmark, [record]) for record in context.records)
    return [found.share(band) for found in of_seeds if found]


def _say_pairs(context: Context) -> list[str]:
    """The pair that adds most to each landmark; nothing if none has heads."""
    parts = []
    for landmark in context.landmarks:
        found = context.selectivity(landmark)
        if found is None:
            continue
        of_pairs = found.of_pairs
        pair = int(np.argmax([each.value for each in of_pairs]))
        parts.append(
            f"{landmark}, pair {pair} ({context.bands[pair]}, a wavelength of "
            f"{context.wavelengths[pair]:,.0f} tokens) with {of_pairs[pair]} nats"
        )
    return [f"The single pair that adds most: {'; '.join(parts)}."] if parts else []


def _say_distance(context: Context) -> str:
    near, far = 1, len(context.octaves) - 1
    start, stop = context.octaves[far]
    parts = []
    for band in context.present:
        curve = context.deviation(band)
        said = direction(curve[far], curve[near]).strip(",")
        parts.append(f"{band} {curve[far]} after {curve[near]}, {said}")
    return (
        "The mean absolute deviation of a pair's contribution from what it adds to the query's "
        f"mean key, in nats, over all heads, {tokens(start)} to {tokens(stop)} tokens away after "
        f"that to the previous token, by band: {'; '.join(parts)}."
    )


def _percent(share: Estimate) -> str:
    """A part as people read it: `42 % [40, 44]`."""
    if not np.isfinite((share.low, share.high)).all():
        return f"{share.value:.0%} [of one sample]"
    return f"{share.value:.0%} [{100 * share.low:.0f}, {100 * share.high:.0f}]"


def _picture_pairs(contexts: Sequence[Context]) -> Picture:
    return Picture(
        "pairs",
        draw_pairs(contexts),
        "What each rotary pair adds to the score of each landmark, by wavelength.",
        "Nats over what the pair adds to the mean key, mean of the landmark's heads; 95 % "
        "intervals over queries. Dotted: the borders of the bands, by unscaled wavelength.",
    )


def _picture_bands(context: Context) -> Picture:
    return Picture(
        "bands",
        draw_bands(context),
        "Each band's part of the landmarks' scores, and a pair's mean absolute deviation by "
        "distance.",
        "Left: parts of one landmark add up to 1; a negative one is against the landmark. Right: "
        "mean absolute difference from the pair's mean over the query's keys, in nats, mean of "
        "all heads and of a band's pairs, the first token and the query's own left out.",
    )


def _tabulate_bands(contexts: Sequence[Context]) -> Table:
    records = [record for context in contexts for record in context.records]
    residual = max(float(loaded(record.values["residual"])) for record in records)
    spread = np.mean([loaded(record.values["spread_of_scores"]) for record in records])
    headings = ("landmark", "tokens", "seed", "heads", "nats, all pairs", *BANDS)
    rows = tuple(
        row
        for landmark in contexts[-1].landmarks
        for context in contexts
        if landmark in context.landmarks
        for row in _rows_of(context, landmark)
    )
    return Table(
        "What bands add to landmarks: part of all pairs, and nats of a pair, mean of the band (the "
        f"pairs add up to the model's scores within {residual:.1e}, where the scores of a query "
        f"have a standard deviation of {spread:.2g})",
        tuple(Column(heading, "text") for heading in headings),
        rows,
    )


def _rows_of(context: Context, landmark: str) -> list[Row]:
    rows = []
    for record, heads in zip(context.records, context.heads(landmark), strict=True):
        found = context.selectivity(landmark, [record])
        of_bands = [
            f"{_percent(found.share(band))}, {found.of_a_pair(band).value:.3g}"
            if found and band in context.present
            else ABSENT
            for band in BANDS
        ]
        name = (landmark, tokens(context.tokens), str(record.unit["seed"]), str(len(heads)))
        rows.append(Row((*name, str(found.total) if found else ABSENT, *of_bands)))
    return rows


def _tabulate_heads(context: Context) -> Table:
    attention = np.array([loaded(each.values["attention_of_heads"]) for each in context.records])
    selectivity = np.mean(
        [loaded(each.values["selectivity_of_heads_by_band"]) for each in context.records], axis=0
    )
    rows = []
    for index, landmark in enumerate(context.landmarks):
        of_heads = attention[:, index].mean(0)
        for flat in np.argsort(-of_heads, axis=None, kind="stable")[:_LISTED]:
            head = divmod(int(flat), of_heads.shape[1])
            of_seeds = (f"{each[head]:.3f}" for each in attention[:, index])
            nats = (f"{each:.2f}" for each in selectivity[(index, *head)])
            rows.append(Row((landmark, head_name(*head), *of_seeds, *nats)))
    seeds = (f"attention, seed {seed}" for seed in context.seeds)
    headings = (*seeds, *(f"{band}, nats" for band in BANDS))
    return Table(
        f"The {_LISTED} heads that give each landmark most, {tokens(context.tokens)} tokens",
        (Column("landmark", "text"), Column("head", "text"), *map(Column, headings)),
        tuple(rows),
    )
