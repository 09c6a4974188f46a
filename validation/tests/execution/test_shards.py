"""Shards are a partition of the cases, the same on every machine, and about equally dear."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_lens_fork.errors import InputError
from validation.execution.shards import Shard, parse_shard

_COSTS = st.lists(st.floats(0, 1e6), max_size=40)


@given(costs=_COSTS, count=st.integers(1, 9))
def test_every_case_is_in_one_shard(costs: list[float], count: int) -> None:
    """None is lost, none is run twice, and a shard keeps the order of the list."""
    taken = [
        Shard(number, count).take(range(len(costs)), lambda index: costs[index])
        for number in range(1, count + 1)
    ]
    assert sorted(index for shard in taken for index in shard) == list(range(len(costs)))
    assert all(shard == sorted(shard) for shard in taken)


@given(costs=_COSTS.filter(any), count=st.integers(1, 9))
def test_shards_cost_about_the_same(costs: list[float], count: int) -> None:
    """The dearest costs no more than an equal part and one case of the dearest."""
    loads = [
        sum(Shard(number, count).take(costs, lambda cost: cost)) for number in range(1, count + 1)
    ]
    assert max(loads) <= (sum(costs) / count + max(costs)) * (1 + 1e-9)


def test_the_dearest_are_spread_first() -> None:
    """In the order of the list the first shard would have 9 + 9."""
    costs = {"a": 1.0, "b": 9.0, "c": 1.0, "d": 9.0, "e": 2.0}
    assert Shard(1, 2).take(costs, costs.__getitem__) == ["b", "e"]
    assert Shard(2, 2).take(costs, costs.__getitem__) == ["a", "c", "d"]


def test_a_shard_is_written_as_a_fraction() -> None:
    """The first of one is everything."""
    assert parse_shard("2/5") == Shard(2, 5)
    assert parse_shard("1/1").take("abc", len) == ["a", "b", "c"]


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "1/2/3", "-1/2", ""])
def test_other_words_are_refused(text: str) -> None:
    """With the field, the value and what is accepted."""
    with pytest.raises(InputError, match=r"^--shard: .* is not accepted; one of N shards such as"):
        parse_shard(text)
