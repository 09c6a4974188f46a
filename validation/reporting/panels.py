"""Decides which curves the plot has: of which cases, in which panel, under which name."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import nan
from typing import Self

import numpy as np
from numpy.typing import NDArray

from validation.judgement.verdict import Verdict
from validation.reporting.results import BinRecord, Result
from validation.reporting.wording import tokens

_LONGEST_NAME = 24


@dataclass(frozen=True)
class Curve:
    """One line.

    Attributes:
        subject: whose error, None for the floor.
        label: what it is called in the picture.
        positions: geometric centres of the bins, counted from 1.
        errors: mean absolute errors; NaN where there is none.
        is_identical: not one logit differs.
    """

    subject: str | None
    label: str
    positions: NDArray[np.float64]
    errors: NDArray[np.float64]
    is_identical: bool = False

    @classmethod
    def of_subject(cls, result: Result, label: str) -> Self:
        """The errors of a subject."""
        bins = result.bins or ()
        errors = [nan if bin_.mean_abs is None else bin_.mean_abs for bin_ in bins]
        is_identical = result.outcome is Verdict.IDENTICAL
        return cls(result.subject, label, _centres(bins), np.array(errors), is_identical)

    @classmethod
    def of_floor(cls, result: Result) -> Self:
        """The floor in the same run."""
        bins = result.bins or ()
        return cls(None, "floor", _centres(bins), np.array([b.floor_mean_abs for b in bins]))

    @property
    def visible(self) -> NDArray[np.bool_]:
        """Which errors a log axis can show."""
        return np.isfinite(self.errors) & (self.errors > 0)

    @property
    def is_zero(self) -> bool:
        """Whether the error is zero at every position."""
        return bool((self.errors == 0).all())


@dataclass(frozen=True)
class Panel:
    """The curves of one checkpoint, base, device and dtype.

    Attributes:
        title: what is the same for all its curves.
        curves: of the floor, then of the subjects, each at its largest context.
        missing: subjects without a curve, and why.
    """

    title: str
    curves: tuple[Curve, ...]
    missing: tuple[str, ...]


def arrange_panels(results: list[Result]) -> list[Panel]:
    """The panels, in first-seen order."""
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        scope = result.checkpoint, result.base, result.attention, result.device
        groups.setdefault((result.dtype, *scope), []).append(result)
    varying = [len(set(names)) > 1 for names in zip(*groups, strict=True)]
    panels = []
    for key, group in groups.items():
        also = [name for name, varies in zip(key[1:], varying[1:], strict=True) if varies]
        panels.append(_arrange_panel(", ".join([key[0], *map(_shortened, also)]), group))
    return panels


def _arrange_panel(name: str, results: list[Result]) -> Panel:
    ascending = sorted(results, key=lambda result: result.context)
    drawn = {r.subject: r for r in ascending if any(b.mean_abs is not None for b in r.bins or ())}
    asked = {result.subject: result for result in ascending}
    subjects = dict.fromkeys(result.subject for result in results)
    missing = tuple(
        f"{_shortened(subject)}: {asked[subject].verdict}, no errors to draw"
        for subject in subjects
        if subject not in drawn
    )
    if not drawn:
        return Panel(name, (), missing)
    longest = max(drawn.values(), key=lambda result: result.context)
    curves = [Curve.of_floor(longest)]
    for subject in subjects:
        if result := drawn.get(subject):
            also = [tokens(result.context)] if result.context != longest.context else []
            also += ["not finite"] if result.outcome is Verdict.NOT_FINITE else []
            label = _shortened(subject) + (f" ({', '.join(also)})" if also else "")
            curves.append(Curve.of_subject(result, label))
    return Panel(f"{name}, {tokens(longest.context)} tokens", tuple(curves), missing)


def _shortened(name: str) -> str:
    # Of a path, its end tells most.
    return name if len(name) <= _LONGEST_NAME else "…" + name[1 - _LONGEST_NAME :]


def _centres(bins: Iterable[BinRecord]) -> NDArray[np.float64]:
    return np.array([((bin_.start + 1) * bin_.stop) ** 0.5 for bin_ in bins])
