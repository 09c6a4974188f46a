"""Compares streams of logits position by position, without ever holding one whole."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

Head = Callable[[Float[Tensor, "1 chunk d_model"]], Float[Tensor, "1 chunk vocab"]]
"""Final hidden states, after the last norm, to logits."""

_ROWS = {"cpu": 8, "cuda": 64}
"""Logits' rows that are compared at a time, on each kind of device. A CPU passes over them a dozen
times, and 8 stay in its caches: a fifth of the time of 256. A GPU should have enough to do, and the
KL divergence holds them in double precision."""


@dataclass(frozen=True)
class Stream:
    """Logits that are made when they are needed.

    Attributes:
        hidden: final hidden states after the last norm.
        head: the unembedding.
    """

    hidden: Float[Tensor, "pos d_model"]
    head: Head

    def logits(self, rows: slice) -> Float[Tensor, "chunk vocab"]:
        """Those of a range of positions."""
        with torch.no_grad():
            # Rows first, as a model lays them out: a view with a foreign stride may take another
            # kernel in half precision.
            return self.head(self.hidden[rows][None])[0]


@dataclass(frozen=True)
class Errors:
    """How far two streams of logits are apart, one entry a position.

    Attributes:
        differing: logits whose value differs.
        abs_sum: sum over the vocabulary of the absolute error.
        square_sum: sum over the vocabulary of the squared error.
        abs_max: largest absolute error.
        nonfinite: NaN or Inf among the second stream's logits.
        vocab: logits a position.
    """

    differing: NDArray[np.int64]
    abs_sum: NDArray[np.float64]
    square_sum: NDArray[np.float64]
    abs_max: NDArray[np.float64]
    nonfinite: NDArray[np.int64]
    vocab: int

    @property
    def positions(self) -> int:
        """How many positions were compared."""
        return len(self.differing)

    @property
    def rms(self) -> float:
        """Root of the mean squared error, over all positions."""
        return float(np.sqrt(self.square_sum.mean() / self.vocab))

    def prefix(self, positions: int) -> "Errors":
        """The same of the first `positions` alone."""
        return Errors(
            differing=self.differing[:positions],
            abs_sum=self.abs_sum[:positions],
            square_sum=self.square_sum[:positions],
            abs_max=self.abs_max[:positions],
            nonfinite=self.nonfinite[:positions],
            vocab=self.vocab,
        )

    def save(self, path: Path) -> None:
        """Writes an .npz file."""
        np.savez(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `save` wrote."""
        with np.load(path) as arrays:
            values = {field.name: arrays[field.name] for field in fields(cls)}
        return cls(**{**values, "vocab": int(values["vocab"])})


@dataclass(frozen=True)
class PositionMetrics(Errors):
    """How a subject's logits differ from the reference's. Errors are subject minus reference.

    Attributes:
        kl: Kullback-Leibler divergence of the subject from the reference, nats.
        reference_top1: the reference's most likely token.
        subject_top1: the subject's.
        margin: the reference's largest logit minus its second largest.
        reference_bits: sum of the bit patterns of the reference's logits, as integers.
        first_differing: position and token of the first logit that differs; empty if none does.
        first_values: the reference's and the subject's value there.
    """

    kl: NDArray[np.float64]
    reference_top1: NDArray[np.int64]
    subject_top1: NDArray[np.int64]
    margin: NDArray[np.float64]
    reference_bits: NDArray[np.int64]
    first_differing: NDArray[np.int64]
    first_values: NDArray[np.float64]


def stream_metrics(reference: Stream, subject: Stream, chunk: int) -> PositionMetrics:
    """Feeds both heads the same positions in chunks of the same shape and compares the logits.

    Args:
        reference: the reference.
        subject: the subject.
        chunk: positions a chunk; the last one may be shorter.

    Raises:
        ValueError: the two have different shapes, or the reference's logits are not finite: then
            nothing can be said about the subject.
    """
    columns = _Columns(len(reference.hidden))
    first: tuple[list[int], list[float]] = ([], [])
    for start, expected, found in _pairs(reference, subject, chunk):
        _require_finite(expected, "the reference's logits", start)
        errors = _errors(expected, found)
        if not first[0] and bool(errors["differing"].any()):
            first = _first_difference(errors["differing"], expected, found, start)
        columns.put(start, errors | _agreement(expected, found, errors["differing"]))
    return PositionMetrics(
        **columns.arrays(),
        first_differing=np.array(first[0], dtype=np.int64),
        first_values=np.array(first[1], dtype=np.float64),
        vocab=expected.shape[-1],
    )


