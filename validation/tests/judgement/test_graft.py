"""The graft proves something only where it can."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from validation.execution.probe_files import GRAFT, ROTATION
from validation.judgement.graft import Graft, judge_graft
from validation.tests.judgement.probed import TOKENS, change, write_probes
from validation.tests.judgement.streams import VOCAB, floor_metrics, subject_metrics


def judge(folder: Path, held: list[bool], error: float = 0.0) -> Graft:
    """A subject whose drift the tables take away."""
    probed = write_probes(folder)
    rotated = {
        name: probed.reference.rows(ROTATION, name, range(TOKENS))
        for name in ("rotated_q", "rotated_k")
    }
    probed.subject.write(GRAFT, rotated | {"held": torch.tensor(held)})
    if error:
        change(probed.subject, GRAFT, rotated_q=rotated["rotated_q"] + error)
    without = subject_metrics(TOKENS, np.linspace(3, 9, TOKENS))
    floor = floor_metrics(TOKENS).pooled
    grafted = replace(subject_metrics(TOKENS), differing=np.full(TOKENS, VOCAB // 2))
    return judge_graft(probed.reference, probed.subject, without, grafted, floor)


def test_before_and_after(tmp_path: Path) -> None:
    """Both errors, over the same floor."""
    graft = judge(tmp_path, [True, True])
    assert graft.is_proof
    assert graft.logits_total == graft.without.differing == TOKENS * VOCAB
    assert graft.grafted.differing == TOKENS * VOCAB // 2
    assert graft.without.parity_ratio == pytest.approx(6.2, abs=0.3)
    assert graft.grafted.parity_ratio == pytest.approx(1, abs=0.1)
    assert graft.without.max_abs > graft.grafted.max_abs


def test_tables_that_were_replaced_prove_nothing(tmp_path: Path) -> None:
    """One layer that made its own is enough."""
    graft = judge(tmp_path, [True, False])
    assert not graft.is_held
    assert not graft.is_proof


def test_another_rotation_proves_nothing(tmp_path: Path) -> None:
    """With the right tables it still rotates otherwise: what is left may be RoPE."""
    graft = judge(tmp_path, [True, True], error=1e-6)
    assert graft.rotation_differing > 0
    assert not graft.is_proof
