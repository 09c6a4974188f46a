"""Figures of several texts as one: how far texts lie apart is part of their uncertainty."""

from collections.abc import Iterable, Mapping, Sequence
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from validation.studies.blocks import agree, mean_within
from validation.studies.estimates import Estimate

METHOD = (
    "Of several seeds' texts the mean is given, as a random-effects estimate (Hedges and Olkin "
    "1985), with a 95 % interval as wide as what is drawn within texts or the distance between "
    "texts asks for, whichever is more. Of two texts it goes by the normal distribution, for "
    "Student's would say nothing: where the texts lie far apart it then holds the mean of all "
    "texts 70 % of the time."
)
"""How texts become one figure, for the pages."""

_COVERED = 0.95
"""What an interval holds."""

_CONFIDENCE = (1 + _COVERED) / 2
"""Below its upper end."""

_REPEATED = 4
"""Texts from which on each one is held against what the others foresee."""


def means_of_texts(texts: Iterable[NDArray[np.float64]], start: int, stop: int) -> list[Estimate]:
    """Each text's own mean within a range of positions; texts are means of blocks."""
    return [mean_within([text], start, stop) for text in texts]


def over_texts(found: Iterable[Estimate]) -> Estimate:
    """The mean over texts, for texts like these: a random-effects estimate, all weights equal.

    The variance of the mean is (tau^2 + v) / k: v is the mean of the texts' own variances, by
    positions, tau^2 = max(0, s^2 - v) the variance between texts (Hedges & Olkin 1985, chapter 9),
    s^2 that of the k texts' means. Where s^2 decides, the interval is Student's with k - 1 degrees
    of freedom (Hartung & Knapp 2001), but for two texts; one text's own is of its positions.

    Args:
        found: each text's own mean, with the interval that its positions give.
    """
    found = list(found)
    value = float(np.mean([each.value for each in found]))
    below, above = _half_widths(found) / sqrt(len(found))
    return Estimate(value, value - float(below), value + float(above))


def foreseen(others: Sequence[Estimate], one: Estimate) -> bool:
    """Whether a text's figure is within the 95 % prediction interval of other texts' figures."""
    middle = np.mean([each.value for each in others])
    below, above = _half_widths(others) * sqrt(1 + 1 / len(others))
    return bool(middle - below <= one.value <= middle + above)


def _half_widths(found: Sequence[Estimate]) -> NDArray[np.float64]:
    """Of one text's interval, to below and above: by positions, or by where the texts lie."""
    sides = np.array([[each.value - each.low, each.high - each.value] for each in found])
    within: NDArray[np.float64] = np.sqrt((sides**2).mean(0))
    if len(found) == 1:
        return within
    spread = float(np.std([each.value for each in found], ddof=1))
    # With one degree of freedom, two texts', it is 12.7; with infinitely many, the normal one's.
    quantile = student.ppf(_CONFIDENCE, inf if len(found) == 2 else len(found) - 1)
    return np.asarray(np.maximum(within, float(quantile) * spread))


def found_again(of_texts: Sequence[Estimate]) -> bool:
    """Whether a figure is the same on all texts, within its uncertainty.

    From four texts on, each is held against what the others foresee; fewer are compared pair by
    pair, by the uncertainty of positions alone.
    """
    if len(of_texts) < _REPEATED:
        return agree(of_texts)
    rests = ([*of_texts[:i], *of_texts[i + 1 :]] for i in range(len(of_texts)))
    return all(foreseen(rest, one) for rest, one in zip(rests, of_texts, strict=True))


def say_agreement(what: str, checks: Mapping[str, Sequence[Estimate]]) -> str:
    """Whether figures are found again on other texts, in one or two sentences.

    Args:
        what: the figures are, as in `changes of the loss`.
        checks: by name, each text's own; of one text or more.
    """
    repeated = {name: of_texts for name, of_texts in checks.items() if len(of_texts) > 1}
    if not repeated:
        return "One seed was measured: whether another one agrees is not known."
    # Of a study that was stopped, some figures have more texts than others.
    sentences = []
    for texts in sorted(set(map(len, repeated.values())), reverse=True):
        alike = {name: each for name, each in repeated.items() if len(each) == texts}
        sentences.append(_say_of_as_many(what, texts, alike))
    return " ".join(sentences)


def _say_of_as_many(what: str, texts: int, checks: Mapping[str, Sequence[Estimate]]) -> str:
    """`say_agreement` of figures that have as many texts each."""
    apart = {name: of_texts for name, of_texts in checks.items() if not found_again(of_texts)}
    said = f"{len(checks) - len(apart)} of {len(checks)} {what}"
    if apart:
        values = {n: ", ".join(f"{one.value:+.3g}" for one in each) for n, each in apart.items()}
        said += f"; not on {'; '.join(f'{name} ({each})' for name, each in values.items())}"
    if texts >= _REPEATED:
        return (
            f"Each of the {texts} seeds' texts is where the others' 95 % prediction interval has "
            f"it on {said}. By chance that many intervals of 95 % leave out up to "
            f"{texts * (1 - _COVERED):.0%} of the figures."
        )
    sentence = f"By the uncertainty of positions alone the {texts} seeds' texts agree on {said}."
    return f"{sentence} The intervals above take in how far texts lie apart." if apart else sentence