def stream_errors(
    streams: dict[str, Stream], pairs: dict[str, tuple[str, str]], chunk: int
) -> tuple[dict[str, Errors], NDArray[np.int64]]:
    """Errors between pairs of streams of the reference; each logit is made once.

    Args:
        streams: by name; the first is the reference as it is compared with subjects. Pairs with a
            shorter one end where it ends, which must be at a multiple of `chunk`.
        pairs: for each result, the stream that is subtracted and the one it is subtracted from.
        chunk: positions a chunk, the same as for subjects.

    Returns:
        The errors by the pairs' names, and the first stream's `PositionMetrics.reference_bits`.

    Raises:
        ValueError: logits are not finite, or a shorter stream ends within a chunk.
    """
    ends = {name: min(len(streams[each].hidden) for each in pair) for name, pair in pairs.items()}
    found = {name: _Columns(end) for name, end in ends.items()}
    reference = next(iter(streams.values()))
    bits = _Columns(len(reference.hidden))
    for start in range(0, len(reference.hidden), chunk):
        logits = {}
        for name, stream in streams.items():
            if start < len(stream.hidden):
                logits[name] = stream.logits(slice(start, start + chunk))
                _require_finite(logits[name], f"the reference's logits ({name})", start)
        expected = next(iter(logits.values()))
        bits.put(start, {"bits": _bits(expected)})
        for name, (one, other) in pairs.items():
            if one in logits and other in logits:
                for rows in _blocks(expected):
                    errors = _errors(logits[one][rows], logits[other][rows])
                    found[name].put(start + rows.start, errors)
    vocab = expected.shape[-1]
    joined = {name: Errors(**columns.arrays(), vocab=vocab) for name, columns in found.items()}
    return joined, bits.arrays()["bits"]


class _Columns:
    """Figures by position, each kind in one tensor from the first on.

    Small ones that stay would come to lie in the holes that chunks of logits leave, and the heap
    would grow by a chunk's logits a chunk: 20 GiB at 64k tokens.
    """

    def __init__(self, positions: int) -> None:
        self._positions = positions
        self._columns: dict[str, Tensor] = {}

    def put(self, start: int, figures: dict[str, Tensor]) -> None:
        for name, values in figures.items():
            if name not in self._columns:
                self._columns[name] = values.new_empty(self._positions)
            self._columns[name][start : start + len(values)] = values

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {name: column.cpu().numpy() for name, column in self._columns.items()}


def _pairs(
    reference: Stream, subject: Stream, chunk: int
) -> Iterator[tuple[int, Float[Tensor, "chunk vocab"], Float[Tensor, "chunk vocab"]]]:
    if reference.hidden.shape != subject.hidden.shape:
        raise ValueError(
            f"hidden states differ in shape: reference {tuple(reference.hidden.shape)}, "
            f"subject {tuple(subject.hidden.shape)}"
        )
    for start in range(0, len(reference.hidden), chunk):
        rows = slice(start, start + chunk)
        expected = reference.logits(rows)
        found = subject.logits(rows).to(expected.device)
        if expected.shape != found.shape or expected.dtype != found.dtype:
            raise ValueError(
                f"logits differ in kind: reference {tuple(expected.shape)} {expected.dtype}, "
                f"subject {tuple(found.shape)} {found.dtype}"
            )
        for block in _blocks(expected):
            yield start + block.start, expected[block], found[block]


def _blocks(logits: Float[Tensor, "chunk vocab"]) -> list[slice]:
    rows = _ROWS[logits.device.type]
    return [slice(start, start + rows) for start in range(0, len(logits), rows)]


