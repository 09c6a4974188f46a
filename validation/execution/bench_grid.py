"""What the bench measures: which contestants, at which work, and when a point is the same again."""

from dataclasses import dataclass
from typing import get_args

from transformer_lens_fork.errors import InputError
from validation.execution.bench_messages import GENERATED, WorkloadName
from validation.execution.cases import Request, Surroundings
from validation.execution.jobs import AttentionName
from validation.models.hashing import json_sha256
from validation.models.trees import STOCK, Tree

WORKLOADS: dict[WorkloadName, str] = {
    "forward": "hidden states of all positions after the last norm, logits of the last position",
    "hooks": "what forward gives, and at every layer a hook on the residual stream keeps its mean",
    "generate": f"{GENERATED} greedy tokens after the context, through the library's own KV cache",
}
"""The work by name. Logits of all positions would take 12 GiB at 64k tokens of SmolLM2."""

assert tuple(WORKLOADS) == get_args(WorkloadName)


@dataclass(frozen=True)
class Contestant:
    """One library with one attention.

    Attributes:
        name: in arguments and records.
        is_fork: it runs the fork, or the tree in its place; else the release or transformers.
        is_transformers: it is Hugging Face transformers.
        attention: `eager` forms scores and patterns, `sdpa` is fused.
    """

    name: str
    is_fork: bool
    is_transformers: bool
    attention: AttentionName

    @property
    def model(self) -> str:
        """Which of the planned models it is (`plan.py`)."""
        return "reference" if self.is_transformers else "subject"

    @property
    def label(self) -> str:
        """For people."""
        return self.name.replace("hf", "HF").replace("-", " ")


CONTESTANTS = (
    Contestant("fork-sdpa", is_fork=True, is_transformers=False, attention="sdpa"),
    Contestant("hf-sdpa", is_fork=False, is_transformers=True, attention="sdpa"),
    Contestant("fork-eager", is_fork=True, is_transformers=False, attention="eager"),
    Contestant("stock", is_fork=False, is_transformers=False, attention="eager"),
)
"""In the order in which they take turns."""

PAIRS = (("fork-sdpa", "hf-sdpa"), ("fork-eager", "stock"))
"""Whose time is divided by whose."""


@dataclass(frozen=True)
class Bench:
    """What is asked for.

    Attributes:
        request: checkpoint, contexts, the one dtype, device; its first tree is the fork, or what
            stands in its place, the second the release.
        contestants: who takes part, in the order of their turns.
        workloads: what they do.
        repeats: times that each does each work.
    """

    request: Request
    contestants: tuple[Contestant, ...]
    workloads: tuple[WorkloadName, ...]
    repeats: int

    def tree(self, contestant: Contestant) -> Tree | None:
        """What the contestant runs; None for transformers."""
        if contestant.is_transformers:
            return None
        fork, stock = self.request.trees
        return fork if contestant.is_fork else stock


def choose_bench(
    request: Request, contestants: tuple[str, ...], workloads: tuple[str, ...], repeats: int
) -> Bench:
    """The bench of the named contestants and works.

    Raises:
        InputError: the tree has no fused attention, or the checkpoint has no room for the tokens
            that are generated.
    """
    chosen = Bench(
        request,
        tuple(contestant for contestant in CONTESTANTS if contestant.name in contestants),
        tuple(name for name in WORKLOADS if name in workloads),
        repeats,
    )
    tree = request.trees[0]
    if tree.name == STOCK or tree.attention("sdpa") != "sdpa":
        raise InputError(
            f"--tree: {tree.name!r} has no fused attention (attn_implementation); 'fork' or a copy "
            "of it is accepted."
        )
    if "generate" in workloads:
        _refuse_no_room(request)
    return chosen


def _refuse_no_room(request: Request) -> None:
    longest, positions = request.contexts[-1], request.checkpoint.positions
    if longest + GENERATED > positions:
        raise InputError(
            f"--contexts: {GENERATED} tokens after {longest} are more than the {positions} "
            f"positions of {request.checkpoint.name!r}; up to {positions - GENERATED} are "
            "accepted, or --workloads forward,hooks."
        )


@dataclass(frozen=True)
class Point:
    """One work at one context, at which contestants take turns.

    Attributes:
        workload: what is done.
        context: tokens.
        refusals: of each contestant, why it does not fit the memory, or None.
        needs: of each contestant, the predicted peak of its process in bytes.
    """

    workload: WorkloadName
    context: int
    refusals: dict[Contestant, str | None]
    needs: dict[Contestant, int]

    @property
    def fitting(self) -> tuple[Contestant, ...]:
        """Those that are measured."""
        return tuple(who for who, refusal in self.refusals.items() if refusal is None)

    def key(self, bench: Bench, surroundings: Surroundings) -> str:
        """A sha256 over everything that could change what is measured here."""
        request = bench.request
        ingredients = {
            "workload": self.workload,
            "context": self.context,
            "generated": GENERATED,
            "repeats": bench.repeats,
            "contestants": [_identity(bench, who, who in self.fitting) for who in self.refusals],
            "base": request.base.name,
            "checkpoint": request.checkpoint.sha256,
            "n_layers": request.checkpoint.shape.layers,
            "prompt": request.prompt.sha256(self.context),
            "dtype": request.dtypes[0],
            "device": request.device,
            "seed": request.seed,
            "harness": surroundings.harness_sha256,
            "packages": surroundings.packages,
            "settings": surroundings.settings,
        }
        return json_sha256(ingredients)


def _identity(bench: Bench, contestant: Contestant, fits: bool) -> list[object]:
    tree = bench.tree(contestant)
    source = (tree.sha256, tree.loads_itself) if tree else None
    return [contestant.name, contestant.attention, source, fits]
