"""Bits that differ have different digests, and what was seen survives a dead process."""

from pathlib import Path

import pytest
import torch

from validation.clients.observations import Seen, digest, read_seen
from validation.reporting.client_records import Figure, Value

_X = torch.tensor([1.0, 0.0, 3.0])


@pytest.mark.parametrize(
    "other",
    [torch.nextafter(_X, _X + 1), _X.double(), _X[None], _X.flip(0), torch.tensor([1, 0, 3])],
)
def test_another_tensor_has_another_digest(other: torch.Tensor) -> None:
    """One unit in the last place, a dtype, a shape or an order is enough."""
    assert digest(other) != digest(_X)


def test_the_same_values_have_the_same_digest() -> None:
    """A layout in memory and the sign of zero are no values."""
    assert digest(torch.stack([_X, _X]).T[:, 0]) == digest(_X)
    assert digest(torch.tensor([1.0, -0.0, 3.0])) == digest(_X)
    assert digest("a") != digest("b")


def test_half_a_line_is_left_out(tmp_path: Path) -> None:
    """A killed process may leave half a line; what came before it counts."""
    file = tmp_path / "seen.jsonl"
    assert read_seen(file) == []
    seen = Seen(file)
    seen.value("x", _X, reference=_X + torch.tensor([0.0, 1.0, 0.0]))
    seen.figure("y", 2.0, at_most=1.0)
    seen.close()
    with file.open("a", encoding="utf-8") as unfinished:
        unfinished.write('{"name": "z"')
    value, figure = read_seen(file)
    assert isinstance(value, Value)
    assert (value.name, value.size, value.unlike_transformers) == ("x", 3, 1)
    assert isinstance(figure, Figure)
    assert figure.is_beyond
