"""The study `position-bias` as people read it."""

from collections.abc import Sequence
from math import prod

import numpy as np

from validation.reporting.tables import Table
from validation.reporting.wording import tokens
from validation.studies.contrasts import agreement, contrast, head_name, signed
from validation.studies.losses import compared, listed
from validation.studies.page import Page, Picture
from validation.studies.position_bias_figures import (
    ATTENTION,
    MOST_COPYING,
    NEEDLE,
    Grid,
    Profiles,
    split,
)
from validation.studies.position_bias_plots import draw_attention, draw_grid, draw_heads
from validation.studies.position_bias_tables import (
    FAR,
    NEAR,
    queries_of,
    tabulate_attention,
    tabulate_grid,
    tabulate_heads,
)
from validation.studies.records import StudyRecord
from validation.studies.texts import METHOD

__all__ = ["ATTENTION", "NEEDLE", "QUESTION", "compose"]

QUESTION = (
    "How does attention depend on distance and on absolute position, and does the model find a "
    "passkey wherever it is?"
)

_SINK = 0.5
"""A head that gives the first token more than half is called a sink here."""

_RETRIEVAL = 0.1
"""Wu et al. 2024, section 2: a retrieval head has a score of at least this."""

_METHOD = (
    "Attention: one forward of the longest context, fused but for the rows of 32 queries in each "
    "octave of positions, which are summed layer by layer: the share of the first token, and the "
    "shares of all others by octave of their distance and of their position. Within a "
    "text intervals are over queries, those within 64 positions drawn together.",
    "Passkey: a sentence with 8 random digits, each another one, in real text; the question is at "
    "the end, and the answer is teacher-forced. The gain is the mean log-probability of the "
    "answer's tokens less that of 3 passkeys that are not in the text, after the same text and "
    "question. As passkeys are drawn alike, this expects what the same answer gains over a text "
    "with another passkey, and needs one reading of the text. Within a seed intervals are over "
    "passkeys.",
    "Retrieval heads: the copy score of Wu et al. 2024 (arXiv 2404.15574), the share of the "
    "answer's tokens at which the head's most attended token is in the needle's sentence and is "
    "the one to be produced. Theirs counts tokens that the model generates; here the right answer "
    "is teacher-forced, so that a model that answers wrongly has a score, too.",
    METHOD,
)

_LIMITS = (
    "A model of 135M parameters is a stand-in: which heads of a Llama 3.1 retrieve, how many there "
    "are, and at what length it fails, has to be measured there.",
    "SmolLM2 was trained to 8k tokens without Llama 3.1's scaling, which it carries here: what it "
    "loses may be the scaling's, and beyond 8k is the length's, too.",
    "Windows begin in the middle of a document and without a special token: the first token is any "
    "token of the text.",
    "The text is Markdown of one project's documentation; passkeys in other text, other questions, "
    "and answers that are not copied may behave otherwise.",
    "Attention says where a head looks, not what follows from it; no head was knocked out.",
    "Heads of the list are those with the highest of hundreds of scores: their own seed's scores "
    "are biased upwards, the other seed's are not.",
)


def compose(records: list[StudyRecord]) -> Page:
    """Says and draws what the records show."""
    grid, profiles = split(records)
    findings: list[str] = []
    pictures: list[Picture] = []
    tables: list[Table] = []
    if profiles:
        findings += [_say_first(profiles), _say_other_sinks(profiles), _say_distance(profiles)]
        pictures.append(_picture_attention(profiles))
        tables.append(tabulate_attention(profiles))
    if grid:
        findings += [_say_length(grid), _say_depth(grid), _say_heads(grid)]
        pictures.append(_picture_grid(grid))
        tables += [tabulate_grid(grid), tabulate_heads(grid, profiles)]
    if grid and profiles:
        pictures.append(_picture_heads(profiles, grid))
    return Page(
        title="Position bias: distance, sinks, a passkey, retrieval heads",
        question=QUESTION,
        method=_METHOD,
        findings=tuple(findings),
        pictures=tuple(pictures),
        tables=tuple(tables),
        limits=_LIMITS,
    )


def _say_first(profiles: Profiles) -> str:
    heads = profiles.first_of_heads(-1)
    last = profiles.first(-1)
    sentence = (
        f"Queries {queries_of(profiles, -1)} give the first token {last} of their attention, mean "
        f"of all {heads.size} heads ({agreement(profiles.first_by_seed(-1))}); "
        f"{int((heads > _SINK).sum())} heads give it more than half."
    )
    if len(profiles.groups) < 2:
        return sentence
    early = profiles.first(0)
    n_early = int((profiles.first_of_heads(0) > _SINK).sum())
    return (
        f"{sentence} That is {contrast(last, early)} what queries {queries_of(profiles, 0)} give "
        f"it, {early}, where {n_early} heads give it more than half."
    )


def _say_other_sinks(profiles: Profiles) -> str:
    n_layers = len(profiles.first_of_heads(-1))
    parts = [
        f"in seed {sink.seed} the token at position {sink.position}, {sink.token!r}: in "
        f"{sink.layers} of {n_layers} layers, in {sink.layers_beyond_first} of them with more than "
        f"the first token has, and most in layer {sink.highest_layer}, {sink.share:.3g}"
        for sink in profiles.other_sinks
    ]
    return (
        "Beside the first token, the one key that has most of a layer's attention, mean of heads "
        f"and queries, most often is {'; '.join(parts)}."
    )


