"""How two figures with an uncertainty compare, in words that follow from them."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor

from validation.studies.estimates import Estimate
from validation.studies.texts import found_again

_DIGITS = 5
"""Of a stored mean: ten times finer than any interval that hundreds of rows give."""


def contrast(value: Estimate, other: Estimate) -> str:
    """How the first compares, as in `that is higher than`."""
    word = direction(value, other)
    return f"{word} than" if word in ("higher", "lower") else f"{word} from"


def direction(value: Estimate, other: Estimate) -> str:
    """Whether the first is higher or lower."""
    if value.agrees_with(other):
        return "no different, within the uncertainty,"
    return "higher" if value.value > other.value else "lower"


def signed(difference: Estimate, positive: str, negative: str) -> str:
    """What a difference says: one of two sentences, or that it says neither."""
    if difference.low > 0:
        return positive
    return negative if difference.high < 0 else "no difference beyond the uncertainty"


def agreement(of_seeds: Sequence[Estimate]) -> str:
    """Whether all seeds agree within their uncertainty, and their figures, as a clause."""
    if len(of_seeds) < 2:
        return "one seed was measured"
    figures = ", ".join(f"{each.value:.4g}" for each in of_seeds)
    if not all(np.isfinite((each.low, each.high)).all() for each in of_seeds):
        return f"the seeds have {figures}, of one sample each: whether they agree is not known"
    if found_again(of_seeds):
        return f"the seeds agree within their uncertainty: {figures}"
    return f"the seeds differ by more than their uncertainty: {figures}"


def stored(values: Tensor | NDArray[np.float64]) -> JsonValue:
    """Numbers as a record keeps them: nested lists, five digits each."""
    array = values.numpy(force=True) if isinstance(values, torch.Tensor) else values
    if array.dtype.kind in "iub":
        listed: JsonValue = array.astype(int).tolist()
        return listed
    return _shorten(array.astype(np.float64).tolist())


def loaded(values: JsonValue) -> NDArray[np.float64]:
    """The array that `stored` made lists of."""
    return np.array(values, dtype=np.float64)


def head_name(layer: int, head: int) -> str:
    """`L12H3`, both counted from 0."""
    return f"L{layer}H{head}"


def _shorten(nested: JsonValue) -> JsonValue:
    if isinstance(nested, list):
        return [_shorten(each) for each in nested]
    assert isinstance(nested, float)
    return float(f"{nested:.{_DIGITS}g}")
