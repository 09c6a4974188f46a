"""What is attended to most is found, runs are told apart, and the page says what records do."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from validation.studies.blocks import ranges_of
from validation.studies.drift import changed_tops, losses_of, moved_by, top_attended
from validation.studies.drift_findings import ABS_DELTA, DELTA, MOVES_NATS, SIDES, TOPS, moved_name
from validation.studies.drift_page import compose
from validation.studies.drift_study import STUDY
from validation.studies.records import StudyRecord
from validation.tests.conftest import command
from validation.tests.studies.made import make_record


def test_the_most_attended_position_is_where_the_product_is_largest() -> None:
    """Of 300 queries, more than are taken at a time, each wants one key, its own or an earlier."""
    n = 300
    wanted = torch.arange(n) // 2
    k = torch.eye(n)[None, :, None]
    q = torch.eye(n)[wanted][None, :, None]
    assert top_attended(q, k).tolist() == [wanted.tolist()]


def test_no_key_after_the_query_is_attended_to() -> None:
    """A query that wants a later key takes the first of all that are equal."""
    k = torch.eye(4)[None, :, None]
    q = torch.eye(4)[torch.tensor([3, 3, 3, 3])][None, :, None]
    assert top_attended(q, k).tolist() == [[0, 0, 0, 3]]


def test_query_heads_share_key_heads_and_queries_may_be_the_last_ones() -> None:
    """Heads 0 and 1 see the first key head, 2 and 3 the second; two queries of five keys."""
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(1, 5, 4, 8, generator=generator)
    k = torch.randn(1, 5, 2, 8, generator=generator)
    scores = torch.einsum("qhd,khd->hqk", q[0], k[0].repeat_interleave(2, dim=1))
    expected = scores.masked_fill(~torch.ones(5, 5).tril().bool(), -torch.inf).argmax(-1)
    assert torch.equal(top_attended(q, k), expected)
    assert torch.equal(top_attended(q[:, 3:], k), expected[:, 3:])


def test_scores_are_not_rounded_to_bfloat16() -> None:
    """Two keys whose scores differ by less than bfloat16 shows are not equal."""
    q = torch.ones(1, 2, 1, 2, dtype=torch.bfloat16)
    k = torch.tensor([[256.0, 0.0], [256.0, 0.5]], dtype=torch.bfloat16)[None, :, None]
    assert top_attended(q, k).tolist() == [[0, 1]]


def test_losses_are_cross_entropies() -> None:
    """Of every token but the first, whatever the chunks."""
    generator = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(6, 11, bias=False)
    hidden = torch.randn(9, 6, generator=generator)
    tokens = torch.randint(11, (1, 9), generator=generator)
    with torch.no_grad():
        found = losses_of(hidden, head, tokens)
        expected = functional.cross_entropy(head(hidden)[:-1], tokens[0, 1:], reduction="none")
    torch.testing.assert_close(found, expected)


def test_changes_are_counted_and_measured() -> None:
    """Two of six positions change, by 3 and by 5 tokens."""
    one = np.array([[[0, 1, 2], [0, 0, 7]]], dtype=np.int32)
    other = np.array([[[0, 1, 5], [0, 0, 2]]], dtype=np.int32)
    assert changed_tops(one, other).sum() == 2
    assert moved_by(one, other).tolist() == [3, 5]
    assert moved_by(one, one).tolist() == []


Figure = Callable[[int, int], float]
"""By the block's number and the seed."""


def made(dtype: str, stock: Figure, reordered: Figure, seeds: int = 2) -> list[StudyRecord]:
    """Runs of 1k tokens in which every figure of a side is the same function, shares of it less."""
    records = []
    for seed in range(seeds):
        values: dict[str, object] = {
            "reference_loss_nats_by_block": [3.0] * 16,
            "keys_of_one_forward": 1024,
        }
        for side, figure in zip(SIDES, (stock, reordered), strict=True):
            blocks = [figure(block, seed) for block in range(16)]
            for name in (TOPS, ABS_DELTA, *map(moved_name, MOVES_NATS)):
                values[f"{side}_{name}_by_block"] = blocks
            values[f"{side}_{DELTA}_by_block"] = [
                value * (-1) ** block for block, value in enumerate(blocks)
            ]
            values[f"{side}_top_changed_share_by_layer_and_head"] = [[0.0, blocks[-1]], [0.0, 0.0]]
            values[f"{side}_top_changed_by_range"] = [int(100 * blocks[i]) for i in (0, 4, 8)]
            values[f"{side}_top_moved_median_tokens_by_range"] = [7.0, 8.0, 9.0]
        unit = {"dtype": dtype, "context": 1024, "seed": seed}
        records.append(make_record("drift", unit, values, dtype))
    assert len(ranges_of(1024)) == 3
    return records


