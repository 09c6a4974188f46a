"""Frequencies: pairs of known vectors, bands of known wavelengths, and what is said of both."""

from pathlib import Path

import numpy as np
import pytest
import torch

from transformer_lens_fork.errors import InputError
from validation.studies.frequencies import (
    BANDS,
    FAR,
    LANDMARKS,
    bands_of,
    find_landmarks,
    landmarks_of,
    pair_contributions,
)
from validation.studies.frequencies_page import compose
from validation.studies.frequencies_study import units
from validation.studies.position_bias import octave_ranges
from validation.studies.records import StudyRecord
from validation.tests.conftest import command
from validation.tests.studies.made import make_record

BAND_OF_PAIR = ("high", "high", "medium", "low")


def test_pairs_add_up_to_the_score() -> None:
    """Of grouped heads, and each pair is the product of its own two dimensions."""
    generator = torch.manual_seed(0)
    query = torch.randn(6, 8, generator=generator).double()
    keys = torch.randn(5, 2, 8, generator=generator).double()
    found = pair_contributions(query, keys, scale=2.0)
    assert found.shape == (6, 5, 4)
    of_heads = keys.repeat_interleave(3, dim=1)
    scores = torch.einsum("hd,khd->hk", query, of_heads) / 2
    # Eight products, summed in float64 in two orders.
    torch.testing.assert_close(found.sum(-1), scores, rtol=1e-13, atol=1e-14)
    alone = query[4, 1] * keys[3, 1, 1] + query[4, 5] * keys[3, 1, 5]
    torch.testing.assert_close(found[4, 3, 1], alone / 2, rtol=1e-13, atol=1e-14)


def test_bands_are_those_of_llama_31() -> None:
    """As `_compute_llama3_parameters` has them: at a border a pair is medium."""
    lengths = torch.tensor([10.0, 2047.9, 2048.0, 8192.0, 8192.1]).double()
    assert bands_of(lengths, 8192, 1.0, 4.0) == ["high", "high", "medium", "medium", "low"]
    assert bands_of(lengths, 8192, 2.0, 8.0) == ["high", "medium", "medium", "low", "low"]


def test_landmarks_are_found() -> None:
    """A sink that all queries share is no look-up, however much attention it has."""
    queries = [600, 700, 800]
    scores = torch.zeros(2, 3, 801)
    scores = scores.masked_fill(torch.arange(801) > torch.tensor(queries)[:, None], -torch.inf)
    scores[:, :, 20] = 9.0
    scores[0, :, 0] = 10.0
    for row, key in enumerate((30, 40, 50)):
        scores[1, row, key] = 8.0
    positions, attention = find_landmarks(scores, queries)
    assert positions[:, 1].tolist() == [[0] * 3, [20] * 3, [599, 699, 799], [30, 40, 50]]
    pattern = scores.softmax(-1)
    torch.testing.assert_close(attention[0], pattern[..., 0])
    torch.testing.assert_close(attention[1], pattern[..., 20])
    torch.testing.assert_close(attention[2, :, 0], pattern[:, 0, 599])
    excess = pattern[1, 0, 30] - (pattern[1, 1, 30] + pattern[1, 2, 30]) / 2
    torch.testing.assert_close(attention[3, 1, 0], excess)


def test_there_is_no_far_look_up_in_short_texts() -> None:
    """Not every query has a key that is far, and no sink."""
    assert landmarks_of([FAR + 2, 900]) == LANDMARKS
    assert landmarks_of([FAR + 1, 900]) == LANDMARKS[:-1]