def _errors(
    expected: Float[Tensor, "rows vocab"], found: Float[Tensor, "rows vocab"]
) -> dict[str, Tensor]:
    """The fields of `Errors`, without `vocab`.

    Raises:
        ValueError: the two have different shapes, which torch might broadcast.
    """
    if expected.shape != found.shape:
        raise ValueError(f"chunks of {tuple(expected.shape)} and {tuple(found.shape)} logits")
    # NaN differs from everything, as it should; -0.0 equals 0.0.
    if torch.equal(expected, found):
        nothing = torch.zeros(len(expected), dtype=torch.float64, device=expected.device)
        same = dict.fromkeys(("abs_sum", "square_sum", "abs_max"), nothing)
        return dict.fromkeys(("differing", "nonfinite"), nothing.long()) | same
    differing = (expected != found).sum(-1)
    error = _subtract(expected, found)
    norm = torch.linalg.vector_norm
    square_sum = norm(error, 2, dim=-1, dtype=torch.float64) ** 2
    absolute = error.abs_()
    return {
        "differing": differing,
        "nonfinite": _count_nonfinite(found),
        "abs_sum": absolute.sum(-1, dtype=torch.float64),
        "square_sum": square_sum,
        "abs_max": absolute.amax(-1).double(),
    }


def _agreement(
    expected: Float[Tensor, "rows vocab"],
    found: Float[Tensor, "rows vocab"],
    differing: Int[Tensor, "rows"],
) -> dict[str, Tensor]:
    """What `PositionMetrics` has beside the errors, but for the first difference."""
    top2 = expected.topk(2, dim=-1)
    agreement = {
        "reference_top1": top2.indices[:, 0],
        "margin": top2.values[:, 0].double() - top2.values[:, 1].double(),
        "reference_bits": _bits(expected),
    }
    if not bool(differing.any()):
        kl = torch.zeros(len(expected), dtype=torch.float64, device=expected.device)
        return agreement | {"kl": kl, "subject_top1": top2.indices[:, 0]}
    return agreement | {
        "kl": _kl_divergence(expected, _subtract(expected, found)),
        # argmax and topk may break ties differently: the same function for both.
        "subject_top1": found.topk(2, dim=-1).indices[:, 0],
    }


def _subtract(
    expected: Float[Tensor, "rows vocab"], found: Float[Tensor, "rows vocab"]
) -> Float[Tensor, "rows vocab"]:
    """Exact for half precision; in fp32 close values subtract exactly (Sterbenz)."""
    return found.float() - expected.float()


def _require_finite(logits: Float[Tensor, "rows vocab"], what: str, start: int) -> None:
    if not _is_finite(logits):
        raise ValueError(f"{what} at positions from {start} are not finite")


def _is_finite(logits: Float[Tensor, "rows vocab"]) -> bool:
    # One pass: either end is NaN if any value is.
    return all(bool(end.isfinite()) for end in logits.aminmax())


def _count_nonfinite(logits: Float[Tensor, "rows vocab"]) -> Int[Tensor, "rows"]:
    if _is_finite(logits):
        return torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    return (~logits.isfinite()).sum(-1)


def _bits(logits: Float[Tensor, "rows vocab"]) -> Int[Tensor, "rows"]:
    """A checksum of the bit patterns: any one value that changes changes it."""
    contiguous = logits.contiguous()
    if logits.shape[-1] * logits.element_size() % 8 == 0:  # several at a time, five times as fast
        return contiguous.view(torch.int64).sum(-1)
    integer = {2: torch.int16, 4: torch.int32}[logits.element_size()]
    return contiguous.view(integer).sum(-1, dtype=torch.int64)


def _first_difference(
    differing: Int[Tensor, "rows"],
    expected: Float[Tensor, "rows vocab"],
    found: Float[Tensor, "rows vocab"],
    start: int,
) -> tuple[list[int], list[float]]:
    row = int(differing.nonzero()[0])
    token = int((expected[row] != found[row]).nonzero()[0])
    return [start + row, token], [float(expected[row, token]), float(found[row, token])]


def _kl_divergence(
    reference: Float[Tensor, "rows vocab"], error: Float[Tensor, "rows vocab"]
) -> Float[Tensor, "rows"]:
    """KL(reference || subject) = log E[exp(error)] - E[error], the mean taken under reference.

    Written with expm1 because the divergence is of second order in the error: differences of
    log-probabilities would lose it to rounding.
    """
    probability = reference.double().softmax(-1)
    error = error.double()
    mean = (probability * error).sum(-1, keepdim=True)
    centred = error - mean
    return torch.log1p((probability * (torch.expm1(centred) - centred)).sum(-1))
