"""The study of learned frequencies: its parts, its page, and a run."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from transformer_lens_fork.errors import InputError
from validation.studies.blocks import mean_within
from validation.studies.excerpts import Plan, draw_excerpt, rotate
from validation.studies.learned_page import compose, say_beside_unfitted
from validation.studies.learned_results import NAMES, collect
from validation.studies.learned_study import STUDY
from validation.studies.losses import block_means, compared, loss_ranges, paired
from validation.studies.readings import Readings
from validation.studies.records import StudyRecord, Unit, Values
from validation.tests.conftest import ROPE, SMALLEST, command, save_checkpoint
from validation.tests.studies.made import make_record, run_in_fork

TRAINED = 512
PAIRS = 8
PLAIN = 1e4 ** -(np.arange(PAIRS) / PAIRS)
LLAMA3 = np.where(np.arange(PAIRS) < 5, PLAIN, PLAIN / 8)


@pytest.fixture(scope="module")
def probed(fork: Path, checkpoint: Path) -> dict[str, Any]:
    """What the script found."""
    printed = run_in_fork(fork, "validation.tests.studies.learned_probe", fork, checkpoint)
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def test_an_excerpt_with_all_keys_is_the_whole_text(probed: dict[str, Any]) -> None:
    """Keys that were kept and are turned to where they belong: the model's own losses."""
    # In float64, summed in another order; angles are formed in float32 on one side.
    assert probed["excerpt"] == pytest.approx(probed["whole"], rel=1e-5)
    assert probed["without"] != pytest.approx(probed["whole"], rel=1e-3)


def test_keys_are_kept_piece_by_piece(probed: dict[str, Any]) -> None:
    """In the first layer they are the text's; in the second a lead brings them closer to it."""
    without, led = probed["keys_by_layer"]
    # Matrix products of other shapes may sum in another order.
    assert max(without[0], led[0]) < 1e-12
    assert 0 < led[1] < without[1]


def test_a_key_counts_as_often_as_it_stands_for(probed: dict[str, Any]) -> None:
    """Two of a kind are one of twice the weight."""
    assert probed["weighted"] == pytest.approx(probed["doubled"], rel=1e-9)
    assert probed["weighted"] != pytest.approx(probed["without"], rel=1e-6)


def test_gradients_are_those_of_the_logarithm(probed: dict[str, Any]) -> None:
    """Of the slowest pair, beside a central difference of 1e-5, good to its square."""
    assert probed["gradient"][-1] == pytest.approx(probed["slope"], rel=1e-3)
    assert np.all(np.isfinite(probed["gradient"]))


def test_nothing_but_frequencies_is_fitted(probed: dict[str, Any]) -> None:
    """They move, stay positive, and all else stays what it was."""
    assert {name.rsplit(".", 1)[-1] for name in probed["changed"]} == {"rotary_inv_freq"}
    assert min(probed["fitted"]) > 0
    assert len(probed["steps"]) == len(probed["mixed_steps"]) == 4


def test_a_mixture_of_one_scheme_is_that_scheme(probed: dict[str, Any]) -> None:
    """Turned further by hooks, a model computes what it would with those frequencies."""
    mixture, linear, plain = (np.array(probed[name]) for name in ("mixture", "linear", "plain"))
    # Angles are rounded to float32 once more: up to 1e-5 radians at the end of this text.
    assert np.abs(mixture - linear).max() < 1e-3
    assert np.abs(plain - linear).max() > 0.1


def test_a_study_fits_and_writes_its_page(tmp_path: Path) -> None:
    """On a tiny checkpoint, beyond its trained length, on text that is not the window's."""
    rope = ROPE | {"original_max_position_embeddings": 128}
    model = save_checkpoint(tmp_path / "model", **SMALLEST, rope_parameters=rope)
    arguments = ("study", "learned", "--checkpoint", model, "--contexts", "256", "--seeds", "1")
    process = command(*arguments, "--out", tmp_path / "out")
    assert process.returncode == 0, process.stdout + process.stderr
    lines = (tmp_path / "out" / "study.jsonl").read_text().splitlines()
    records = [StudyRecord.model_validate_json(line) for line in lines]
    values = {record.unit["frequencies"]: record.values for record in records}
    assert list(values) == ["plain", "llama3", "learned", "mixture"]
    for name in ("learned", "mixture"):
        start, stop = np.array(values[name]["evaluation_text"])
        first, last = np.array(values[name]["training_text"])
        assert last <= start or stop <= first
        assert np.array(values[name]["loss_nats_by_step"]).shape == (Plan().steps,)
    assert np.array(values["mixture"]["shares_by_layer_and_kv_head"]).shape == (1, 2, 5)
    assert "## Findings" in (tmp_path / "out" / "study.md").read_text()


