"""The figures of the study `frequencies`, taken from its records, each with its uncertainty."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from validation.studies.contrasts import loaded
from validation.studies.estimates import BLOCK, Estimate, blocks_of, mean, ratio_of_means
from validation.studies.frequencies import BANDS
from validation.studies.records import StudyRecord
from validation.studies.texts import over_texts


@dataclass(frozen=True)
class Selectivity:
    """What pairs add to a landmark's score over the mean key's, in a landmark's heads.

    Attributes:
        texts: of each, means of neighbouring queries, shape [sample, pair], in nats.
        bands: of each pair.
    """

    texts: tuple[NDArray[np.float64], ...]
    bands: tuple[str, ...]

    @property
    def total(self) -> Estimate:
        """Of all pairs."""
        return over_texts(mean(samples.sum(1)) for samples in self.texts)

    def of_band(self, band: str) -> Estimate:
        """The sum over a band's pairs."""
        return over_texts(mean(samples[:, self._pairs(band)].sum(1)) for samples in self.texts)

    def share(self, band: str) -> Estimate:
        """A band's part of the total; less than none where the band is against the landmark."""
        return over_texts(
            ratio_of_means(samples[:, self._pairs(band)].sum(1), samples.sum(1))
            for samples in self.texts
        )

    def of_a_pair(self, band: str) -> Estimate:
        """The mean over a band's pairs."""
        return over_texts(mean(samples[:, self._pairs(band)].mean(1)) for samples in self.texts)

    @property
    def of_pairs(self) -> list[Estimate]:
        """Each pair's own."""
        return [
            over_texts(mean(samples[:, pair]) for samples in self.texts)
            for pair in range(len(self.bands))
        ]

    def _pairs(self, band: str) -> NDArray[np.bool_]:
        return np.array([each == band for each in self.bands])


@dataclass(frozen=True)
class Context:
    """What was measured at one context, with all seeds.

    Attributes:
        tokens: of context.
        records: one a seed.
    """

    tokens: int
    records: tuple[StudyRecord, ...]

    @property
    def seeds(self) -> list[int]:
        """In the order of the records."""
        return [int(record.unit["seed"]) for record in self.records]

    @property
    def wavelengths(self) -> list[float]:
        """Of each pair, unscaled, in tokens."""
        return [float(each) for each in loaded(self.records[0].values["wavelengths_tokens"])]

    @property
    def bands(self) -> tuple[str, ...]:
        """Of each pair."""
        return tuple(_names(self.records[0].values["bands"]))

    @property
    def present(self) -> list[str]:
        """Bands that have a pair, highest frequencies first."""
        return [band for band in BANDS if band in self.bands]

    @property
    def landmarks(self) -> list[str]:
        """Those that were measured."""
        return _names(self.records[0].values["landmarks"])

    @property
    def octaves(self) -> list[tuple[int, int]]:
        """Of distance, that every query has whole, or nearly."""
        return [(int(a), int(b)) for a, b in loaded(self.records[0].values["octaves"])]

    @property
    def n_heads(self) -> int:
        """Of all layers."""
        return int(loaded(self.records[0].values["attention_of_heads"])[0].size)

    def heads(self, landmark: str) -> list[list[tuple[int, int]]]:
        """A landmark's heads, seed by seed."""
        found = [_mapping(record.values["heads"])[landmark] for record in self.records]
        return [[(int(a), int(b)) for a, b in loaded(each)] if each else [] for each in found]

    def selectivity(
        self, landmark: str, records: Sequence[StudyRecord] | None = None
    ) -> Selectivity | None:
        """Of a landmark, in all texts that have heads of it; None if none has."""
        samples = []
        for record in self.records if records is None else records:
            rows = _mapping(record.values["selectivity_of_rows"])[landmark]
            if rows:
                samples.append(blocks_of(loaded(rows), self._block(record)))
        return Selectivity(tuple(samples), self.bands) if samples else None

    def deviation(self, band: str) -> list[Estimate]:
        """Mean absolute contribution of a band's pair, octave by octave of distance."""
        which = BANDS.index(band)
        texts = [
            blocks_of(loaded(record.values["deviation_of_rows"]), self._block(record))
            for record in self.records
        ]
        return [
            over_texts(mean(samples[:, octave, which]) for samples in texts)
            for octave in range(texts[0].shape[1])
        ]

    def _block(self, record: StudyRecord) -> int:
        step = int(loaded(record.values["queries"])[2])
        return max(1, BLOCK // step)


def by_context(records: Sequence[StudyRecord]) -> list[Context]:
    """The records by context, ascending."""
    lengths = sorted({int(record.unit["context"]) for record in records})
    return [
        Context(length, tuple(each for each in records if each.unit["context"] == length))
        for length in lengths
    ]


def _names(values: JsonValue) -> list[str]:
    assert isinstance(values, list)
    return [str(each) for each in values]


def _mapping(values: JsonValue) -> dict[str, JsonValue]:
    assert isinstance(values, dict)
    return values
