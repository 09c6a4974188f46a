"""The readings of the study of learned frequencies, as its records hold them, and compared."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from transformer_lens_fork.errors import InputError
from validation.studies.estimates import Estimate
from validation.studies.readings import Numbers, Readings
from validation.studies.records import StudyRecord, Values
from validation.studies.texts import over_texts

NAMES = {
    "plain": "plain RoPE",
    "llama3": "Llama 3.1",
    "learned": "learned frequencies",
    "mixture": "mixture of schemes",
}
"""As people know them; the first is what fits start from."""

FITS = ("learned", "mixture")

SCHEME_NAMES = {
    "plain": "plain RoPE",
    "linear": "linear interpolation",
    "dynamic": "dynamic NTK",
    "yarn": "YaRN",
    "llama3": "Llama 3.1",
}


@dataclass(frozen=True)
class Fitted(Readings):
    """The readings of one context, of the seeds for which all of them were made."""

    @property
    def seeds(self) -> list[int]:
        """Ascending."""
        return sorted(self.readings["plain"])

    @property
    def spans(self) -> list[tuple[int, int]]:
        """What training texts had, and what is beyond, if anything is."""
        inside = (0, min(self.trained, self.context))
        return [inside, (self.trained, self.context)] if self.context > self.trained else [inside]

    def excess(self, name: str, other: str, where: tuple[int, int]) -> Estimate:
        """By how much one loss exceeds another on the same text, in nats."""
        return over_texts(self.excess_of_seeds(name, other, *where))

    def scheme(self, name: str) -> Numbers:
        """Frequencies of a scheme, in radians a token."""
        first = self.readings["plain"][self.seeds[0]]
        return np.array(dict(first["inv_freq_radians_of_schemes"])[name])  # type: ignore[arg-type]

    def ratios(self, seed: int) -> Numbers:
        """Learned frequencies over those that the fit started from, by pair."""
        (found,) = self.series("learned", "inv_freq_radians", [seed])
        return found / self.scheme("plain")

    def shares(self) -> list[Numbers]:
        """Of every seed the schemes' shares, shape [layer, kv_head, scheme]."""
        return self.series("mixture", "shares_by_layer_and_kv_head")

    def mixed_ratios(self) -> Numbers:
        """The mixture's frequencies over plain RoPE's, shape [seed * layer * kv_head, pair]."""
        schemes = np.stack([self.scheme(name) for name in SCHEME_NAMES])
        shares = np.concatenate([each.reshape(-1, len(schemes)) for each in self.shares()])
        return shares @ schemes / self.scheme("plain")


def collect(records: Sequence[StudyRecord]) -> Fitted:
    """The readings of the longest context.

    Raises:
        InputError: no seed has all of its four readings.
    """
    context = max(int(record.unit["context"]) for record in records)
    here = [record for record in records if record.unit["context"] == context]
    readings: dict[str, dict[int, Values]] = {name: {} for name in NAMES}
    for record in here:
        readings[str(record.unit["frequencies"])][int(record.unit["seed"])] = record.values
    seeds = set.intersection(*(set(each) for each in readings.values()))
    if not seeds:
        raise InputError(f"--out: holds no seed with all of {', '.join(NAMES.values())}.")
    whole = {n: {s: each[s] for s in sorted(seeds)} for n, each in readings.items()}
    trained = int(np.array(here[0].values["trained_tokens"]))
    return Fitted(context, trained, whole)
