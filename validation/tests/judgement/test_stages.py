"""Every stage sees a wrong input of its own, names the place, and passes a right one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from validation.execution.probe_files import (
    PADDED,
    ROPE,
    ROTATION,
    hidden_name,
    initial_name,
    trouble_name,
)
from validation.judgement.stages import (
    Stage,
    StageRecord,
    compare_logits,
    compare_stages,
    first_departure,
)
from validation.judgement.tally import Place
from validation.judgement.verdict import Verdict
from validation.models.rope_parameters import LLAMA_31, Llama3Rope
from validation.rope.oracles import Oracle, TransformersOracle
from validation.tests.judgement.probed import (
    HEAD_DIM,
    LAYERS,
    POSITIONS,
    TOKENS,
    Probed,
    change,
    rotate,
    write_probes,
)
from validation.tests.judgement.streams import VOCAB, floor_metrics, subject_metrics

EXACT = replace(
    subject_metrics(TOKENS, 0.0),
    differing=np.zeros(TOKENS, dtype=np.int64),
)


@pytest.fixture
def probed(tmp_path: Path) -> Probed:
    """Two sides that agree."""
    return write_probes(tmp_path)


def compare(probed: Probed, oracles: list[Oracle] | None = None) -> dict[Stage, StageRecord]:
    """The records by stage, with logits that agree."""
    records = compare_stages(
        probed.reference, probed.subject, oracles or [], EXACT, floor_metrics(TOKENS).pooled
    )
    assert [record.stage for record in records] == list(Stage)
    return {record.stage: record for record in records}


def left_at(records: dict[Stage, StageRecord]) -> list[Stage]:
    """The stages at which the subject is not the reference."""
    return [stage for stage, record in records.items() if not record.is_identical]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_same_numbers_pass_every_stage(tmp_path: Path, dtype: torch.dtype) -> None:
    """Nothing differs, and everything was compared."""
    probed = write_probes(tmp_path, dtype)
    records = compare(probed, probed.oracles)
    assert left_at(records) == []
    assert {stage.name: record.compared for stage, record in records.items()} == {
        "INV_FREQ": HEAD_DIM // 2,
        "ANGLES": POSITIONS * HEAD_DIM // 2,
        "TABLES": 2 * POSITIONS * HEAD_DIM,
        "ROTATED_QK": 4 * POSITIONS * HEAD_DIM,
        # Whole, in chunks, and in two rows of which one is padded by 13.
        "LAYER": (4 * TOKENS - 13) * LAYERS * 24,
        "LOGITS": TOKENS * VOCAB,
    }
    total = sum(record.compared for record in records.values())
    assert first_departure(list(records.values())) == (
        f"identical to transformers at every stage: 0 of {total:,} numbers differ"
    )
    assert all(record.meets(Verdict.IDENTICAL) for record in records.values())


def angles_of(probed: Probed) -> Tensor:
    """The right angles."""
    return probed.reference.rows(ROPE, "angles")


def put_angles(probed: Probed, angles: Tensor) -> None:
    """Angles, with the tables and rotations that follow from them."""
    cos, sin = (torch.cat((table, table), -1) for table in (angles.cos(), angles.sin()))
    change(probed.subject, ROPE, angles=angles, cos=cos.float(), sin=sin.float())
    q, k = (probed.reference.rows(ROTATION, name) for name in ("q", "k"))
    rotated = {"q": rotate(q, cos.float(), sin.float()), "k": rotate(k, cos.float(), sin.float())}
    change(
        probed.subject,
        ROTATION,
        **{f"{how}_{name}": x for name, x in rotated.items() for how in ("rotated", "chunked")},
    )


def test_the_double_reciprocal(probed: Probed) -> None:
    """`pos / (1 / inv_freq)`, as stock: two roundings that grow with the position."""
    inv_freq = TransformersOracle(LLAMA_31, HEAD_DIM).inv_freq()
    positions = torch.arange(POSITIONS, dtype=torch.float32)
    put_angles(probed, positions[:, None] / (1 / inv_freq)[None])
    records = compare(probed)
    # At Llama 3.1's parameters and head_dim 64 every reciprocal happens to round back.
    assert left_at(records) == [Stage.ANGLES, Stage.TABLES, Stage.ROTATED_QK]
    angles = records[Stage.ANGLES]
    assert angles.first is not None
    assert angles.first.position < 10
    # One unit in the last place of angles from 4096 to 8192.
    assert angles.largest == 2.0**-11
    assert angles.largest_at is not None
    assert angles.largest_at.position > 4096


def test_the_angles_alone(probed: Probed) -> None:
    """Right frequencies and wrong positions: bf16 holds integers exactly to 256."""
    positions = torch.arange(POSITIONS).bfloat16().float()
    inv_freq = TransformersOracle(LLAMA_31, HEAD_DIM).inv_freq()
    put_angles(probed, positions[:, None] * inv_freq)
    records = compare(probed)
    assert left_at(records) == [Stage.ANGLES, Stage.TABLES, Stage.ROTATED_QK]
    assert records[Stage.ANGLES].first == Place(257, 0)
    assert records[Stage.ANGLES].largest == 32
    assert first_departure(list(records.values())).startswith(
        "first leaves transformers at ANGLES (angles): "
    )


@pytest.mark.parametrize(
    "wrong",
    [
        Llama3Rope(500_000.0, 1.0, 1.0, 4.0, 8192),
        Llama3Rope(500_000.0, 8.008, 1.0, 4.0, 8192),
        Llama3Rope(500_000.0, 8.0, 1.0, 4.0, 2048),
        Llama3Rope(505_000.0, 8.0, 1.0, 4.0, 8192),
    ],
)
def test_wrong_parameters_are_wrong_frequencies(probed: Probed, wrong: Llama3Rope) -> None:
    """The first stage sees them, and says which pair is the worst."""
    put_angles(probed, TransformersOracle(wrong, HEAD_DIM).angles(range(POSITIONS)))
    record = compare(probed)[Stage.INV_FREQ]
    assert record.differing > 5
    assert record.largest > 1e-4
    assert record.largest_at is not None
    assert record.largest_at.pair is not None


def test_a_sine_of_other_angles(probed: Probed) -> None:
    """Only the sine's angles are wrong: told apart from the cosine's."""
    change(probed.subject, ROPE, angles_of_sin=-angles_of(probed))
    record = compare(probed)[Stage.ANGLES]
    assert record.first == Place(0, 0, None, "of the sine")  # -0.0


def test_what_was_not_observed_does_not_pass(probed: Probed) -> None:
    """A tree whose angles cannot be seen is not identical in them."""
    change(probed.subject, ROPE, angles=None)
    records = compare(probed, probed.oracles)
    assert left_at(records) == [Stage.INV_FREQ, Stage.ANGLES]
    assert records[Stage.ANGLES].compared == 0
    assert "could not be observed at INV_FREQ" in first_departure(list(records.values()))


@pytest.mark.parametrize("name", ["cos", "sin"])
def test_one_bit_of_one_table(probed: Probed, name: str) -> None:
    """One unit in the last place at one of all positions is found where it is."""
    table = probed.subject.rows(ROPE, name)
    table[8765, 40] = torch.nextafter(table[8765, 40], torch.tensor(2.0))
    change(probed.subject, ROPE, **{name: table})
    records = compare(probed)
    assert left_at(records) == [Stage.TABLES]
    assert records[Stage.TABLES].differing == 1
    assert records[Stage.TABLES].first == Place(8765, 8, None, name)
    assert 0 < records[Stage.TABLES].largest <= 2**-24


def test_a_table_that_was_not_grown(probed: Probed) -> None:
    """What it lacks differs."""
    tables = {name: probed.subject.rows(ROPE, name)[:2048] for name in ("cos", "sin")}
    change(probed.subject, ROPE, **tables)
    record = compare(probed)[Stage.TABLES]
    assert record.differing == 2 * (POSITIONS - 2048) * HEAD_DIM
    assert record.first == Place(2048, None, None, "cos missing")


def test_a_layer_that_started_with_other_tables(probed: Probed) -> None:
    """Tables of another theta in one layer, though the first layer's are right."""
    other = TransformersOracle(replace(LLAMA_31, theta=10_000.0), HEAD_DIM)
    cos, sin = other.tables(range(64), torch.float32)
    probed.subject.write(initial_name(2), {"cos": cos, "sin": sin})
    record = compare(probed)[Stage.TABLES]
    assert record.first == Place(1, 1, 2, "cos, as first built")


