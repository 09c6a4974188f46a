"""Compares what two trees showed of an architecture, and judges it."""

from collections.abc import Callable
from math import isfinite
from pathlib import Path
from statistics import fmean

import torch
from safetensors.torch import load_file
from torch import Tensor

from validation.architectures.records import Errors, Observed, Surface
from validation.architectures.verdict import Outcome
from validation.architectures.worker import (
    GRADIENT,
    LOGITS,
    OBSERVED,
    OWN_GRADIENT,
    PROCESSED,
    TENSORS,
    THEIRS,
)
from validation.reporting.records import finite

_WORST_FIRST = {
    Outcome.FURTHER: "further",
    Outcome.LEVEL: "neither nearer nor further",
    Outcome.NEARER: "nearer",
}

_Tensors = dict[str, Tensor]
_Prepare = Callable[[Tensor], Tensor]
"""What is done with both sides before they are subtracted; it has to make them float64."""


class Sides:
    """What both trees left in their folders.

    Attributes:
        before: what was observed of the release.
        after: of the fork.
    """

    def __init__(self, before: Path, after: Path) -> None:
        """Reads it."""
        self.before, self.after = (
            Observed.model_validate_json((folder / OBSERVED).read_bytes())
            for folder in (before, after)
        )
        self._before, self._after = load_file(before / TENSORS), load_file(after / TENSORS)

    def logits(self) -> Errors:
        """Without processing, as they are."""
        return self._errors(LOGITS, LOGITS)

    def processed(self) -> Errors:
        """With folded and centred weights; a constant for all tokens is no error of theirs."""
        return self._errors(PROCESSED, PROCESSED, _centred)

    def gradients(self) -> Errors:
        """Whether they are the same is asked of the tree's own, how near they are of HF's."""
        return self._errors(OWN_GRADIENT, GRADIENT)

    def fields(self) -> dict[str, tuple[str, str]]:
        """Of the configuration that are not the same; what only the fork has is no such field."""
        return differing_fields(self.before.configuration, self.after.configuration)

    def problems(self) -> tuple[str, ...]:
        """Whatever must not be at all."""
        found = list(self.after.loaded_saved or ())
        if self.before.shapes != self.after.shapes:
            found.append(
                f"the state dict is another: {_changed(self.before.shapes, self.after.shapes)}"
            )
        if self._before.keys() != self._after.keys():
            names = sorted(self._before.keys() ^ self._after.keys())
            found.append(f"one of the two has no {', '.join(names[:3])}")
        theirs = [name for name in self._before if name.startswith(THEIRS)]
        shared = [name for name in theirs if name in self._after]
        if any(_differing(self._before[name], self._after[name]) for name in shared):
            found.append("importing the tree changed what HF computes")
        return tuple(found)

    def _errors(self, compared: str, measured: str, prepare: _Prepare = Tensor.double) -> Errors:
        """Bits of one kind of tensors, distances to HF's of another or the same."""
        pairs = [
            (tensor, self._after[name])
            for name, tensor in self._before.items()
            if name.startswith(f"{compared}/") and name in self._after
        ]
        before, after = (
            _Distances(tensors, measured, prepare) for tensors in (self._before, self._after)
        )
        is_known = all(map(isfinite, (*before.means, *after.means)))
        return Errors(
            total=sum(one.numel() for one, _ in pairs),
            differing=sum(_differing(one, other) for one, other in pairs),
            # Of a NaN nobody can say how far it is.
            before=finite(before.mean),
            after=finite(after.mean),
            before_max=finite(before.most),
            after_max=finite(after.most),
            before_by_seed=before.means if is_known else (),
            after_by_seed=after.means if is_known else (),
        )


