"""Readings of one context as records hold them: losses by position, text by text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from validation.studies.estimates import Estimate
from validation.studies.losses import paired
from validation.studies.records import Values
from validation.studies.texts import means_of_texts, over_texts

Numbers: TypeAlias = NDArray[np.float64]

LOSSES = "loss_nats_by_block"


@dataclass(frozen=True)
class Readings:
    """What was measured in one context.

    Attributes:
        context: tokens.
        trained: tokens of the longest text that the checkpoint was trained on.
        readings: values by name, in the order in which they are shown, and seed.
    """

    context: int
    trained: int
    readings: dict[str, dict[int, Values]]

    def series(self, name: str, what: str, seeds: Sequence[int] | None = None) -> list[Numbers]:
        """Numbers of what was read, seed by seed; of all seeds if none are given."""
        found = self.readings[name]
        return [np.array(found[s][what], dtype=float) for s in (found if seeds is None else seeds)]

    def loss(self, name: str, start: int, stop: int) -> Estimate:
        """The mean loss of positions [start, stop), in nats."""
        return over_texts(means_of_texts(self.series(name, LOSSES), start, stop))

    def excess_of_seeds(
        self, name: str, other: str, start: int, stop: int, seeds: Sequence[int] | None = None
    ) -> list[Estimate]:
        """By how much one loss exceeds another on the same text, in nats, seed by seed."""
        ones, others = (self.series(each, LOSSES, seeds) for each in (name, other))
        return [
            paired([one], [other], start, stop) for one, other in zip(ones, others, strict=True)
        ]
