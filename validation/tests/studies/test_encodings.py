"""The study of position encodings: its parts, its page, and a run."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from transformer_lens_fork.errors import InputError
from validation.studies.encodings import count_differing, largest_by_distance, spread_queries
from validation.studies.encodings_page import compose
from validation.studies.encodings_results import NAMES
from validation.studies.encodings_study import STUDY, plan_units
from validation.studies.estimates import octaves
from validation.studies.records import StudyRecord, Unit, Values
from validation.tests.conftest import ROPE, command, save_checkpoint
from validation.tests.studies.made import make_record, run_in_fork

TRAINED = 512


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint that was 'trained' on so few tokens that a test goes beyond them."""
    rope = ROPE | {"original_max_position_embeddings": 256}
    return save_checkpoint(tmp_path_factory.mktemp("short") / "model", rope_parameters=rope)


def test_run_finds_what_hugging_face_computes(short: Path, tmp_path: Path) -> None:
    """Every scheme at twice the trained length: no value differs."""
    arguments = ("study", "encodings", "--checkpoint", short, "--contexts", "512", "--seeds", "1")
    process = command(*arguments, "--out", tmp_path)
    assert process.returncode == 0, process.stdout + process.stderr
    lines = (tmp_path / "study.jsonl").read_text().splitlines()
    records = [StudyRecord.model_validate_json(line) for line in lines]
    checks = {r.unit["scheme"]: r.values for r in records if "compared_with" in r.unit}
    assert list(checks) == [name for name in NAMES if name != "alibi"]
    assert {name: values["values_differing"] for name, values in checks.items()} == dict.fromkeys(
        checks, 0
    )
    readings = {r.unit["scheme"]: r.values for r in records if "seed" in r.unit}
    assert list(readings) == list(NAMES)
    losses = {name: str(values["loss_nats_by_block"]) for name, values in readings.items()}
    assert len(set(losses.values())) == len(NAMES), "every scheme is another model"
    page = (tmp_path / "study.md").read_text()
    assert "0 of the fork's " in page
    assert (tmp_path / "study.html").exists()


def test_alibi_by_columns_is_the_biased_computation(checkpoint: Path, fork: Path) -> None:
    """In float32 and bfloat16, with groups of heads and a width that is no power of two."""
    printed = run_in_fork(fork, "validation.tests.studies.alibi_probe", fork, checkpoint)
    rows = [line.split() for line in printed.splitlines() if line[:1].isdigit()]
    assert len(rows) == 2
    for own, ours in rows:
        # Both beside float64. Fused attention sums in another order: 1.4 times the error of the
        # bias matrix was measured on SmolLM2 in float32; a wrong slope makes it a million times.
        assert float(ours) <= 3 * float(own)
        assert float(own) > 0


def test_units_load_each_model_once() -> None:
    """A scheme's units follow each other; only ALiBi is not compared with Hugging Face."""
    units = plan_units((512, 1024), (0, 1))
    schemes = [unit["scheme"] for unit in units]
    assert list(dict.fromkeys(schemes)) == list(NAMES)
    assert sum(a != b for a, b in pairwise(schemes)) == len(NAMES) - 1
    assert len(units) == 8 * 2 * 2 + 7 * 2
    assert not any(u["scheme"] == "alibi" for u in units if "compared_with" in u)


def test_code_that_measures_is_in_the_key() -> None:
    """What the study's measurement imports from beside it changes what its records are."""
    names = {path.stem for path in STUDY.files}
    assert {"encodings", "encodings_study", "schemes", "scores", "losses", "estimates"} == names
    assert all(path.exists() for path in STUDY.files)


def test_queries_are_spread_over_every_range() -> None:
    """The last of each range among them, no query twice, also where a range is short."""
    ranges = octaves(1000)
    found = spread_queries(ranges, 16)
    assert len(set(found)) == len(found) == 16 * len(ranges)
    assert {stop - 1 for _, stop in ranges} <= set(found)
    assert spread_queries([(0, 3)], 16) == [0, 1, 2]


def test_largest_score_is_that_of_keys_so_far_away() -> None:
    """As by going through every key; NaN where the text does not reach half as far."""
    torch.manual_seed(0)
    queries, distances = [3, 40, 99], [(0, 8), (8, 32), (32, 100)]
    scores = torch.randn(2, 3, 100)
    for row, query in enumerate(queries):
        scores[:, row, query + 1 :] = -torch.inf
    found = largest_by_distance(scores, queries, distances)
    for row, query in enumerate(queries):
        for column, (near, far) in enumerate(distances):
            keys = [key for key in range(100) if near <= query - key < far]
            if query < (near + far) // 2:
                assert found[:, row, column].isnan().all()
            else:
                assert torch.equal(found[:, row, column], scores[:, row, keys].amax(-1))