def test_excerpts_weigh_what_they_leave_out() -> None:
    """Keys come before the queries, no key twice, and their weights add up to all that do."""
    plan, random = Plan(queries=8, first=4, near=16, sampled=32), np.random.default_rng(0)
    starts = set()
    for _ in range(200):
        excerpt = draw_excerpt(400, plan, random)
        keys = excerpt.keys.numpy()
        assert np.all(np.diff(keys) > 0)
        assert keys[-1] == excerpt.start - 1
        assert excerpt.stop - excerpt.start == 8
        assert excerpt.stop <= 400
        assert np.exp(excerpt.log_weights.numpy()).sum() == pytest.approx(excerpt.start)
        assert len(keys) <= 4 + 16 + 32
        starts.add(excerpt.start)
    assert min(starts) < 130
    assert max(starts) > 380


def test_excerpts_of_a_short_text_have_all_keys() -> None:
    """Where there is nothing to sample from, each key stands for itself."""
    excerpt = draw_excerpt(20, Plan(), np.random.default_rng(0))
    assert excerpt.keys.tolist() == list(range(excerpt.start))
    assert torch.count_nonzero(excerpt.log_weights) == 0


def test_rotations_add_up() -> None:
    """By one angle and then by another, as hooks and model do."""
    torch.manual_seed(0)
    x = torch.randn(1, 5, 2, 8, dtype=torch.float64)
    a, b = torch.randn(2, 5, 2, 4, dtype=torch.float64)
    torch.testing.assert_close(rotate(rotate(x, a), b), rotate(x, a + b))
    assert not torch.allclose(rotate(x, a), x)


def test_blocks_add_up_to_the_mean() -> None:
    """Of whole ranges; a last block that is cut short stands for itself."""
    losses = np.random.default_rng(0).normal(3, 1, 1023)
    blocks = np.array(block_means(losses))
    assert len(blocks) == 16
    assert mean_within([blocks], 0, 960).value == pytest.approx(losses[:960].mean(), abs=1e-6)
    assert blocks[-1] == pytest.approx(losses[960:].mean(), abs=1e-6)


def test_paired_differences_are_surer_than_the_losses() -> None:
    """The text's own ups and downs are in both, and drop out."""
    rng = np.random.default_rng(0)
    text = [rng.normal(3, 1, 64) for _ in range(2)]
    other = [each + 0.02 + rng.normal(0, 0.001, 64) for each in text]
    found = paired(other, text, 0, 64 * 64)
    assert found.low < 0.02 < found.high
    assert found.high - found.low < 0.01
    assert compared(found).startswith("higher by 0.0")
    assert compared(paired(text, other, 0, 64 * 64)).startswith("lower by 0.0")
    assert compared(paired(text, text, 0, 64 * 64)) == "the same"
    assert "no different" in compared(mean_within([rng.normal(0, 1, 64)], 0, 64 * 64))


def test_ranges_of_losses_meet_at_the_trained_length() -> None:
    """Nothing is left out, and no range holds what was trained and what was not."""
    for context, trained in ((12_288, 8192), (8192, 8192), (512, 8192), (8200, 8192), (700, 128)):
        ranges = loss_ranges(context, trained)
        assert ranges[0][0] == 0
        assert ranges[-1][1] == context
        assert all(one[1] == other[0] for one, other in pairwise(ranges))
        if context - trained >= 64:
            assert trained in {start for start, _ in ranges}


def reading(name: str, seed: int, loss: float, beyond: float, ratio: float = 0.5) -> StudyRecord:
    """One text with some frequencies: losses before and beyond the trained length."""
    noise = np.random.default_rng(seed).normal(0, 0.3, 16)
    schemes = {"plain": PLAIN, "linear": PLAIN / 2, "dynamic": PLAIN, "yarn": PLAIN}
    values: Values = {
        "trained_tokens": TRAINED,
        "loss_nats_by_block": [*(noise + np.repeat([loss, beyond], 8))],
        "inv_freq_radians_of_schemes": {
            each: [*map(float, f)] for each, f in (schemes | {"llama3": LLAMA3}).items()
        },
    }
    plan: Values = {
        "steps": 8,
        "rate": 0.1,
        "queries_per_step": 8,
        "keys_per_step": 52,
        "piece_tokens": 128,
        "lead_tokens": 16,
        "loss_nats_by_step": [*[4.0] * 4, *[3.0] * 4],
    }
    if name == "learned":
        slowed = np.where(LLAMA3 < PLAIN, PLAIN * ratio, PLAIN)
        values |= plan | {"inv_freq_radians": [*map(float, slowed)]}
    if name == "mixture":
        shares = [0.6, 0.1, 0.1, 0.1, 0.1]
        values |= plan | {"shares_by_layer_and_kv_head": [[[*shares]] * 2] * 3}
    unit: Unit = {"frequencies": name, "context": 2 * TRAINED, "seed": seed}
    return make_record("learned", unit, values)


