"""What the reference says of itself: its floor, its power, and a checksum of its logits."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from validation.judgement.metrics import Errors

BACKEND_FLOOR = "one sdpa backend against another"
"""On CUDA, where two take the dtype. It is shown and judges nothing: that no clean comparison fails
was measured with the others alone (validation/evidence/alarms)."""

_PLAIN = "plain"
_BITS = "bits"


@dataclass(frozen=True)
class ReferenceMetrics:
    """The reference against itself, at one context.

    Attributes:
        floors: by name, how far it moves when the order of its sums changes in one way; none if it
            was not measured.
        plain: how far its first positions move when RoPE is not scaled: the mistake that any
            admissible checkpoint must show; None without floors.
        bits: `PositionMetrics.reference_bits` as this process found them.
    """

    floors: dict[str, Errors]
    plain: Errors | None
    bits: NDArray[np.int64]

    @property
    def pooled(self) -> Errors:
        """One floor of several independent ones: mean squares, largest maximum.

        Not the smallest: of 361 correct computations that sum in another order 214 would fail by
        it, and none does by this (validation/evidence/alarms).

        Raises:
            ValueError: there is none.
        """
        floors = [floor for name, floor in self.floors.items() if name != BACKEND_FLOOR]
        if not floors:
            raise ValueError("a floor needs at least one reordering of the reference")
        return Errors(
            differing=np.max([floor.differing for floor in floors], axis=0),
            abs_sum=np.mean([floor.abs_sum for floor in floors], axis=0),
            square_sum=np.mean([floor.square_sum for floor in floors], axis=0),
            abs_max=np.max([floor.abs_max for floor in floors], axis=0),
            nonfinite=np.sum([floor.nonfinite for floor in floors], axis=0),
            vocab=floors[0].vocab,
        )

    def save(self, path: Path) -> None:
        """Writes an .npz file, whole or not at all."""
        arrays: dict[str, NDArray[np.int64]] = {_BITS: self.bits}
        plain = {} if self.plain is None else {_PLAIN: self.plain}
        for name, errors in {**self.floors, **plain}.items():
            for field in fields(Errors):
                arrays[f"{name}/{field.name}"] = getattr(errors, field.name)
        part = path.with_suffix(".part.npz")
        np.savez(part, allow_pickle=False, **arrays)
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `save` wrote."""
        found: dict[str, dict[str, NDArray[np.int64]]] = {}
        with np.load(path) as arrays:
            bits = arrays[_BITS]
            for key in arrays.files:
                name, _, field = key.partition("/")
                if field:
                    found.setdefault(name, {})[field] = arrays[key]
        errors = {name: _errors(values) for name, values in found.items()}
        plain = errors.pop(_PLAIN, None)
        return cls(floors=errors, plain=plain, bits=bits)


def _errors(values: dict[str, NDArray[np.int64]]) -> Errors:
    vocab = int(values.pop("vocab"))
    return Errors(**values, vocab=vocab)  # type: ignore[arg-type]  # an .npz knows no dtypes
