"""What a client computed, from its process to the parent: a JSON line for each thing seen."""

import hashlib
import json
from pathlib import Path
from typing import Any

from jaxtyping import Shaped
from pydantic import TypeAdapter
from torch import Tensor

from validation.reporting.client_records import Figure, Value

_SEEN: TypeAdapter[Value | Figure] = TypeAdapter(Value | Figure)


class Seen:
    """Writes down what an exercise saw, line by line: what it had seen when it died is kept."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("a", encoding="utf-8")

    def value(
        self, name: str, found: Tensor | str, reference: Shaped[Tensor, "..."] | None = None
    ) -> None:
        """Something that the release and the fork must compute alike, bit for bit.

        Args:
            name: what it is.
            found: the tensor, or a text.
            reference: what `transformers` computes. Where it is given the release may differ from
                it; the fork may not.
        """
        differing = None
        if reference is not None and isinstance(found, Tensor):
            differing = int((found != reference).sum())
        size = found.numel() if isinstance(found, Tensor) else len(found)
        self._write(
            Value(name=name, sha256=digest(found), size=size, unlike_transformers=differing)
        )

    def figure(self, name: str, value: float, at_most: float | None = None) -> None:
        """Something measured; `at_most` is what it may be."""
        self._write(Figure(figure=name, value=value, at_most=at_most))

    def close(self) -> None:
        """No more is seen."""
        self._file.close()

    def _write(self, seen: Value | Figure) -> None:
        self._file.write(seen.model_dump_json() + "\n")
        self._file.flush()


def read_seen(file: Path) -> list[Value | Figure]:
    """What was seen, in order; half a line at the end was being written when the process died."""
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").split("\n")[:-1]
    return [_SEEN.validate_json(line) for line in lines]


def digest(found: Any) -> str:
    """A sha256 over the bits of a tensor, its dtype and shape; or over a text."""
    if isinstance(found, str):
        return hashlib.sha256(found.encode()).hexdigest()
    tensor = found.detach().contiguous().cpu()
    head = json.dumps([str(tensor.dtype), list(tensor.shape)])
    # -0.0 and 0.0 are the same value: adding 0 makes them the same bits.
    return hashlib.sha256(head.encode() + (tensor + 0).numpy().tobytes()).hexdigest()