def _say_distance(profiles: Profiles) -> str:
    near = profiles.at_distances(-1, 0, NEAR)
    by_seed = [profiles.at_distances(-1, 0, NEAR, [record]) for record in profiles.records]
    sentence = (
        f"The {NEAR} latest tokens, the query's own among them, have {near} of the attention of "
        f"queries {queries_of(profiles, -1)} ({agreement(by_seed)})"
    )
    half, _ = profiles.octave(-1)
    if half < 2 * FAR:
        return f"{sentence}."
    far = profiles.at_distances(-1, FAR, None)
    # Not every one of these queries has keys so far away: what there are.
    farthest = profiles.at_distances(-1, half, None)
    return (
        f"{sentence}, those {tokens(FAR)} or more away {far}, and those {tokens(half)} or more "
        f"away {farthest}, the first token aside."
    )


def _say_length(grid: Grid) -> str:
    first, last = grid.lengths[0], grid.lengths[-1]
    of_first, of_last = (grid.chosen(length=length).mean_gain for length in (first, last))
    by_seed = [grid.chosen(length=last, seed=seed).mean_gain for seed in grid.seeds]
    said = signed(of_last, "the text makes them likelier", "the text makes them less likely")
    sentence = (
        f"In {tokens(last)} tokens of text the passkey's tokens gain {of_last} nats each over "
        f"those of other passkeys, mean of all depths ({agreement(by_seed)}): {said}."
    )
    if first == last:
        return sentence
    return (
        f"{sentence} That is {contrast(of_last, of_first)} in {tokens(first)} tokens, {of_first}."
    )


def _say_depth(grid: Grid) -> str:
    of_depths = {depth: grid.chosen(depth=depth).mean_gain for depth in grid.depths}
    best, worst = (
        choose(of_depths, key=lambda depth: of_depths[depth].value) for choose in (max, min)
    )
    sentence = (
        f"Of the depths, {best:.0%} has the highest gain, {of_depths[best]} nats a token, mean of "
        f"all lengths, and {worst:.0%} the lowest, {of_depths[worst]}"
    )
    ends = [(grid.depths[end], grid.over_middle(end)) for end in (0, -1)]
    said = [f"at {depth:.0%} {compared(excess)}" for depth, excess in ends if excess is not None]
    if not said:
        return f"{sentence}."
    return f"{sentence}; in the same text, beside the depths between, the gain is {listed(said)}."


def _say_heads(grid: Grid) -> str:
    seeds = grid.seeds
    lists = {seed: grid.chosen(seed=seed).most_copying for seed in seeds}
    counts = [
        int((grid.chosen(seed=seed).copy_scores.mean(0) >= _RETRIEVAL).sum()) for seed in seeds
    ]
    n_heads = grid.copy_scores[0].size
    sentence = (
        f"{listed([*map(str, counts)])} of {n_heads} heads have a copy score of {_RETRIEVAL} or "
        f"more, Wu et al.'s threshold, in {'seed' if len(seeds) == 1 else 'seeds'} "
        f"{listed([*map(str, seeds)])}."
    )
    if len(seeds) < 2 or not all(lists.values()):
        return sentence
    shared = set.intersection(*map(set, lists.values()))
    by_chance = n_heads * prod(len(each) / n_heads for each in lists.values())
    # Of the texts by which they were not chosen.
    one = seeds[0]
    there = Grid(tuple(record for record in grid.records if record.unit["seed"] != one))
    everyone = there.copy_score(list(np.ndindex(*there.copy_scores.shape[1:])))
    return (
        f"{sentence} The seeds' lists of the {MOST_COPYING} highest share {len(shared)} heads "
        f"({by_chance:.2g} would by chance): {_names(sorted(shared))}. The {len(lists[one])} of "
        f"seed {one} score {there.copy_score(lists[one])} in the other seeds' texts, where all "
        f"heads score {everyone}."
    )


def _names(heads: Sequence[tuple[int, int]]) -> str:
    return ", ".join(head_name(*head) for head in heads) or "none"


def _picture_attention(profiles: Profiles) -> Picture:
    return Picture(
        "attention",
        draw_attention(profiles),
        "Share of attention by distance and by position of the key, for queries at several "
        "positions.",
        "Left: the share of all keys in an octave of distances, the first token and the query's "
        "own left out; a level curve is a share that falls as one over the distance. Right: by "
        "position, the first token at 1. Bands are 95 % intervals; one that is cut off reaches "
        "zero.",
    )


def _picture_grid(grid: Grid) -> Picture:
    return Picture(
        "needle",
        draw_grid(grid),
        "Gain in log-probability of a passkey by length of the text and depth.",
        "Mean over seeds of the log-probability of the right passkey's tokens less that of "
        "passkeys that are not in the text. At 0 the text does not help.",
    )


def _picture_heads(profiles: Profiles, grid: Grid) -> Picture:
    return Picture(
        "heads",
        draw_heads(profiles, grid),
        "Share of the first token in every head by layer, and copy scores of the heads that copy "
        "most.",
        f"Left: queries {queries_of(profiles, -1)}, mean of seeds. Right: the heads with the "
        "highest scores over all seeds, with 95 % intervals over passkeys, seed by seed.",
    )
