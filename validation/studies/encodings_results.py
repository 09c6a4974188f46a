"""The readings of the study of position encodings, as its records hold them, and compared."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from transformer_lens_fork.errors import InputError
from validation.studies.estimates import Estimate, mean
from validation.studies.losses import loss_ranges
from validation.studies.readings import Numbers, Readings
from validation.studies.records import StudyRecord, Values
from validation.studies.texts import over_texts

NAMES = {
    "plain": "plain RoPE",
    "linear": "linear interpolation",
    "dynamic": "dynamic NTK",
    "yarn": "YaRN",
    "longrope": "LongRoPE",
    "llama3": "Llama 3.1",
    "p-rope": "0.75-RoPE",
    "alibi": "ALiBi",
}
"""As people know them, in the order in which they are shown."""

BASELINE = "plain"
SUBJECT = "llama3"


@dataclass(frozen=True)
class Measured(Readings):
    """The readings of one context, by scheme."""

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Of positions, for losses."""
        return loss_ranges(self.context, self.trained)

    @property
    def reaches_beyond(self) -> bool:
        """Whether there are positions that no training text had."""
        return self.context > self.trained

    def common(self, scheme: str, other: str) -> list[int]:
        """Seeds that were measured under both."""
        return sorted(self.readings[scheme].keys() & self.readings[other].keys())

    def excess(self, scheme: str, other: str, start: int, stop: int) -> Estimate:
        """By how much a scheme's loss exceeds another's on the same text, in nats."""
        seeds = self.common(scheme, other)
        return over_texts(self.excess_of_seeds(scheme, other, start, stop, seeds))

    @property
    def query_ranges(self) -> list[tuple[int, int]]:
        """Of positions of queries, and of distances."""
        found = np.array(next(iter(self.readings[BASELINE].values()))["ranges"])
        return [(int(start), int(stop)) for start, stop in found]

    def of_queries(self, scheme: str, number: int | None) -> Estimate:
        """The mean entropy of the last range's queries, in nats.

        Args:
            scheme: whose.
            number: of a range of distances, for the largest score among such keys in its place.
        """
        if number is None:
            return self.entropy_by_range(scheme)[-1]
        return _of_finite(self._scores(scheme, number, sorted(self.readings[scheme])))

    def excess_of_queries(self, scheme: str, other: str, number: int | None) -> Estimate:
        """By how much that of one scheme exceeds another's, query by query."""
        seeds = self.common(scheme, other)
        ones, others = (
            self._last_entropies(name, seeds)
            if number is None
            else self._scores(name, number, seeds)
            for name in (scheme, other)
        )
        return _of_finite([one - other for one, other in zip(ones, others, strict=True)])

    def entropy_by_range(self, scheme: str) -> list[Estimate]:
        """The mean entropy of the queries of each range, in nats."""
        entropies = self.series(scheme, "entropy_nats_by_query")
        at = self.series(scheme, "queries")
        return [
            over_texts(
                mean(e[(q >= start) & (q < stop)]) for e, q in zip(entropies, at, strict=True)
            )
            for start, stop in self.query_ranges
        ]

    def each(self, scheme: str, name: str) -> list[float]:
        """A number of every text."""
        return [float(value) for value in self.series(scheme, name)]

    def one(self, scheme: str, name: str) -> float:
        """A number that is the same for all texts."""
        return self.each(scheme, name)[0]

    def _last_entropies(self, scheme: str, seeds: Sequence[int]) -> list[Numbers]:
        start = self.query_ranges[-1][0]
        entropies = self.series(scheme, "entropy_nats_by_query", seeds)
        at = self.series(scheme, "queries", seeds)
        return [e[q >= start] for e, q in zip(entropies, at, strict=True)]

    def _scores(self, scheme: str, number: int, seeds: Sequence[int]) -> list[Numbers]:
        name = "largest_score_by_range_and_query"
        return [every[number] for every in self.series(scheme, name, seeds)]

    @property
    def others(self) -> list[str]:
        """All schemes but the baseline that read a text which the baseline read, too."""
        return [
            scheme
            for scheme in self.readings
            if scheme != BASELINE and self.common(scheme, BASELINE)
        ]


def _of_finite(texts: Sequence[Numbers]) -> Estimate:
    return over_texts(mean(values[np.isfinite(values)]) for values in texts)


def collect(records: Iterable[StudyRecord]) -> list[Measured]:
    """The readings by context, ascending.

    Raises:
        InputError: plain RoPE, with which all is compared, was not read.
    """
    found: dict[int, dict[str, dict[int, Values]]] = {}
    trained = 0
    for record in records:
        unit = record.unit
        schemes = found.setdefault(int(unit["context"]), {})
        schemes.setdefault(str(unit["scheme"]), {})[int(unit["seed"])] = record.values
        trained = int(np.array(record.values["trained_tokens"]))
    measured = [
        Measured(context, trained, {name: schemes[name] for name in NAMES if name in schemes})
        for context, schemes in sorted(found.items())
        if BASELINE in schemes
    ]
    if not measured:
        raise InputError("--out: holds no reading under plain RoPE, with which all is compared.")
    return measured
