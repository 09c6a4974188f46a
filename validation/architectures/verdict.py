"""What becomes of an architecture in a fork, and by which rule."""

from enum import Enum


class Outcome(Enum):
    """What a fork does to an architecture. The values are messages for people."""

    SAME = "not one bit of logits, gradients, state dict or configuration differs"
    NEARER = "what differs is nearer to HF"
    LEVEL = "something that differs is as far from HF, as far as the seeds can tell"
    FURTHER = "something that differs is further from HF"
    BROKEN = "it does not load, or what the release saved does not"

    @property
    def is_failure(self) -> bool:
        """Whether it must not be."""
        return self not in (Outcome.SAME, Outcome.NEARER)