def findings(learned: float, seeds: tuple[int, ...] = (0, 1), other_seed: float = 0.0) -> str:
    """All sentences, for a loss of the learned frequencies beyond the trained length."""
    records = [
        each
        for seed in seeds
        for each in (
            reading("plain", seed, 3.0, 4.0),
            reading("llama3", seed, 3.2, 3.8),
            reading("learned", seed, 3.0, learned + seed * other_seed),
            reading("mixture", seed, 3.0, 4.0),
        )
    ]
    return " ".join(compose(records).findings)


def test_findings_say_that_a_fit_helped() -> None:
    """And by how much, beside what it started from and beside Llama 3.1."""
    found = findings(3.5)
    assert "fit of the learned frequencies helped: the loss is lower by 0.5 [0.5, 0.5]" in found
    assert "lower by 0.3 [0.3, 0.3] nats beside that of Llama 3.1's" in found
    assert "fit of the mixture of schemes did not help: the loss is the same beside plain" in found
    assert "Llama 3.1 higher by 0.2 [0.2, 0.2] nats; learned frequencies and mixture" in found
    assert "Llama 3.1 slows 3 of 8 pairs by more than 1%" in found
    assert "seed 0 slows 3 of them and 0 of the other 5" in found
    assert "plain RoPE 0.600" in found
    hardly = [reading(name, 0, 3.0, 4.0, 0.999) for name in NAMES]
    assert "seed 0 slows 0 of them and 0 of the other 5" in " ".join(compose(hardly).findings)
    assert "on 6 of 6 differences" in found


def test_fits_are_compared_with_schemes_that_need_none() -> None:
    """Those that are better than plain RoPE, on the same texts; other texts are refused."""
    records = [reading(name, seed, 3.0, 4.0) for name in NAMES for seed in (0, 1)]
    found = collect(records)
    plain = found.readings["plain"]
    better, worse = (
        {seed: reading("plain", seed, 3.0, loss).values for seed in plain} for loss in (3.5, 4.5)
    )
    schemes = Readings(
        found.context, found.trained, {"plain": plain, "yarn": better, "alibi": worse}
    )
    said = say_beside_unfitted(found, schemes, {"yarn": "YaRN", "alibi": "ALiBi"})
    assert "the loss of the learned frequencies is higher by 0.5 [0.5, 0.5] nats beside" in said
    assert "of the same 2 texts" in said
    assert said.count("YaRN's") == 2
    assert "ALiBi" not in said
    others = Readings(found.context, found.trained, {"plain": worse})
    with pytest.raises(ValueError, match="not of the same texts"):
        say_beside_unfitted(found, others, {})


def test_findings_say_that_a_fit_did_harm() -> None:
    """The same sentences, turned round; and seeds that do not agree."""
    found = findings(4.5, other_seed=0.5)
    assert "fit of the learned frequencies did harm: the loss is higher by 0.75 [" in found
    assert "nats beside that of Llama 3.1's fixed smoothing" in found
    assert "on 5 of 6 differences" in found
    assert "not on learned frequencies at 512-1k (+0.5, +1)" in found


def test_one_seed_is_said_to_be_one() -> None:
    """And a run that was stopped before its first seed was done has no page."""
    assert "One seed was measured" in findings(3.5, seeds=(0,))
    with pytest.raises(InputError, match=r"no seed with all of plain RoPE, Llama 3\.1"):
        compose([reading("plain", 0, 3.0, 4.0), reading("learned", 1, 3.0, 4.0)])


def test_code_that_measures_is_in_the_key() -> None:
    """What the study's measurement imports from beside it changes what its records are."""
    assert all(path.exists() for path in STUDY.files)
    assert {"excerpts", "learned", "learned_study", "schemes", "scores"} <= {
        path.stem for path in STUDY.files
    }
