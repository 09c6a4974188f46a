"""What is left of a subject's error when it rotates with Hugging Face's tables."""

from dataclasses import dataclass

from validation.execution.probe_files import GRAFT, ROTATION, ProbeFiles
from validation.judgement.bins import rms_ratio
from validation.judgement.metrics import Errors, PositionMetrics
from validation.judgement.tally import Tally


@dataclass(frozen=True)
class LogitError:
    """A subject's logits against the reference's.

    Attributes:
        differing: logits whose value differs.
        max_abs: largest absolute error.
        parity_ratio: RMS error over the floor's, None if only the floor is zero.
    """

    differing: int
    max_abs: float
    parity_ratio: float | None


@dataclass(frozen=True)
class Graft:
    """The subject as it is, and with HF's tables in every layer.

    Attributes:
        tokens: of the prompt.
        logits_total: how many logits were compared.
        without: as it is.
        grafted: with the tables.
        is_held: whether every layer still had the tables after the forward.
        rotation_differing: numbers of q and k that it rotates otherwise than the reference even
            with the tables; 0 proves that what is left is not RoPE.
    """

    tokens: int
    logits_total: int
    without: LogitError
    grafted: LogitError
    is_held: bool
    rotation_differing: int

    @property
    def is_proof(self) -> bool:
        """Whether the error that is left is provably not RoPE."""
        return self.is_held and self.rotation_differing == 0


def judge_graft(
    reference: ProbeFiles,
    subject: ProbeFiles,
    without: PositionMetrics,
    grafted: PositionMetrics,
    floor: Errors,
) -> Graft:
    """Compares the two forwards.

    Args:
        reference: what `transformers` computed.
        subject: what the tree computed.
        without: the tree's logits as it is.
        grafted: its logits with HF's tables.
        floor: of the reference on the same prompt.
    """
    tally = Tally(None)
    for name in ("rotated_q", "rotated_k"):
        found = subject.rows(GRAFT, name)
        wanted = reference.rows(ROTATION, name, range(without.positions))
        tally.add(found, wanted)
    held = subject.rows(GRAFT, "held")
    return Graft(
        tokens=without.positions,
        logits_total=without.positions * without.vocab,
        without=_error(without, floor),
        grafted=_error(grafted, floor),
        is_held=bool(held.all()),
        rotation_differing=tally.differing,
    )


def _error(metrics: PositionMetrics, floor: Errors) -> LogitError:
    ratio = rms_ratio(metrics.rms, floor.rms)
    return LogitError(int(metrics.differing.sum()), float(metrics.abs_max.max()), ratio)
