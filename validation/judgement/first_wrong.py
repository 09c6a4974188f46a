"""Where a subject's error first leaves the floor, position by position."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from validation.judgement.bins import bin_edges
from validation.judgement.metrics import Errors
from validation.judgement.thresholds import MAX_RATIO


def first_wrong_position(subject: Errors, floor: Errors) -> int | None:
    """The first position at which the subject is wrong; None if there is none.

    What a bin of positions is allowed is so many times the floor's RMS over them; a single position
    is allowed so many times the most that the floor has at any position of its bin, for a floor's
    own positions scatter. NaN and Inf are wrong.
    """
    found, allowed = _rms(subject), _rms(floor)
    for start, stop in pairwise(bin_edges(floor.positions)):
        is_wrong = ~(found[start:stop] <= MAX_RATIO * allowed[start:stop].max())
        if is_wrong.any():
            return start + int(np.flatnonzero(is_wrong)[0])
    return None


def _rms(errors: Errors) -> NDArray[np.float64]:
    """Over the vocabulary, one entry a position."""
    rms: NDArray[np.float64] = np.sqrt(errors.square_sum / errors.vocab)
    return rms
