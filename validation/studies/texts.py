"""Figures of several texts as one: how far texts lie apart is part of their uncertainty."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from validation.studies.blocks import agree
from validation.studies.estimates import Estimate

METHOD = (
    "Of several seeds' texts the mean is given, as a random-effects estimate (Hedges and Olkin "
    "1985): its 95 % interval is as wide as what is drawn within texts or the distance between "
    "texts asks for, whichever is more. Two texts say little of that distance, and one nothing."
)
"""How texts become one figure, for the pages."""

_Z = 1.959964
"""The normal distribution's 97.5th percentile."""

_REPEATED = 4
"""Texts from which on two halves of them are two measurements, each with texts of its own."""


def over_texts(found: Iterable[Estimate]) -> Estimate:
    """The mean over texts, for texts like these: a random-effects estimate, all weights equal.

    The variance of the mean is (tau^2 + v) / k: v is the mean of the texts' own variances, by
    positions, tau^2 = max(0, s^2 - v) the variance between texts (Hedges & Olkin 1985, chapter 9),
    s^2 that of the k texts' means. Two texts say little of tau; one says nothing, and its interval
    is of positions alone.

    Args:
        found: each text's own mean, with the interval that its positions give.
    """
    found = list(found)
    values = np.array([each.value for each in found])
    value, spread = float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0
    sides = np.array([[each.value - each.low, each.high - each.value] for each in found])
    within = (sides**2).mean(0)
    below, above = np.sqrt(np.maximum(within, (_Z * spread) ** 2) / len(found))
    return Estimate(value, value - float(below), value + float(above))


def repeated(of_texts: Sequence[Estimate]) -> list[Estimate]:
    """What has to agree if the figure is to be found again: two halves of the texts, or each."""
    if len(of_texts) < _REPEATED:
        return list(of_texts)
    middle = len(of_texts) // 2
    return [over_texts(of_texts[:middle]), over_texts(of_texts[middle:])]


def say_agreement(what: str, checks: Mapping[str, Sequence[Estimate]]) -> str:
    """Whether figures are found again on other texts, in one or two sentences.

    Args:
        what: the figures are, as in `changes of the loss`.
        checks: by name, each text's own; of one text or more.
    """
    checks = {name: of_texts for name, of_texts in checks.items() if len(of_texts) > 1}
    if not checks:
        return "One seed was measured: whether another one agrees is not known."
    most = max(map(len, checks.values()))
    found = {name: repeated(of_texts) for name, of_texts in checks.items()}
    apart = {name: each for name, each in found.items() if not agree(each)}
    said = f"{len(found) - len(apart)} of {len(found)} {what}"
    if apart:
        values = {n: ", ".join(f"{one.value:+.3g}" for one in each) for n, each in apart.items()}
        said += f"; not on {'; '.join(f'{name} ({each})' for name, each in values.items())}"
    if most >= _REPEATED:
        return f"Two halves of the {most} seeds' texts agree within their uncertainty on {said}."
    sentence = f"By the uncertainty of positions alone the {most} seeds' texts agree on {said}."
    return f"{sentence} The intervals above take in how far texts lie apart." if apart else sentence
