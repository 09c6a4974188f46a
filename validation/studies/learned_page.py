"""What the study of learned frequencies says: every sentence and figure from its records."""

from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np
from scipy.stats import spearmanr

from validation.reporting.tables import Column, Row, Table
from validation.reporting.wording import tokens
from validation.studies.estimates import mean
from validation.studies.learned_pictures import picture_frequencies, picture_losses
from validation.studies.learned_results import FITS, NAMES, SCHEME_NAMES, Fitted, collect
from validation.studies.losses import (
    compared,
    listed_by_value,
    loss_ranges,
    perplexity,
    signed,
    span,
)
from validation.studies.page import Page
from validation.studies.readings import LOSSES, Readings
from validation.studies.records import StudyRecord
from validation.studies.texts import METHOD, over_texts, say_agreement

_MOVED = 0.01
"""Relative: a pair that is changed by less is not called slowed."""


def compose(records: list[StudyRecord]) -> Page:
    """The page, of the longest context that was measured.

    Args:
        records: of this study.

    Raises:
        InputError: no seed has all of its four readings.
    """
    found = collect(records)
    return Page(
        title="Rotary frequencies as parameters",
        question="Can rotary frequencies alone, fitted with all weights frozen, extend a model "
        "beyond its trained length, and do they become what Llama 3.1's fixed smoothing is?",
        method=_method(found),
        findings=tuple(_findings(found)),
        pictures=(picture_losses(found), picture_frequencies(found)),
        tables=(_tabulate_losses(found), _tabulate_pairs(found), _tabulate_shares(found)),
        limits=_limits(),
    )


def _findings(found: Fitted) -> Iterator[str]:
    inside, *beyond = found.spans
    for where in beyond:
        yield from (_sentence_on_fit(found, name, where) for name in FITS)
    if not beyond:
        yield (
            f"No position goes beyond the {tokens(found.trained)} tokens of training: nothing was "
            "extended."
        )
    said = listed_by_value(
        (NAMES[name], compared(found.excess(name, "plain", inside))) for name in list(NAMES)[1:]
    )
    yield (
        f"At positions {span(*inside)}, which training texts had, the loss beside plain RoPE's "
        f"{found.loss('plain', *inside)} nats is: {said}."
    )
    yield _sentence_on_pairs(found)
    yield _sentence_on_shares(found)
    yield _sentence_on_seeds(found)


def _sentence_on_fit(found: Fitted, name: str, where: tuple[int, int]) -> str:
    plain, llama3 = (compared(found.excess(name, each, where)) for each in ("plain", "llama3"))
    helped = found.excess(name, "plain", where)
    verdict = "helped" if helped.high < 0 else "did harm" if helped.low > 0 else "did not help"
    return (
        f"At positions {span(*where)}, on text that it did not see, the fit of the {NAMES[name]} "
        f"{verdict}: the loss is {plain} beside plain RoPE's before it "
        f"({found.loss('plain', *where)} nats), and {llama3} beside that of Llama 3.1's fixed "
        f"smoothing ({found.loss('llama3', *where)} nats)."
    )


def say_beside_unfitted(found: Fitted, encodings: Readings, names: Mapping[str, str]) -> str:
    """How fits compare with schemes that need none, beyond the trained length.

    Args:
        found: the fits.
        encodings: losses under schemes on the same texts, of the study of that name.
        names: of the schemes, as people know them. Those with a loss below plain RoPE's are named.

    Raises:
        ValueError: the two have not read the same texts.
    """
    where = found.spans[-1]
    seeds = [seed for seed in found.seeds if seed in encodings.readings["plain"]]
    mine, theirs = (each.series("plain", LOSSES, seeds) for each in (found, encodings))
    if not seeds or max(np.abs(a - b).max() for a, b in zip(mine, theirs, strict=True)) > 0.01:
        raise ValueError("losses under plain RoPE are not of the same texts")
    unfitted = [
        name
        for name in encodings.readings
        if encodings.loss(name, *where).value < encodings.loss("plain", *where).value
    ]
    fits = {fit: found.readings[fit] for fit in FITS}
    together = Readings(found.context, found.trained, encodings.readings | fits)
    said = []
    for fit in FITS:
        beside = []
        for name in unfitted:
            excess = over_texts(together.excess_of_seeds(fit, name, *where, seeds))
            beside.append(f"{compared(excess)} beside {names[name]}'s")
        said.append(f"the loss of the {NAMES[fit]} is {', '.join(beside)}")
    return (
        f"Beside schemes that need no fit, at positions {span(*where)} of the same {len(seeds)} "
        f"texts: {'; '.join(said)}."
    )