@pytest.mark.parametrize("name", ["q", "k"])
def test_an_offset_lost_in_a_chunk(probed: Probed, name: str) -> None:
    """Right in one go, wrong from the chunk that starts at position 0 again."""
    cos, sin = (probed.reference.rows(ROPE, table) for table in ("cos", "sin"))
    x = probed.reference.rows(ROTATION, name)
    edge = 2500
    parts = [rotate(x[:edge], cos[:edge], sin[:edge])]
    parts.append(rotate(x[edge:], cos[: len(x) - edge], sin[: len(x) - edge]))
    change(probed.subject, ROTATION, **{f"chunked_{name}": torch.cat(parts)})
    records = compare(probed)
    assert left_at(records) == [Stage.ROTATED_QK]
    assert records[Stage.ROTATED_QK].first == Place(edge, 0, None, f"{name}, in chunks")


@pytest.mark.parametrize(("part", "position"), [("whole", 30), ("second-chunk", 30)])
@pytest.mark.parametrize(("error", "passes"), [(3e-6, True), (5e-6, False)])
def test_one_layer(probed: Probed, part: str, position: int, error: float, passes: bool) -> None:
    """The layer is named; within four times the floor it passes where the floor is enough."""
    hidden = probed.subject.rows(hidden_name(part, 1), "hidden")
    row = position if part == "whole" else position - 25
    hidden[row:] += error * torch.randn(hidden[row:].shape).sign()
    if part == "whole":
        hidden[:row] += error * torch.ones(24)
    change(probed.subject, hidden_name(part, 1), hidden=hidden)
    records = compare(probed)
    record = records[Stage.LAYER]
    assert left_at(records) == [Stage.LAYER]
    assert record.first is not None
    assert record.first.layer == 1
    assert record.first.position == (0 if part == "whole" else position)
    assert not record.meets(Verdict.IDENTICAL)
    assert record.meets(Verdict.AT_FLOOR) == passes


