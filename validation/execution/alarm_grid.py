"""What is compared to find false alarms: a balanced grid of tiny Llamas, dtypes and contexts."""

from dataclasses import asdict, dataclass

from transformer_lens_fork.bases import Base
from validation.execution.cases import Surroundings
from validation.execution.clean import kinds_at
from validation.execution.jobs import DtypeName
from validation.models.hashing import json_sha256
from validation.models.random_llamas import RANDOM_LLAMAS, RandomLlama
from validation.models.trees import Tree

# With eight Llamas these numbers have no common factor: counting up, every Llama meets every dtype
# at every context before one comes again, and any first part of the grid is balanced.
_DTYPES: tuple[DtypeName, ...] = ("float32", "bfloat16", "float16")
_CONTEXTS = {
    "float32": (256, 512, 1024, 2048, 384, 1536, 4096),
    "bfloat16": (256, 512, 1024, 2048, 384, 1536, 4096),
    # CPUs multiply float16 matrices ten times as slowly.
    "float16": (256, 320, 384, 512, 640, 768, 1024),
}

_SEEDS_APART = 1000
"""Between two situations: what they draw beside their weights has seeds a little larger."""

SMALL_FAULTS = (
    "double-reciprocal",
    "factor-1-percent",
    "factor-0.1-percent",
    "low-1-percent",
    "high-1-percent",
    "original-1-percent",
)
"""Mistakes so small that a floor may hide them: what a floor lets through."""


@dataclass(frozen=True)
class Situation:
    """What comparisons share that are made against one reference."""

    llama: RandomLlama
    seed: int
    dtype: DtypeName
    context: int


@dataclass(frozen=True)
class Setting:
    """What all comparisons of a run share.

    Attributes:
        tree: the tree that clean deviations and faults are made of: the fork, or a copy of it.
        base: the release that it is made of.
        has_faults: whether faults are planted as well.
        surroundings: of this process; those that compare have the same.
    """

    tree: Tree
    base: Base
    has_faults: bool
    surroundings: Surroundings

    def key(self, situation: Situation) -> str:
        """A sha256 over everything that could change what is found in `situation`."""
        ingredients = {
            "situation": asdict(situation),
            "tree": self.tree.sha256,
            "faults": SMALL_FAULTS if self.has_faults else (),
            "harness": self.surroundings.harness_sha256,
            "packages": self.surroundings.packages,
            "settings": self.surroundings.settings,
        }
        return json_sha256(ingredients)


def choose_situations(comparisons: int, seed: int) -> list[Situation]:
    """As many situations as it takes for so many clean comparisons, each with its own seed."""
    chosen: list[Situation] = []
    planned = 0
    while planned < comparisons:
        index = len(chosen)
        dtype = _DTYPES[index % len(_DTYPES)]
        contexts = _CONTEXTS[dtype]
        context = contexts[index % len(contexts)]
        llama = RANDOM_LLAMAS[index % len(RANDOM_LLAMAS)]
        own_seed = _SEEDS_APART * (_SEEDS_APART * seed + index)
        chosen.append(Situation(llama, own_seed, dtype, context))
        planned += sum(kind.is_reordering(dtype) for kind in kinds_at(context))
    return chosen