def _sentence_on_pairs(found: Fitted) -> str:
    llama3 = found.scheme("llama3") / found.scheme("plain")
    slowed = llama3 < 1 - _MOVED
    said = []
    for seed in found.seeds:
        ratios = found.ratios(seed)
        rank = spearmanr(ratios, llama3).statistic if len(set(llama3)) > 1 else np.nan
        like = f"their ranks correlate by {rank:.2f}" if np.isfinite(rank) else "ranks are equal"
        said.append(
            f"seed {seed} slows {np.sum(ratios[slowed] < 1 - _MOVED)} of them and "
            f"{np.sum(ratios[~slowed] < 1 - _MOVED)} of the other {np.sum(~slowed)}, with factors "
            f"of {ratios.min():.3f} to {ratios.max():.3f} ({like})"
        )
    return (
        f"Llama 3.1 slows {np.sum(slowed)} of {len(slowed)} pairs by more than {_MOVED:.0%}, down "
        f"to {llama3.min():.3f} of their frequency. Of the fits of frequencies, "
        f"{'; '.join(said)}."
    )


def _sentence_on_shares(found: Fitted) -> str:
    shares = np.mean([each.mean((0, 1)) for each in found.shares()], axis=0)
    order = np.argsort(-shares)
    names = list(SCHEME_NAMES.values())
    said = ", ".join(f"{names[index]} {shares[index]:.3f}" for index in order)
    largest = np.concatenate([each.argmax(-1).ravel() for each in found.shares()])
    kept = np.mean(largest == 0)
    return (
        "In the mixture, which every group of heads that share a key starts with 0.9 of plain "
        f"RoPE, mean shares are {said}; in {kept:.0%} of the groups plain RoPE still has the "
        "largest."
    )


def _sentence_on_seeds(found: Fitted) -> str:
    checks = {
        f"{NAMES[name]} at {span(*where)}": found.excess_of_seeds(name, "plain", *where)
        for name in list(NAMES)[1:]
        for where in found.spans
    }
    said = say_agreement("differences from plain RoPE", checks)
    if len(found.seeds) < 2:
        return said
    fits = [np.log(found.ratios(seed)) for seed in found.seeds]
    if not all(np.ptp(fit) > 0 for fit in fits):
        return said
    pairs = sorted(np.corrcoef(one, other)[0, 1] for one, other in combinations(fits, 2))
    ends = " to ".join(dict.fromkeys(f"{each:.2f}" for each in (pairs[0], pairs[-1])))
    return (
        f"{said} The correlation between what two fits did to the logarithms of the frequencies is "
        f"{ends}."
    )


def _tabulate_losses(found: Fitted) -> Table:
    rows = [
        Row(
            (
                NAMES[name],
                span(*where),
                str(found.loss(name, *where)),
                perplexity(found.loss(name, *where)),
                *(
                    "-" if name == other else signed(found.excess(name, other, where))
                    for other in ("plain", "llama3")
                ),
            )
        )
        for name in NAMES
        for where in loss_ranges(found.context, found.trained)
    ]
    headings = ("loss, nats", "perplexity", "beside plain RoPE", "beside Llama 3.1")
    columns = (Column("frequencies", "text"), Column("positions", "text"), *map(Column, headings))
    return Table(f"Losses by position, {tokens(found.context)} tokens", columns, tuple(rows))


def _tabulate_pairs(found: Fitted) -> Table:
    plain, llama3 = found.scheme("plain"), found.scheme("llama3")
    ratios, mixed = [found.ratios(seed) for seed in found.seeds], found.mixed_ratios()
    rows = [
        Row(
            (
                str(pair),
                f"{2 * np.pi / plain[pair]:,.0f}",
                f"{llama3[pair] / plain[pair]:.4f}",
                *(f"{each[pair]:.4f}" for each in ratios),
                f"{np.median(mixed[:, pair]):.4f}",
            )
        )
        for pair in range(len(plain))
    ]
    headings = (
        "wavelength, tokens",
        "Llama 3.1",
        *(f"learned, seed {seed}" for seed in found.seeds),
        "mixture, median group",
    )
    caption = "Frequencies of every pair, as multiples of plain RoPE's"
    return Table(caption, (Column("pair", "text"), *map(Column, headings)), tuple(rows))


