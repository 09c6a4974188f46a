"""Edits through hooks are what they are called, and the page says what the records do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from validation.studies.blocks import is_zero, mean_within, means_of_blocks, ranges_of
from validation.studies.interventions import Frequencies
from validation.studies.interventions_findings import MAIN, MOVED, NONE, PATCH, Changes, Patches
from validation.studies.interventions_page import compose
from validation.studies.interventions_study import STUDY, edit_of
from validation.studies.patching import Passkeys, Patched, passkeys, share_of_way
from validation.studies.records import StudyRecord
from validation.tests.conftest import command
from validation.tests.studies.made import make_record, run_in_fork

HALF_ULP = 2.0**-24
"""Of a number in fp32, relative to it: what one rounding costs at most."""

ROTATION = 3 * 2**0.5 * HALF_ULP
"""Of one rotation, relative to the pair's length: sine or cosine, product and sum are rounded, of
two products that together are at most sqrt(2) times as long."""


@pytest.fixture(scope="module")
def found(checkpoint: Path, fork: Path) -> dict[str, Any]:
    """What `intervening.py` found."""
    printed = run_in_fork(fork, "validation.tests.studies.intervening", checkpoint)
    results: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return results


def test_frequencies_have_the_models_bits(found: dict[str, Any]) -> None:
    """Cosines and sines of the angles are the model's tables, and all three bands are there."""
    assert found["frequencies"]["tables"]
    assert found["bands"] == ["high", "low", "medium"]


def test_an_empty_edit_changes_nothing(found: dict[str, Any]) -> None:
    """Bit for bit."""
    assert found["frequencies"]["empty"]


@pytest.mark.parametrize("edit", ["unscaled", "x 2"])
def test_hooks_rotate_as_a_model_loaded_with_the_frequencies(
    edit: str, found: dict[str, Any]
) -> None:
    """Two rotations differ from one by the roundings of three, whatever the angle."""
    apart = found["frequencies"][edit]
    assert apart["rotated"] <= 3 * ROTATION
    assert apart["unedited"] > 1e4 * ROTATION
    # What rounding makes of it after two layers of sharp attention is measured beside the effect.
    assert apart["loss"] < 1e-3 * apart["unedited loss"]


def test_scores_see_only_differences_of_positions(found: dict[str, Any]) -> None:
    """All tokens moved: what changes is the rounding of four angles and of the rotations."""
    scores = found["scores"]
    largest_angle = 256 + 500
    assert scores["all moved"] <= 4 * largest_angle * HALF_ULP + 4 * ROTATION
    assert min(scores["half moved"], scores["keys moved"], scores["still"]) > 0.1


def test_scores_are_sums_over_bands(found: dict[str, Any]) -> None:
    """Each band removed once leaves twice the whole, up to the rounding of sums of 48 products."""
    assert found["scores"]["bands"] <= 4 * 48 * HALF_ULP


def test_a_patch_with_the_same_activation_changes_nothing(found: dict[str, Any]) -> None:
    """Bit for bit, before the first layer and between layers."""
    patches = found["patches"]
    assert patches["own activation"]
    assert patches["same prompt"] == patches["same prompt, patched"]


def test_a_patch_before_the_first_layer_is_the_other_prompt(found: dict[str, Any]) -> None:
    """Bit for bit; before a later layer it is not."""
    patches = found["patches"]
    assert patches["layer 0"] == patches["corrupted"]
    assert patches["clean"] != pytest.approx(patches["corrupted"], abs=1e-3)
    assert patches["layer 1"] != pytest.approx(patches["corrupted"], abs=1e-3)


def test_what_is_attended_to_most_is_what_patterns_say(found: dict[str, Any]) -> None:
    """In every layer, head and query, and losses are those of TransformerLens."""
    tops = found["tops"]
    assert tops["differing"] == 0
    assert tops["layers"] == 2
    assert tops["not their own"] > 0.5
    # Other chunks of logits sum in another order.
    assert tops["loss"] < 1e-5


def letters(text: str) -> list[int]:
    """A tokenizer that has a token for every character."""
    return [ord(letter) for letter in text]