class _Distances:
    """Absolute errors to HF's of one kind of tensors, in float64.

    Attributes:
        means: the mean of each seed's model.
        mean: of these, None if HF has no tensors of that kind.
        most: the largest error, or None.
    """

    def __init__(self, tensors: _Tensors, kind: str, prepare: _Prepare) -> None:
        errors: dict[str, list[Tensor]] = {}
        for name, tensor in tensors.items():
            theirs = tensors.get(f"{THEIRS}/{name}")
            if theirs is not None and name.startswith(f"{kind}/"):
                error = (prepare(tensor) - prepare(theirs)).abs().flatten()
                errors.setdefault(name.split("/")[1], []).append(error)
        each = {seed: torch.cat(errors[seed]) for seed in sorted(errors)}
        self.means = tuple(float(error.mean()) for error in each.values())
        self.mean = fmean(self.means) if each else None
        self.most = float(torch.stack([e.max() for e in each.values()]).max()) if each else None


_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def _differing(one: Tensor, other: Tensor) -> int:
    """Entries that have not the same bits; all of them if shape or dtype are others."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return max(one.numel(), other.numel())
    kind = _INTEGERS[one.element_size()]
    return int((one.view(kind) != other.view(kind)).sum())


def _centred(logits: Tensor) -> Tensor:
    return logits.double() - logits.double().mean(-1, keepdim=True)


def _changed(before: dict[str, tuple[int, ...]], after: dict[str, tuple[int, ...]]) -> str:
    names = sorted(before.keys() | after.keys())
    return ", ".join([name for name in names if before.get(name) != after.get(name)][:3])


def differing_fields(before: dict[str, str], after: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Fields of the release that have another value in the fork, or are not there, with both."""
    return {
        name: (value, after.get(name, "absent"))
        for name, value in before.items()
        if after.get(name) != value
    }


def judge(
    kinds: dict[str, Errors], fields: dict[str, tuple[str, str]], problems: tuple[str, ...]
) -> tuple[Outcome, str]:
    """The verdict, and why.

    What differs has to be strictly nearer to HF, by more than models of other seeds vary: logits
    without processing, logits with it, and gradients, each by itself. The worst of them counts.
    """
    if problems:
        return Outcome.BROKEN, "; ".join(problems)
    if fields:
        return Outcome.BROKEN, f"the configuration has another {', '.join(fields)}"
    for outcome, said in _WORST_FIRST.items():
        found = {name: errors for name, errors in kinds.items() if errors.outcome is outcome}
        if found:
            named = (f"{name}{_times(errors)}" for name, errors in found.items())
            return outcome, f"{said} in {', '.join(named)}"
    return Outcome.SAME, Outcome.SAME.value


def _times(errors: Errors) -> str:
    """How many times the release's error the fork's is, with its interval, in brackets."""
    if errors.times is None:
        return ""
    # A change of the last bits is not rounded away.
    digits = 4 if max(abs(1 - times) for times in errors.times) > 1e-3 else 7
    middle, low, high = (f"{times:.{digits}f}" for times in errors.times)
    return f" ({middle} [{low}, {high}] times)"


def narrowed_signatures(before: Surface, after: Surface) -> list[str]:
    """What a caller of the release could no longer call, one sentence each."""
    found = []
    for name, parameters in before.signatures.items():
        if name not in after.signatures:
            found.append(f"{name} is gone")
            continue
        own = [p for p in parameters if not p.kind.startswith("VAR_")]
        now = [p for p in after.signatures[name] if not p.kind.startswith("VAR_")]
        variadic = {p.kind for p in parameters if p.kind.startswith("VAR_")}
        if now[: len(own)] != own:
            found.append(f"{name} has other parameters")
        elif any(p.default is None for p in now[len(own) :]):
            found.append(f"{name} has a new parameter without a default")
        elif not variadic <= {p.kind for p in after.signatures[name]}:
            found.append(f"{name} takes no more of any number")
    return found


def grown_signatures(before: Surface, after: Surface) -> dict[str, tuple[str, ...]]:
    """The new parameters by name, where there are any."""
    grown = {}
    for name, parameters in before.signatures.items():
        known = {p.name for p in parameters}
        new = tuple(p.name for p in after.signatures.get(name, ()) if p.name not in known)
        if new:
            grown[name] = new
    return grown
