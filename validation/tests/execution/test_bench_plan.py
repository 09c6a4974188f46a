"""What fits is attempted, what does not is named, and a point is known again."""

from dataclasses import replace
from pathlib import Path

import pytest

from transformer_lens_fork.errors import InputError
from validation.__main__ import _CONTESTANTS, _WORKLOADS
from validation.execution.bench_grid import CONTESTANTS, WORKLOADS, Bench, choose_bench
from validation.execution.bench_plan import choose_groups, plan_points
from validation.models.trees import Tree
from validation.tests.execution.test_cases import REQUEST, SURROUNDINGS
from validation.tests.execution.test_plan import LLAMA_8B, SMOLLM2

STOCK = Tree("stock", Path("stock"), "f" * 64, None, loads_itself=False)
SMALL = replace(
    REQUEST,
    checkpoint=replace(REQUEST.checkpoint, shape=SMOLLM2, positions=131072),
    contexts=(1024, 16384, 65536),
    trees=(*REQUEST.trees, STOCK),
    memory_bytes=14 * 2**30,
)


def bench(**changes: object) -> Bench:
    """All contestants at all works, with these changes to the request."""
    return Bench(replace(SMALL, **changes), CONTESTANTS, tuple(WORKLOADS), 5)  # type: ignore[arg-type]


def test_eager_attention_ends_where_sdpa_goes_on() -> None:
    """At 1k all fit; at 16k and 64k nine heads' scores do not, and the sentence says so."""
    (group,) = choose_groups(bench())
    assert group == CONTESTANTS
    for point in plan_points(bench(), group):
        names = [who.name for who in point.fitting]
        if point.context == 1024:
            assert names == ["fork-sdpa", "hf-sdpa", "fork-eager", "stock"]
        else:
            assert names == ["fork-sdpa", "hf-sdpa"]
            (reason, _) = filter(None, point.refusals.values())
            assert f"{point.context} tokens need" in reason
            assert "14.0 GiB may be taken (--memory)" in reason


def test_models_that_do_not_fit_side_by_side_run_in_pairs() -> None:
    """Four of an 8B Llama take 130 GB, two 66 GB."""
    checkpoint = replace(SMALL.checkpoint, shape=LLAMA_8B)
    groups = choose_groups(bench(checkpoint=checkpoint, memory_bytes=160 * 2**30))
    names = [[who.name for who in group] for group in groups]
    assert names == [["fork-sdpa", "hf-sdpa"], ["fork-eager", "stock"]]


def test_a_key_follows_what_could_change_the_figures() -> None:
    """Also who took turns; not how much memory there is beyond what they need."""

    def keys(changed: Bench) -> list[str]:
        return [
            point.key(changed, SURROUNDINGS)
            for group in choose_groups(changed)
            for point in plan_points(changed, group)
        ]

    before = keys(bench())
    assert len(set(before)) == len(before) == 9
    assert keys(bench(memory_bytes=15 * 2**30)) == before
    other_tree = replace(REQUEST.trees[0], sha256="0" * 64)
    for changed in (
        bench(trees=(other_tree, STOCK)),
        bench(dtypes=("bfloat16",)),
        replace(bench(), repeats=6),
        replace(bench(), contestants=CONTESTANTS[:2]),
    ):
        assert not set(keys(changed)) & set(before)


def test_a_tree_without_fused_attention_is_refused(tmp_path: Path) -> None:
    """And so is a context that leaves no room for what is generated."""
    names = tuple(who.name for who in CONTESTANTS)
    with pytest.raises(InputError, match="--tree: 'stock' has no fused attention"):
        choose_bench(replace(SMALL, trees=(STOCK,)), names, ("forward",), 1)
    fused = tmp_path / "transformer_lens" / "config" / "hooked_transformer_config.py"
    fused.parent.mkdir(parents=True)
    fused.write_text("attn_implementation")
    request = replace(
        SMALL, trees=(replace(REQUEST.trees[0], path=tmp_path), STOCK), contexts=(131072,)
    )
    assert choose_bench(request, names, ("forward",), 1).workloads == ("forward",)
    with pytest.raises(InputError, match="128 tokens after 131072 are more than the 131072"):
        choose_bench(request, names, ("forward", "generate"), 1)


def test_the_command_line_knows_the_same_names() -> None:
    """It has a copy of them, as their module takes seconds to import."""
    assert tuple(who.name for who in CONTESTANTS) == _CONTESTANTS
    assert tuple(WORKLOADS) == _WORKLOADS