@pytest.mark.parametrize(
    ("slot", "row", "differs"), [(13, 0, True), (12, 1, False), (13, 1, True), (0, 0, True)]
)
def test_padding_is_not_compared(probed: Probed, slot: int, row: int, differs: bool) -> None:
    """Whatever a tree makes of pads (13 of the second row, none of the first) is its own affair."""
    name = hidden_name(PADDED, 1)
    hidden = probed.subject.rows(name, "hidden")
    hidden[row * TOKENS + slot] += 1
    change(probed.subject, name, hidden=hidden)
    record = compare(probed)[Stage.LAYER]
    assert record.differing == (24 if differs else 0)
    if differs:
        pads = 13 * row
        what = f"row {row} of a batch, padded by {pads} on the left"
        assert record.first == Place(slot, None, 1, what)


def test_a_layer_that_raised(probed: Probed) -> None:
    """It is as wrong as can be at any floor, and what it raised is said."""
    (probed.subject.folder / f"{hidden_name('whole', 2)}.safetensors").unlink()
    probed.subject.write(trouble_name(2), {}, trouble="layer 2, whole raised ValueError: no")
    record = compare(probed)[Stage.LAYER]
    assert record.differing == TOKENS * 24
    assert record.trouble == "layer 2, whole raised ValueError: no"
    assert record.floor_ratio is None
    assert not record.meets(Verdict.AT_FLOOR)


def test_distances_inform(probed: Probed) -> None:
    """Both sides are equally far from float64, and on transformers' and Meta's angles."""
    records = compare(probed, probed.oracles)
    for stage in (Stage.INV_FREQ, Stage.ANGLES, Stage.TABLES):
        served, meta, exact = records[stage].distances
        assert (served.oracle, meta.oracle, exact.oracle) == (
            "transformers",
            "Meta's formula",
            "float64",
        )
        assert served.reference_differing == served.subject_differing == 0
        assert exact.reference_largest == exact.subject_largest > 0
        if stage is not Stage.TABLES:
            assert meta.reference_differing == 0


def test_a_reference_that_is_not_what_its_configuration_says(probed: Probed) -> None:
    """Frequencies cast to bf16, as `model.to(dtype)` does: the module alone shows it."""
    inv_freq = probed.reference.rows(ROPE, "inv_freq").bfloat16().float()
    change(probed.reference, ROPE, inv_freq=inv_freq)
    served = compare(probed, probed.oracles)[Stage.INV_FREQ].distances[0]
    assert served.reference_differing > 0
    assert served.subject_differing == 0


def test_logits() -> None:
    """Counted, placed, and at the floor only within every range of positions."""
    metrics = subject_metrics(256, np.where(np.arange(256) < 100, 0.0, 1.0))
    metrics = replace(metrics, differing=np.where(np.arange(256) < 100, 0, metrics.differing))
    record = compare_logits(metrics, floor_metrics(256).pooled)
    assert record.compared == 256 * VOCAB
    assert record.differing == 156 * VOCAB
    assert record.first == Place(100)
    assert record.meets(Verdict.AT_FLOOR)
    assert not record.meets(Verdict.IDENTICAL)
    drifting = subject_metrics(256, np.linspace(0.1, 10, 256))
    assert not compare_logits(drifting, floor_metrics(256).pooled).meets(Verdict.AT_FLOOR)
    broken = replace(metrics, abs_max=np.full(256, np.nan), square_sum=np.full(256, np.nan))
    assert compare_logits(broken, floor_metrics(256).pooled).largest == float("inf")
    assert not compare_logits(broken, floor_metrics(256).pooled).meets(Verdict.AT_FLOOR)