def one_unit(
    context: int,
    seed: int,
    nats: tuple[float, ...],
    *,
    has_heads: bool = True,
    landmarks: tuple[str, ...] = LANDMARKS,
    far: float = 0.1,
) -> StudyRecord:
    """A unit in which every landmark's pairs add `nats`; high pairs end at `far`."""
    rows = np.array(nats) * (1 + 0.001 * np.cos(np.arange(64)))[:, None]
    octaves = octave_ranges(context // 2)
    deviation = np.full((64, len(octaves), len(BANDS)), 0.3)
    deviation[:, -1, 0] = far
    deviation += 0.001 * np.cos(np.arange(64))[:, None, None]
    step = context // 128
    values: dict[str, object] = {
        "wavelengths_tokens": [6.0, 100.0, 4000.0, 20000.0],
        "bands": list(BAND_OF_PAIR),
        "landmarks": list(landmarks),
        "queries": [context // 2 + step - 1, context, step],
        "octaves": [list(each) for each in octaves],
        "attention_of_heads": np.full((len(landmarks), 2, 4), 0.25).tolist(),
        "other_sink_positions": [[61] * 4] * 2,
        "selectivity_of_heads_by_band": np.zeros((len(landmarks), 2, 4, 3)).tolist(),
        "heads": {name: [[1, 2], [0, 3]] if has_heads else [] for name in landmarks},
        "selectivity_of_rows": {name: rows.tolist() if has_heads else [] for name in landmarks},
        "deviation_of_heads_by_pair": np.ones((2, 4, 4)).tolist(),
        "deviation_of_heads_by_octave_and_band": np.ones((2, 4, len(octaves), 3)).tolist(),
        "deviation_of_rows": deviation.tolist(),
        "residual": 2e-5,
        "spread_of_scores": 2.6,
    }
    return make_record("frequencies", {"context": context, "seed": seed}, values)


def test_the_band_that_carries_a_landmark_is_named() -> None:
    """Low where low pairs add most, more than at the shorter context, and seeds that agree."""
    records = [
        one_unit(context, seed, nats)
        for seed in (0, 1)
        for context, nats in ((2048, (1.0, 1.0, 1.0, 2.0)), (4096, (0.25, 0.25, 1.5, 8.0)))
    ]
    page = compose(records)
    first, *_ = page.findings
    assert first.startswith("First token, 2 and 2 of 8 heads (2 in all seeds), 4k tokens: of 10")
    assert "low 80% [80, 80]. The low band's part is the largest (the seeds agree" in first
    assert "higher than the medium one's; a pair adds most in the low band, 8 [" in first
    assert "That part is higher than in 2k tokens, 40% [40, 40]" in first
    assert "first token, pair 3 (low, a wavelength of 20,000 tokens) with 8 [" in page.findings[-2]
    assert "high 0.1 [" in page.findings[-1]
    assert "lower;" in page.findings[-1]
    assert "medium 0.3 [" in page.findings[-1]
    assert "no different, within the uncertainty" in page.findings[-1]
    assert "within 2.0e-05" in page.tables[0].caption


def test_the_other_band_is_named_just_as_well() -> None:
    """High pairs, seeds that differ, and a part that shrinks with the context."""
    records = [
        one_unit(2048, 0, (9.0, 1.0, 0.0, 0.0), far=0.5),
        one_unit(4096, 0, (4.0, 2.0, 3.0, 1.0), far=0.5),
        one_unit(2048, 1, (9.0, 1.0, 0.0, 0.0), far=0.5),
        one_unit(4096, 1, (4.0, 1.0, 4.0, 1.0), far=0.5),
    ]
    page = compose(records)
    first, *_ = page.findings
    assert "The high band's part is the largest (the seeds differ by more than their" in first
    assert "uncertainty: 0.6, 0.5)" in first
    assert "a pair adds most in the medium band, 3.5 [" in first
    assert "That part is lower than in 2k tokens, 100% [100, 100]" in first
    assert "high 0.5 [" in page.findings[-1]
    assert "higher;" in page.findings[-1]


def test_landmarks_without_heads_are_said_to_have_none() -> None:
    """Short texts, and models whose heads do something else."""
    page = compose([one_unit(256, 0, (1.0,) * 4, has_heads=False, landmarks=LANDMARKS[:-1])])
    assert page.findings[0] == "No head of 8 is one of the first token's, in 256 tokens."
    assert len(page.findings) == 4
    assert {row.cells[3] for row in page.tables[0].rows} == {"0"}


def test_every_context_and_seed_is_a_unit() -> None:
    """One too short is refused."""
    assert len(units((512, 1024), (0, 1))) == 4
    with pytest.raises(InputError, match="128 is too short to tell distances apart"):
        units((128,), (0,))


def test_a_study_writes_its_page(tmp_path: Path) -> None:
    """Two layers of real weights."""
    arguments = ("study", "frequencies", "--layers", 2, "--contexts", 512, "--seeds", 1)
    process = command(*arguments, "--out", tmp_path)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "Warning" not in process.stderr
    assert (tmp_path / "study.jsonl").read_bytes().count(b"\n") == 1
    page = (tmp_path / "study.md").read_text(encoding="utf-8")
    assert "Previous token, " in page
    assert {"study.html", "pairs.png", "bands.png"} <= {path.name for path in tmp_path.iterdir()}


def test_bad_input_is_one_sentence(tmp_path: Path) -> None:
    """A dtype that is not accepted, before anything is loaded."""
    process = command("study", "frequencies", "--dtype", "float16", "--out", tmp_path)
    assert process.returncode == 2, process.stdout + process.stderr
    assert "--dtype: 'float16' is not accepted; float32, bfloat16 are." in process.stderr
    assert "Traceback" not in process.stderr
