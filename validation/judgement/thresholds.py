"""Every threshold that a verdict rests on, with its reason. There is no other tolerance."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Threshold:
    """A number that separates verdicts.

    Attributes:
        name: what is compared with it.
        value: the number.
        reason: why this one.
    """

    name: str
    value: float
    reason: str


MAX_RATIO = 2.0
MAX_SLOPE = 0.1
MIN_DRIFT = 1.25
FLIP_FACTOR = 2.0

THRESHOLDS = (
    Threshold(
        "RMS error over the floor's, in every bin of positions, at most",
        MAX_RATIO,
        "Flash-attention's rule (tests/test_flash_attn.py). Two independent reorderings of a sum "
        "differ from each other by sqrt(2) times what each differs from the exact value; the rest "
        "is for the scatter of small bins.",
    ),
    Threshold(
        "lower end of the slope's 95 % interval, at most",
        MAX_SLOPE,
        "A reordering has slope 0, a table error linear in position has slope 1. 0.1 is a growth "
        "of 1.5 from 1k to 64k, which the first rule alone would let pass at short context. The "
        "lower end is that of the later half of the bins where that is lower: what rises at first "
        "and is level from then on does not drift.",
    ),
    Threshold(
        "largest ratio of a bin at which a slope counts, more than",
        MIN_DRIFT,
        "In half precision roundings begin to differ at some position and then saturate at the "
        "floor: a growth towards 1, with the scatter of bins, is no drift away from it.",
    ),
    Threshold(
        "the reference's margin over the floor's largest error at which another top token counts, "
        "more than",
        FLIP_FACTOR,
        "A flip needs two logits to move towards each other, each by at most the floor's largest "
        "error.",
    ),
    Threshold(
        "plain RoPE's RMS error over the floor's, in some bin, more than",
        MAX_RATIO,
        "Where even RoPE without Llama 3.1's scaling stays within the first rule, the rule cannot "
        "see a wrong position encoding: staying within it proves nothing.",
    ),
)
