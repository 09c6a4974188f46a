"""Both forms of the RoPE parameters are read alike, and what is not honoured is refused by name."""

from dataclasses import astuple
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import LlamaConfig

from transformer_lens_fork.errors import InputError
from validation.models.rope_parameters import read_rope, read_rope_of_file
from validation.tests.conftest import ROPE

TABLE = {name: value for name, value in ROPE.items() if name != "rope_theta"}
VALUES = (1e6, 4.0, 2.0, 8.0, 4096)


def _older(**fields: Any) -> SimpleNamespace:
    """What transformers 4 makes of config.json."""
    return SimpleNamespace(**{"rope_theta": 1e6, "rope_scaling": dict(TABLE)} | fields)


def test_each_form_gives_the_same_parameters() -> None:
    """Of the file in both forms, and of what either transformers makes of it."""
    for rope in (
        read_rope("x", LlamaConfig(rope_parameters=dict(ROPE))),
        read_rope("x", _older()),
        read_rope_of_file("x", {"rope_parameters": ROPE}),
        read_rope_of_file("x", {"rope_theta": 1e6, "rope_scaling": TABLE}),
        read_rope_of_file(
            "x", {"rope_theta": 1e6, "rope_scaling": TABLE, "rope_parameters": TABLE}
        ),
        read_rope_of_file("x", {"partial_rotary_factor": 1.0, "rope_parameters": ROPE}),
        read_rope_of_file("x", {"rope_parameters": ROPE | {"type": "llama3"}}),
    ):
        assert astuple(rope) == VALUES


def test_theta_has_the_default_of_transformers() -> None:
    """Where no field gives it."""
    assert read_rope_of_file("x", {"rope_scaling": TABLE}).theta == 1e4
    assert LlamaConfig(rope_parameters=dict(TABLE)).rope_parameters["rope_theta"] == 1e4


def test_transformers_4_takes_theta_from_beside_the_table() -> None:
    """A theta inside the table is not what it computes with."""
    assert read_rope("x", _older(rope_scaling=TABLE | {"rope_theta": 5.0})).theta == 1e6


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (_older(rope_scaling=None), "rope_type of 'x' is 'default'; 'llama3' is accepted"),
        (_older(rope_scaling=None, rope_parameters=ROPE), "rope_parameters, which the installed"),
        (_older(partial_rotary_factor=0.5), "partial_rotary_factor is 0.5; 1 is accepted"),
        (_older(rope_scaling=TABLE | {"type": "yarn"}), "is 'llama3' and its type 'yarn'"),
        (_older(rope_scaling=TABLE | {"rope_type": None}), "rope_type of 'x' is None"),
        (_older(rope_scaling=TABLE | {"factor": "8"}), "factor in .* is '8': Input should be"),
        (_older(rope_scaling=TABLE | {"factor": True}), "factor in .* is True: Input should be"),
        (_older(rope_scaling=TABLE | {"factor": float("nan")}), "factor in .* is nan: "),
        (_older(rope_scaling=TABLE | {"low_freq_factor": 8.0}), "are both 8; two values"),
        (_older(rope_scaling=TABLE | {"facter": 8.0}), "has facter; accepted are rope_type, type,"),
        (_older(rope_theta=0), "rope_theta in .* is 0: Input should be greater than 0"),
    ],
)
def test_what_is_not_honoured_is_named(config: SimpleNamespace, says: str) -> None:
    """One sentence with the field and its value."""
    with pytest.raises(InputError, match=rf"^--checkpoint: .*{says}") as refusal:
        read_rope("x", config)
    assert "\n" not in str(refusal.value)


def test_two_tables_that_differ() -> None:
    """One of them would be taken without a word."""
    with pytest.raises(InputError, match=r"rope_scaling and rope_parameters .* differ"):
        read_rope_of_file("x", {"rope_scaling": TABLE, "rope_parameters": TABLE | {"factor": 3.0}})


def test_swapped_factors_are_what_transformers_computes() -> None:
    """It warns of low above high and computes on; so does every subject, or it fails."""
    swapped = ROPE | {"low_freq_factor": 8.0, "high_freq_factor": 2.0}
    assert read_rope_of_file("x", {"rope_parameters": swapped}).low_freq_factor == 8.0