def _tabulate_shares(found: Fitted) -> Table:
    names = list(SCHEME_NAMES.values())
    rows = []
    for seed, shares in zip(found.seeds, found.shares(), strict=True):
        heads = shares.reshape(-1, len(names))
        for index, name in enumerate(names):
            own = heads[:, index]
            (low, high), middle = np.percentile(own, [10, 90]), np.mean(own)
            cells = (f"seed {seed}", name, f"{middle:.3f}", f"{low:.3f}-{high:.3f}")
            rows.append(Row(cells))
    columns = (Column("fit", "text"), Column("scheme", "text"), Column("mean share"))
    return Table(
        "Shares in the mixture, over layers and groups of heads that share a key",
        (*columns, Column("middle 80 %")),
        tuple(rows),
    )


def _method(found: Fitted) -> tuple[str, ...]:
    learned, mixture = (found.readings[name][found.seeds[0]] for name in FITS)
    firsts, lasts = [], []
    for name in FITS:
        steps = np.concatenate([each[None] for each in found.series(name, "loss_nats_by_step")])
        quarter = max(1, steps.shape[1] // 4)
        firsts.append(mean(steps[:, :quarter].ravel()))
        lasts.append(mean(steps[:, -quarter:].ravel()))
    return (
        "Two things are fitted by Adam, with every weight frozen, starting from plain RoPE. "
        "Learned frequencies are the fork's `rotary_inv_freq` as an `nn.Parameter`, one set for "
        f"all layers and heads ({learned['steps']} steps, rate {learned['rate']} falling linearly "
        "to zero, in the logarithm; a pair that turns more than once in the text moves by so much "
        "less, so that no angle changes by more than another's). The mixture gives the heads that "
        "share a key, in every layer, a softmax mean of the frequencies of plain RoPE, linear "
        f"interpolation, dynamic NTK, YaRN and Llama 3.1 ({mixture['steps']} steps, rate "
        f"{mixture['rate']} in the logits): rotations add up, so hooks rotate queries and keys "
        "further.",
        "Whole long texts are too dear to learn from here. Keys, not yet rotated, and values of a "
        f"training text are kept once, read in pieces of {learned['piece_tokens']} tokens, each "
        f"with the {learned['lead_tokens']} before it, which is a length that the model knows. A "
        f"step takes {learned['queries_per_step']} neighbouring tokens at a "
        "random place of that text and computes them alone, with gradients; they attend to the "
        f"text before them at its true distances, to {learned['keys_per_step']} keys at most: the "
        "first, the nearest, and a random sample of those between, each weighted by as many as it "
        "stands for. That is in the spirit of PoSE (Zhu et al. 2023) and of randomised positions "
        "(Ruoss et al. 2023), with real distances in place of skipped ones. Loss in the first and "
        f"the last quarter of the steps, each on other text: learned {firsts[0]} and {lasts[0]} "
        f"nats, mixture {firsts[1]} and {lasts[1]}.",
        f"All are then read, whole, on {tokens(found.context)} tokens that the fit did not see: "
        "the training text is drawn from the longest part of the text beside that window. "
        "Differences are taken block by block of 64 positions on the same text, and within a "
        "text intervals are block bootstraps.",
        METHOD,
    )


def _limits() -> tuple[str, ...]:
    return (
        "A model of 135 million parameters stands in for Llama 3.1, and it was never trained with "
        "Llama 3.1's smoothing, which here is as foreign to it as what is fitted. Weights that are "
        "trained along with their frequencies may want others.",
        "The fit sees a sample of the keys, kept under plain RoPE from short texts: how states of "
        "far tokens change with the frequencies is outside its gradients.",
        "A few hundred steps on one text of one library's documentation: a longer fit on more text "
        "may go further, and no other rate was tried than those above.",
        "The loss of the next token asks little of far text: a lower one does not say that the "
        "model finds what is far away.",
    )