def test_passkeys_differ_in_the_token_that_is_asked_for() -> None:
    """Both prompts have the context's length, and end right before the digit."""
    text = torch.arange(1000, 1500)
    prompts = passkeys(letters, text, 300, 0.25, np.random.default_rng(3))
    assert prompts.clean.shape == prompts.corrupted.shape == (1, 300)
    different = (prompts.clean != prompts.corrupted).nonzero()
    assert different.tolist() == [[0, prompts.position]]
    assert chr(prompts.answer) in "123456789"
    assert chr(prompts.other) in "123456789"
    tail = "".join(chr(token) for token in prompts.clean[0, -40:].tolist() if token < 1000)
    assert tail.endswith("The passkey is ")
    assert 50 < prompts.position < 120


def test_passkeys_are_refused_where_they_have_no_room_or_no_single_token() -> None:
    """By a ValueError that says which."""
    text, generator = torch.arange(1000, 1500), np.random.default_rng(0)
    with pytest.raises(ValueError, match="no room"):
        passkeys(letters, text, 60, 0.25, generator)
    with pytest.raises(ValueError, match="do not differ in one token"):
        passkeys(lambda text: letters(text) * 2, text, 300, 0.25, generator)


def test_the_share_of_the_way_is_of_log_odds() -> None:
    """None of it for the clean prompt's, all of it for the patch before layer 0."""
    patched = Patched((-1.0, -5.0), {0: (-3.0, -1.0), 1: (-2.0, -3.0), 2: (-1.0, -5.0)})
    assert [share_of_way(patched, layer) for layer in (0, 1, 2)] == [1.0, 0.5, 0.0]
    assert Passkeys(torch.tensor([[4, 5]]), torch.tensor([[4, 6]]), 1).other == 6


def test_blocks_keep_means_and_drop_a_short_rest() -> None:
    """63 of 64 positions are a block, 10 are not."""
    values = np.arange(138.0)
    assert means_of_blocks(values).tolist() == [31.5, 95.5]
    assert len(means_of_blocks(values[:127])) == 2
    assert means_of_blocks(values[:10]).tolist() == [4.5]
    assert ranges_of(1024) == [(0, 256), (256, 512), (512, 1024)]
    assert ranges_of(1030)[-1] == (512, 1030)
    assert ranges_of(1088)[-1] == (1024, 1088)
    assert mean_within([np.array([1.0, 2.0, 3.0])] * 2, 64, 192).value == 2.5


def test_every_edit_has_a_name_that_makes_it() -> None:
    """Each unit's edit can be made, and the units of long contexts are the main ones."""
    frequencies = Frequencies(
        torch.tensor([1.0, 0.1, 0.01]), torch.tensor([1.0, 0.05, 0.001]), ("high", "medium", "low")
    )
    units = STUDY.units((4096, 16384), (0, 1))
    for unit in units:
        if unit["edit"] != PATCH:
            edit = edit_of(str(unit["edit"]), frequencies, 64)
            assert (unit["edit"] == NONE) == all(part is None for part in vars(edit).values())
    far = [unit["edit"] for unit in units if unit["context"] == 16384]
    assert far == [NONE, *MAIN]
    assert {unit["seed"] for unit in units if unit["context"] == 4096} == {0, 1}
    moved = edit_of(MOVED, frequencies, 64)
    assert moved.key_positions is not None
    assert moved.key_positions[:16].tolist() == list(range(-16, 0))
    assert moved.key_positions[16:].tolist() == list(range(16, 64))
    low = edit_of("low band x 2", frequencies, 64).inv_freq
    assert low is not None
    assert low.tolist() == pytest.approx([1.0, 0.05, 0.002])


Change = Callable[[int, int], float]
"""Of the loss in a block, by its number and the seed."""


def made(change: Change, reading: float, seeds: int = 2) -> list[StudyRecord]:
    """The main edits at 1k tokens, all with this change, and patches that are read late."""
    generator = np.random.default_rng(0)
    losses = 3 + generator.normal(size=(seeds, 16))
    records = []
    for seed in range(seeds):
        for edit in (NONE, "high band still", *MAIN):
            added = [0 if edit == NONE else change(block, seed) for block in range(16)]
            unit = {"edit": edit, "context": 1024, "seed": seed}
            values = {"loss_nats_by_block": (losses[seed] + added).tolist()}
            records.append(make_record("interventions", unit, values))
        for prompt in range(2):
            unit = {"edit": PATCH, "prompt": prompt, "context": 1024, "seed": seed}
            moved = reading * (1 + 0.1 * prompt)
            values = {
                "tokens_before_the_end": 800 + prompt,
                "clean_log_probs_nats": [-1.0, -4.0],
                "layers": [0, 10, 20],
                "patched_log_probs_nats": [
                    [-1.0 - moved, -4.0],
                    [-1.0 - moved, -4.0],
                    [-1.0, -4.0],
                ],
            }
            records.append(make_record("interventions", unit, values))
    return records