def test_differing_values_are_counted() -> None:
    """Also where one is NaN, which equals nothing."""
    one = torch.tensor([1.0, 2.0, torch.nan, 0.0])
    assert count_differing(one, torch.tensor([1.0, 2.5, torch.nan, -0.0])) == 2


def reading(
    scheme: str, seed: int, loss: float, beyond: float, entropy: float = 3.0
) -> StudyRecord:
    """One text under a scheme: losses before and beyond the trained length, with noise by text."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 0.3, 16)
    ranges = octaves(2 * TRAINED)
    queries = spread_queries(ranges, 16)
    values: Values = {
        "trained_tokens": TRAINED,
        "factor": 2.0,
        "attention_scaling": 1.0,
        "loss_nats_by_block": [*(noise + np.repeat([loss, beyond], 8))],
        "ranges": [list(each) for each in ranges],
        "queries": [*queries],
        "entropy_nats_by_query": [entropy] * len(queries),
        "largest_score_by_range_and_query": [
            [5.0 if query >= (a + b) // 2 else None for query in queries] for a, b in ranges
        ],
        "largest_score_of_all": 20.0,
    }
    unit: Unit = {"scheme": scheme, "context": 2 * TRAINED, "seed": seed}
    return make_record("encodings", unit, values)


def check(scheme: str, differing: int) -> StudyRecord:
    """One comparison with Hugging Face."""
    unit: Unit = {"scheme": scheme, "context": 2 * TRAINED, "compared_with": "transformers"}
    values: Values = {
        "checked_tokens": 1024,
        "values": 5000,
        "values_differing": differing,
        "largest_difference": 0.5 * differing,
    }
    return make_record("encodings", unit, values)


def findings(*records: StudyRecord) -> str:
    """All sentences of the page."""
    return " ".join(compose(list(records)).findings)


def test_findings_say_what_the_figures_are() -> None:
    """Llama 3.1 better beyond the trained length: differences are of the same text, so certain."""
    found = findings(
        *(check(scheme, 0) for scheme in ("plain", "llama3")),
        *(reading("plain", seed, 3.0, 4.0) for seed in (0, 1)),
        *(reading("llama3", seed, 3.0, 3.5, entropy=2.5) for seed in (0, 1)),
    )
    assert "0 of the fork's 10,000 values of the final hidden states differ (" in found
    assert "Llama 3.1's loss is lower by 0.5 [0.5, 0.5] nats beside plain RoPE's" in found
    assert "nats is: Llama 3.1 the same." in found
    assert "lowest under Llama 3.1, 2.5 [2.5, 2.5], and highest under plain RoPE, 3 [3, 3]" in found
    assert "Llama 3.1's lower by 0.5 [0.5, 0.5] beside plain RoPE's 3 [3, 3]" in found
    assert "the 2 seeds' texts agree on 2 of 2 differences from plain RoPE." in found
    order = found[found.index("losses in nats") :]
    assert order.index("Llama 3.1") < order.index("plain RoPE")


def test_findings_turn_with_the_figures() -> None:
    """Llama 3.1 worse, a value that differs, and seeds that do not agree."""
    found = findings(
        check("llama3", 7),
        *(reading("plain", seed, 3.0, 3.5) for seed in (0, 1)),
        reading("llama3", 0, 3.1, 4.5),
        reading("llama3", 1, 3.1, 4.1),
    )
    assert "7 of the fork's 5,000 values of the final hidden states differ, under Llama" in found
    assert "Llama 3.1's loss is higher by 0.8 [" in found
    assert "nats is: Llama 3.1 higher by 0.1 [0.1, 0.1] nats" in found
    assert "on 1 of 2 differences from plain RoPE; not on Llama 3.1 at 512-1k (+1, +0.6)" in found
    order = found[found.index("losses in nats") :]
    assert order.index("plain RoPE") < order.index("Llama 3.1")


def test_a_single_seed_and_a_short_context_are_said() -> None:
    """Nothing is claimed of agreement, or of positions that were not read."""
    short = reading("plain", 0, 3.0, 3.0), reading("yarn", 0, 3.0, 3.0)
    for each in short:
        each.unit["context"] = TRAINED
        each.values["ranges"] = [list(span) for span in octaves(TRAINED)]
    found = findings(*short)
    assert "No context goes beyond the 512 tokens of training" in found
    assert "One seed was measured" in found
    assert "YaRN the same" in found


def test_page_has_every_scheme_and_needs_plain_rope(tmp_path: Path) -> None:
    """In its tables; records of a run that was stopped before it read plain RoPE are refused."""
    schemes = [reading(name, 0, 3.0 + i, 4.0) for i, name in enumerate(NAMES)]
    page = compose(schemes)
    text = json.dumps([row.cells for table in page.tables for row in table.rows])
    assert all(name in text for name in NAMES.values())
    assert {picture.name for picture in page.pictures} == {"losses", "attention"}
    assert "One seed" in findings(schemes[0])
    with pytest.raises(InputError, match="no reading under plain RoPE"):
        compose(schemes[1:])