def test_an_error_that_grows_is_said_to_grow_beyond_the_floor() -> None:
    """In float32; and in bfloat16, where both sides are alike, that it is at the floor."""
    records = [
        *made("float32", lambda block, _: 0.01 * (block + 1), lambda block, _: 0.01),
        *made("bfloat16", lambda block, _: 0.2 + 0.01 * (block % 3), lambda block, _: 0.2),
    ]
    for record in records[2:]:
        for name in (TOPS, ABS_DELTA):
            record.values[f"reordered_{name}_by_block"] = record.values[f"stock_{name}_by_block"]
    page = compose(records)
    tops, losses, half_tops, half_losses, bias, seeds = page.findings
    assert tops.startswith("float32, 1k tokens: stock attends to another position most")
    assert "stock's share is 8.5 times as much." in tops
    assert (
        ", more. 1 of 4 heads do so at 1 % of their queries or more, most of all head 1 of" in tops
    )
    assert "stock's is 8.5 times as much; 0.025 [" in losses
    assert "no different within the uncertainty. It is" in half_tops
    assert "stock's is no different within the uncertainty" in half_losses
    assert "float32 -0.005 [" in bias
    assert bias.count("neither better nor worse within the uncertainty") >= 1
    assert "the 2 seeds' texts agree on 12 of 12 figures over the whole window." in seeds
    assert {picture.name for picture in page.pictures} == {"positions", "heads"}
    assert len(page.tables) == 2


def test_the_other_way_is_said_as_well() -> None:
    """Stock nearer than a reordering and less so at the end, other in each seed, and biased."""
    records = made(
        "float32", lambda block, seed: 0.1 * (17 - block) * (1 + 0.5 * seed), lambda block, _: 50.0
    )
    for record in records:
        record.values[f"stock_{DELTA}_by_block"] = [0.5 + 0.01 * (block % 2) for block in range(16)]
    tops, losses, bias, seeds = compose(records).findings
    assert ", less." in tops
    assert ", less." in losses
    assert "times as much" in tops
    assert "float32 0.51 [0.5, 0.51] (0 [-18, 18] when reordered), worse, no more so than" in bias
    assert "not on float32, most attended positions of stock (+0.95, +1.43)" in seeds


def test_nothing_moved_is_a_page_too() -> None:
    """Zero everywhere, of one seed: no curve on a logarithmic axis, and no division."""
    page = compose(made("float32", lambda *_: 0.0, lambda *_: 0.0, seeds=1))
    assert "heads do so" not in page.findings[0]
    assert "share is no different within the uncertainty" in page.findings[0]
    assert page.findings[-1].startswith("One seed was measured")


@pytest.mark.long
def test_a_study_finishes_and_goes_on_where_it_was(tmp_path: Path) -> None:
    """Two dtypes are two units; a second run measures nothing; a third dtype is refused."""
    arguments = ("--checkpoint", "smollm2", "--layers", 1, "--contexts", 512, "--seeds", 1)
    first = command("study", "drift", *arguments, "--threads", 1, "--out", tmp_path)
    assert first.returncode == 0, first.stderr
    lines = (tmp_path / "study.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["dtype"] for record in records] == list(STUDY.dtypes)
    # float32: what a reordering moves is far below what bfloat16's moves, and nothing is zero.
    moved = [np.mean(r["values"]["reordered_loss_abs_delta_nats_by_block"]) for r in records]
    assert 0 < moved[0] < 1e-3 < moved[1]
    assert np.mean(records[0]["values"]["stock_loss_abs_delta_nats_by_block"]) > 0
    second = command("study", "drift", *arguments, "--threads", 1, "--out", tmp_path)
    assert second.returncode == 0, second.stderr
    assert (tmp_path / "study.jsonl").read_text().splitlines() == lines
    assert "## Findings" in (tmp_path / "study.md").read_text()
    assert (tmp_path / "study.html").stat().st_size > 50_000


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [("--dtype", "float32,float16", "--dtype: 'float16'"), ("--contexts", "64", "64 is too short")],
)
def test_what_is_not_measured_is_refused(
    option: str, value: str, says: str, tmp_path: Path
) -> None:
    """By one sentence."""
    arguments = ("--checkpoint", "smollm2", "--layers", 1, option, value, "--out", tmp_path)
    run = command("study", "drift", *arguments)
    assert run.returncode == 2
    assert says in run.stderr