def wavy(block: int, seed: int) -> float:
    """Half a nat, give or take."""
    return 0.5 + 0.01 * (block % 2)


def test_changes_are_paired_and_said_with_their_sign() -> None:
    """A change of half a nat is exact under noise of one nat that both runs have."""
    page = compose(made(wavy, 2.0))
    text = "\n".join(page.findings)
    assert "the high band kept from rotating +0.505 [+0.5" in text
    assert "of 4 edits 0 lower the loss and 0 change it by no more than the uncertainty" in text
    assert text.count("no different within the uncertainty in the last") == 3
    assert "moves the log-odds of the two digits by +2.1 [" in text
    assert "100% before layer 10, 0% before layer 20 of that: of the 3 layers that were" in text
    assert "half or more still before layer 10, no longer before layer 20." in text
    assert "the 2 seeds' texts agree on 4 of 4 changes over the whole window." in text


def test_the_other_way_is_said_as_well() -> None:
    """Losses that fall, more so at the end, in one seed more than in the other; and no passkey."""
    records = made(lambda block, seed: -0.01 * block * (1 + seed), -0.001)
    text = "\n".join(compose(records).findings)
    assert "none of 4 edits raises the loss beyond the uncertainty; 4 lower it (" in text
    assert "lower in the last" in text
    assert "higher in the last" not in text
    assert "no more than the uncertainty: of layers this says nothing" in text
    assert (
        "on 0 of 4 changes over the whole window; not on 'high band still' at 1k (-0.075, -0.15)"
        in text
    )


def test_a_context_of_one_seed_agrees_with_nothing() -> None:
    """It is not counted among those whose seeds agree, and said."""
    once = [
        record.model_copy(update={"unit": record.unit | {"context": 1020}})
        for record in made(wavy, 2.0, seeds=1)
    ]
    text = compose([*made(wavy, 2.0), *once]).findings[-1]
    assert "on 4 of 4 changes over the whole window. At 1020 tokens one seed was measured." in text


def test_a_page_of_some_units_is_a_page() -> None:
    """A study that was stopped: no patches, one seed; or patches alone."""
    some = [record for record in made(wavy, 1.0, seeds=1) if record.unit["edit"] != PATCH]
    page = compose(some)
    assert page.findings[-1].startswith("One seed was measured")
    assert {picture.name for picture in page.pictures} == {"bands", "far"}
    patches = [record for record in made(wavy, 1.0) if record.unit["edit"] == PATCH]
    assert {picture.name for picture in compose(patches).pictures} == {"patching"}
    changes = Changes.of(some)
    assert not is_zero(changes.whole(MOVED, 1024))
    assert Patches.of(patches)[0].shares == [1.0, 1.0, 0.0]


def test_a_study_writes_its_page(tmp_path: Path) -> None:
    """Two layers of real weights: every edit, and a position patched."""
    arguments = ("--checkpoint", "smollm2", "--layers", 2, "--contexts", 512, "--seeds", 1)
    process = command("study", "interventions", *arguments, "--threads", 1, "--out", tmp_path)
    assert process.returncode == 0, process.stderr
    lines = (tmp_path / "study.jsonl").read_text().splitlines()
    assert len(lines) == len(STUDY.units((512,), (0,)))
    assert "## Findings" in (tmp_path / "study.md").read_text()
    assert (tmp_path / "study.html").stat().st_size > 100_000


def test_a_checkpoint_without_tokenizer_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """By one sentence, before anything is measured."""
    run = command(
        "study", "interventions", "--checkpoint", checkpoint, "--contexts", 512, "--out", tmp_path
    )
    assert run.returncode == 2
    assert "has no tokenizer, so that no passkey can be written" in run.stderr
    assert (tmp_path / "study.jsonl").read_text() == ""
