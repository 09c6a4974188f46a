"""The figures of the study `position-bias`, taken from its records, each with its uncertainty."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from validation.studies.contrasts import loaded
from validation.studies.estimates import BLOCK, Estimate, mean, mean_of_positions
from validation.studies.records import StudyRecord
from validation.studies.texts import over_texts

NEEDLE = "needle"
ATTENTION = "attention"

MOST_COPYING = 10
"""Heads whose lists two seeds are compared by."""


@dataclass(frozen=True)
class Profiles:
    """How attention is divided, of all seeds' windows.

    Attributes:
        records: one a seed.
    """

    records: tuple[StudyRecord, ...]

    @property
    def octaves(self) -> list[tuple[int, int]]:
        """Of distances, and of positions."""
        return [(int(a), int(b)) for a, b in loaded(self.records[0].values["octaves"])]

    @property
    def groups(self) -> list[range]:
        """Queries of each octave of positions."""
        groups = loaded(self.records[0].values["groups"]).astype(int)
        return [range(*map(int, group)) for group in groups]

    def octave(self, group: int) -> tuple[int, int]:
        """The positions that a group's queries stand for, the end excluded."""
        stop = self.groups[group][-1] + 1
        return stop // 2, stop

    def of_rows(
        self, name: str, group: int, records: Sequence[StudyRecord] | None = None
    ) -> list[NDArray[np.float64]]:
        """What was measured at the rows of a group, seed by seed."""
        start = sum(len(each) for each in self.groups[:group])
        rows = slice(start, start + len(self.groups[group]))
        chosen = self.records if records is None else records
        return [loaded(record.values[name])[rows] for record in chosen]

    def averages(self, group: int, texts: Iterable[NDArray[np.float64]]) -> list[Estimate]:
        """Means over rows of a group; those within a block of positions are drawn together."""
        block = max(1, BLOCK // self.groups[group].step)
        return [mean_of_positions(values, block) for values in texts]

    def first(self, group: int) -> Estimate:
        """Share of the first token."""
        return over_texts(self.first_by_seed(group))

    def first_by_seed(self, group: int) -> list[Estimate]:
        """The same, seed by seed."""
        return self.averages(group, self.of_rows("first_of_rows", group))

    def at_distances(
        self,
        group: int,
        low: int,
        high: int | None,
        records: Sequence[StudyRecord] | None = None,
    ) -> Estimate:
        """Share of keys, the first token aside, at least `low` and less than `high` away."""
        chosen = [low <= start and (high is None or stop <= high) for start, stop in self.octaves]
        texts = self.of_rows("by_distance_of_rows", group, records)
        return over_texts(self.averages(group, (shares[:, chosen].sum(-1) for shares in texts)))

    def curve(self, name: str, group: int) -> list[Estimate]:
        """The mean of each octave."""
        texts = self.of_rows(name, group)
        return [
            over_texts(self.averages(group, (shares[:, each] for shares in texts)))
            for each in range(texts[0].shape[1])
        ]

    def first_of_heads(self, group: int) -> NDArray[np.float64]:
        """Share of the first token, mean of seeds, shape [layer, head]."""
        found = [loaded(record.values["first_of_heads_by_group"])[group] for record in self.records]
        return np.asarray(np.mean(found, axis=0))

    @property
    def other_sinks(self) -> list["OtherSink"]:
        """Seed by seed, the key that most layers have as theirs."""
        found = []
        for record in self.records:
            positions = loaded(record.values["other_sink_positions"]).astype(int)
            shares = loaded(record.values["other_sink_by_layer"])
            exceeds = shares > loaded(record.values["first_by_layer"])
            common = int(np.bincount(positions).argmax())
            layers = positions == common
            highest = int(np.where(layers, shares, 0).argmax())
            tokens_of_layers = record.values["other_sink_tokens"]
            assert isinstance(tokens_of_layers, list)
            found.append(
                OtherSink(
                    seed=int(record.unit["seed"]),
                    position=common,
                    token=str(tokens_of_layers[highest]),
                    layers=int(layers.sum()),
                    layers_beyond_first=int((layers & exceeds).sum()),
                    highest_layer=highest,
                    share=float(shares[highest]),
                )
            )
        return found


@dataclass(frozen=True)
class OtherSink:
    """The key, the first token aside, that has most attention in most layers.

    Attributes:
        seed: of its window.
        position: in the window, from 0.
        token: as text.
        layers: that have it as theirs.
        layers_beyond_first: those of them that give it more than the first token.
        highest_layer: the one that gives it most.
        share: of that layer's attention, mean of heads and queries.
    """

    seed: int
    position: int
    token: str
    layers: int
    layers_beyond_first: int
    highest_layer: int
    share: float


@dataclass(frozen=True)
class Grid:
    """Passkeys by length of the text and depth.

    Attributes:
        records: one a passkey.
    """

    records: tuple[StudyRecord, ...]

    @property
    def lengths(self) -> list[int]:
        """In tokens, ascending."""
        return sorted({int(record.unit["length"]) for record in self.records})

    @property
    def depths(self) -> list[float]:
        """0 at the beginning of the text, 1 at its end."""
        return sorted({float(record.unit["depth"]) for record in self.records})

    @property
    def seeds(self) -> list[int]:
        """Ascending."""
        return sorted({int(record.unit["seed"]) for record in self.records})

    def chosen(self, **unit: float) -> "Grid":
        """Those of this length, depth, or seed."""
        return Grid(
            tuple(
                record
                for record in self.records
                if all(record.unit[name] == value for name, value in unit.items())
            )
        )

    @property
    def gains(self) -> NDArray[np.float64]:
        """How much more likely the passkey is than one that is not in the text, nats a token."""
        return np.array([gain(record) for record in self.records])

    @property
    def mean_gain(self) -> Estimate:
        """The mean over passkeys."""
        return over_texts(mean(self.chosen(seed=seed).gains) for seed in self.seeds)

    @property
    def log_probability(self) -> float | None:
        """The passkey's own, mean of its tokens, in nats."""
        found = [loaded(record.values["log_probabilities_nats"]) for record in self.records]
        return float(np.mean(found)) if found else None

    def cell(self, length: int, depth: float) -> float:
        """The mean gain there, NaN if nothing was measured."""
        gains = self.chosen(length=length, depth=depth).gains
        return float(gains.mean()) if len(gains) else np.nan

    def over_middle(self, end: int) -> Estimate | None:
        """By how much the gain at one end exceeds that of the depths between, text by text.

        Args:
            end: 0 for the smallest depth, -1 for the largest.
        """
        depths = self.depths
        if len(depths) < 3:
            return None
        texts = []
        for seed in self.seeds:
            differences = []
            for length in self.lengths:
                row = [self.chosen(seed=seed, length=length, depth=d).gains for d in depths]
                if all(len(each) for each in row):
                    of_depths = [float(each.mean()) for each in row]
                    differences.append(of_depths[end] - float(np.mean(of_depths[1:-1])))
            if differences:
                texts.append(mean(np.array(differences)))
        return over_texts(texts) if texts else None

    @cached_property
    def copy_scores(self) -> NDArray[np.float64]:
        """Share of the passkey's tokens that a head copies, shape [passkey, layer, head]."""
        return np.array(
            [
                loaded(record.values["copied_tokens_of_heads"])
                / len(loaded(record.values["log_probabilities_nats"]))
                for record in self.records
            ]
        )

    @property
    def most_copying(self) -> list[tuple[int, int]]:
        """Layer and head of those with the highest copy scores, highest first; none with 0."""
        scores = self.copy_scores.mean(0)
        order = np.argsort(-scores, axis=None, kind="stable")[:MOST_COPYING]
        heads = [divmod(int(index), scores.shape[1]) for index in order]
        return [head for head in heads if scores[head] > 0]

    def copy_score(self, heads: Iterable[tuple[int, int]]) -> Estimate:
        """The mean of some heads, with the uncertainty over passkeys and texts."""
        chosen = np.mean([self.copy_scores[:, layer, head] for layer, head in heads], axis=0)
        seeds = np.array([record.unit["seed"] for record in self.records])
        return over_texts(mean(chosen[seeds == seed]) for seed in self.seeds)


def gain(record: StudyRecord) -> float:
    """Mean log-probability of the passkey's tokens less that of the rivals', in nats."""
    right = loaded(record.values["log_probabilities_nats"]).mean()
    return float(right - loaded(record.values["log_probability_of_rivals_nats"]).mean())


def split(records: Sequence[StudyRecord]) -> tuple[Grid | None, Profiles | None]:
    """The two parts of the study; None if a part has no record.

    Of attention that was measured at several contexts the longest is taken.
    """
    needles = tuple(record for record in records if record.unit["part"] == NEEDLE)
    attention = [record for record in records if record.unit["part"] == ATTENTION]
    longest = max((int(record.unit["context"]) for record in attention), default=0)
    attention = [record for record in attention if record.unit["context"] == longest]
    return Grid(needles) if needles else None, Profiles(tuple(attention)) if attention else None
