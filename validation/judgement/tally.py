"""Counts, slice by slice, how two sets of numbers differ, and where."""

from dataclasses import dataclass
from typing import TypedDict

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class Place:
    """Where in a computation a number stands.

    Attributes:
        position: of the token.
        pair: of dimensions that share a frequency; 0 is the fastest.
        layer: decoder layer.
        what: which of several tensors.
    """

    position: int
    pair: int | None = None
    layer: int | None = None
    what: str = ""

    def __str__(self) -> str:
        parts = [
            "" if self.layer is None else f"layer {self.layer}",
            f"position {self.position:,}",
            "" if self.pair is None else f"frequency pair {self.pair}",
        ]
        text = ", ".join(part for part in parts if part)
        return f"{text} ({self.what})" if self.what else text

    @property
    def order(self) -> tuple[int, int]:
        """By layer, then by position."""
        return (-1 if self.layer is None else self.layer, self.position)


class Figures(TypedDict):
    """What a tally found."""

    compared: int
    differing: int
    first: Place | None
    largest: float
    largest_at: Place | None


class Tally:
    """A running count of differences.

    Attributes:
        compared: numbers of the reference seen so far.
        differing: those whose bits are different, or that the subject does not have.
        first: the first of them by layer and position.
        largest: largest error; Inf where a number is missing or not finite.
        largest_at: where that is.
    """

    def __init__(self, pairs: int | None, is_relative: bool = False) -> None:
        """Counts columns i and i + `pairs` as one frequency pair, if there are pairs."""
        self._pairs = pairs
        self._is_relative = is_relative
        self._square_sum = 0.0
        self.compared = 0
        self.differing = 0
        self.first: Place | None = None
        self.largest = 0.0
        self.largest_at: Place | None = None

    def add(
        self,
        subject: Shaped[Tensor, "rows columns"],
        reference: Shaped[Tensor, "rows columns"],
        *,
        start: int = 0,
        layer: int | None = None,
        what: str = "",
    ) -> None:
        """Compares rows, the first at position `start`; rows that the subject lacks differ."""
        there = min(len(subject), len(reference))
        if subject.ndim != 2 or subject.shape[1:] != reference.shape[1:]:
            there = 0
        self.compared += reference.numel()
        if missing := reference[there:].numel():
            self.differing += missing
            self._note_first(Place(start + there, None, layer, f"{what} missing".strip()))
            self._note_largest(float("inf"), Place(start + there, None, layer, what))
            self._square_sum = float("inf")
        differs = differing_bits(subject[:there], reference[:there]) if there else None
        if differs is None or not bool(differs.any()):
            return
        self.differing += int(differs.sum())
        row, column = (int(i) for i in differs.nonzero()[0])
        self._note_first(self._place(start + row, column, layer, what))
        error = (subject[:there].double() - reference[:there].double()).abs()
        self._square_sum += float(error.square().sum())
        if self._is_relative:
            error = error / reference[:there].double().abs()
        # What is not finite on one side alone, or on both with other bits, is as wrong as can be.
        error = torch.where(differs & ~error.isfinite(), float("inf"), error.nan_to_num(0.0))
        index = int(error.argmax())
        row, column = divmod(index, error.shape[1])
        self._note_largest(
            float(error.flatten()[index]), self._place(start + row, column, layer, what)
        )

    def merge(self, other: "Tally") -> None:
        """Adds what another tally counted."""
        self.compared += other.compared
        self.differing += other.differing
        self._square_sum += other._square_sum
        if other.first is not None:
            self._note_first(other.first)
        if other.largest_at is not None:
            self._note_largest(other.largest, other.largest_at)

    @property
    def rms(self) -> float:
        """Root of the mean squared absolute error; Inf if a number is missing or not finite."""
        if not self._square_sum < float("inf"):
            return float("inf")
        return float((self._square_sum / max(1, self.compared)) ** 0.5)

    def figures(self) -> Figures:
        """What was found, for a record."""
        return {
            "compared": self.compared,
            "differing": self.differing,
            "first": self.first,
            "largest": self.largest,
            "largest_at": self.largest_at,
        }

    def _place(self, position: int, column: int, layer: int | None, what: str) -> Place:
        pair = column % self._pairs if self._pairs else None
        return Place(position, pair, layer, what)

    def _note_first(self, place: Place) -> None:
        if self.first is None or place.order < self.first.order:
            self.first = place

    def _note_largest(self, error: float, place: Place) -> None:
        if self.largest_at is None or error > self.largest:
            self.largest, self.largest_at = error, place


def differing_bits(
    subject: Shaped[Tensor, "rows columns"], reference: Shaped[Tensor, "rows columns"]
) -> Bool[Tensor, "rows columns"]:
    """Which numbers differ: by their bits in one type, by their value in two; NaN always does."""
    if subject.dtype != reference.dtype:
        return subject.double() != reference.double()
    kind = _BITS[subject.element_size()]
    differs = subject.contiguous().view(kind) != reference.contiguous().view(kind)
    return differs | subject.isnan()
