"""The staged proof, whole: real trees, right and wrong, on tiny checkpoints."""

import subprocess
from pathlib import Path

import pytest

from validation.reporting.staged import StageResult
from validation.rope.catalogue import find_fault
from validation.rope.faults import Fault, plant
from validation.tests.conftest import command, save_checkpoint

OFFICIAL = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}

RMS_NORM = Path("transformer_lens/components/rms_norm.py")
UNEMBED = Path("transformer_lens/components/unembed.py")

_PLANTED = {
    "INV_FREQ": (find_fault("original-is-n-ctx"),),
    "ANGLES": (
        Fault(
            "bf16-positions",
            "Positions are held in bf16.",
            (
                (
                    "pos = torch.arange(n_ctx, dtype=high_precision)",
                    "pos = torch.arange(n_ctx).bfloat16().float()",
                ),
            ),
        ),
    ),
    "TABLES": (
        find_fault("low-boundary-inclusive"),
        Fault("sine", "The sine's sign.", (("= torch.sin(angles), ", "= -torch.sin(angles), "),)),
        Fault(
            "not-regrown",
            "Tables end at 2048.",
            (("if max_pos_needed > self.rotary_cos.shape[0]:", "if False:"),),
        ),
    ),
    "ROTATED_QK": (
        Fault(
            "offset-lost",
            "A chunk starts at position 0.",
            (
                (
                    "= get_offset_position_ids(past_kv_pos_offset, attention_mask)",
                    "= get_offset_position_ids(0, attention_mask)[:, :x_pos]",
                ),
            ),
        ),
    ),
    "LAYER": (
        find_fault("padding-counted"),
        Fault(
            "eps",
            "The norm's epsilon.",
            (("True) + self.eps", "True) + 1.01 * self.eps"),),
            RMS_NORM,
        ),
    ),
    "LOGITS": (
        Fault("head", "Logits are scaled.", (("(residual,", "(residual * 1.5,"),), UNEMBED),
    ),
}
"""Mistakes by the stage that must be the first to see them; the catalogue has more."""


def run(out: Path, *arguments: object, name: str = "stages") -> subprocess.CompletedProcess[str]:
    """`python -m validation stages`, or the command of that name."""
    return command(name, "--out", out, *arguments)


def staged(out: Path) -> list[StageResult]:
    """The records in `out`."""
    lines = (out / "stages.jsonl").read_text(encoding="utf-8").splitlines()
    return [StageResult.model_validate_json(line) for line in lines]


@pytest.mark.long
@pytest.mark.parametrize(
    ("head_dim", "subjects", "dtypes"),
    [(64, "fork,stock", ["float32", "bfloat16", "float16"]), (128, "fork", ["bfloat16"])],
)
def test_fork_is_identical_at_all_positions(
    head_dim: int, subjects: str, dtypes: list[str], tmp_path: Path
) -> None:
    """Llama 3.1's own parameters, 131,072 positions: 0 numbers differ."""
    checkpoint = save_checkpoint(
        tmp_path / "my-llama",
        head_dim=head_dim,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=131_072,
        rope_parameters=dict(OFFICIAL),
    )
    out = tmp_path / "out"
    arguments = (
        "--checkpoint",
        checkpoint,
        "--subjects",
        subjects,
        "--dtype",
        ",".join(dtypes),
    )
    process = run(out, *arguments)
    assert process.returncode == 0, process.stdout + process.stderr
    results = staged(out)
    assert [(r.dtype, r.subject) for r in results] == [
        (dtype, subject) for dtype in dtypes for subject in subjects.split(",")
    ]
    for result in results:
        compared = {row.stage: row.compared for row in result.stages}
        assert compared["ANGLES"] == 131_072 * head_dim // 2
        # And three other sets of parameters.
        assert compared["TABLES"] == 2 * (131_072 + 3 * 4096) * head_dim
        assert compared["ROTATED_QK"] == 4 * 131_072 * head_dim
        assert result.graft is not None
        assert result.graft.is_held
        assert result.graft.rotation_differing == 0
        if result.subject == "fork":
            assert result.first_stage is None, result.departure
            assert sum(row.differing for row in result.stages) == 0
            assert result.departure.startswith("identical to transformers at every stage: 0 of ")
        else:
            # Its double reciprocal.
            assert result.first_stage in ("INV_FREQ", "ANGLES")
            angles = next(row for row in result.stages if row.stage == "ANGLES")
            assert angles.differing > 100_000
            assert angles.largest == 2.0**-7, "one unit in the last place from 65,536 on"

    before = (out / "stages.jsonl").read_bytes()
    again = run(out, *arguments)
    assert again.returncode == 0, again.stdout + again.stderr
    assert (out / "stages.jsonl").read_bytes() == before
    assert again.stderr.count("(earlier run)") == len(results)


@pytest.mark.long
def test_every_mistake_is_seen_at_its_stage(fork: Path, tmp_path: Path) -> None:
    """Each fails at the stage it is made at and not before, though layers run after it."""
    checkpoint = save_checkpoint(tmp_path / "my-llama", max_position_embeddings=8192)
    expected = [(stage, fault) for stage, faults in _PLANTED.items() for fault in faults]
    trees = [plant(fault, fork, tmp_path / fault.name) for _, fault in expected]
    dies = plant(find_fault("factor-ignored"), fork, tmp_path / "dies")
    (dies / "transformer_lens" / "__init__.py").write_text("import no_such_module\n")
    quits = plant(find_fault("factor-ignored"), fork, tmp_path / "quits")
    (quits / "transformer_lens" / "__init__.py").write_text("import os; os._exit(0)\n")
    out = tmp_path / "out"
    process = run(
        out,
        *("--checkpoint", checkpoint, "--dtype", "float32", "--require", "floor"),
        *("--subjects", ",".join(map(str, [*trees, dies, "fork", quits]))),
    )
    assert process.returncode == 1, process.stdout + process.stderr
    *faulty, dead, sound, quitter = staged(out)
    for result, (stage, fault) in zip(faulty, expected, strict=True):
        assert result.first_stage == stage, f"{fault.name}: {result.departure}"
        assert result.stages, result.departure
        assert f"first leaves transformers at {stage}" in result.departure
    assert sound.first_stage is None
    assert dead.has_died
    assert "no_such_module" in dead.departure
    assert quitter.has_died, "it must not be judged by the sound tree's probes before it"
    assert process.stdout.count("FAIL ") == len(faulty) + 2

    by_name = {fault.name: r for r, (_, fault) in zip(faulty, expected, strict=True)}
    grafted = by_name["bf16-positions"].graft
    assert grafted is not None
    assert grafted.without.differing > 0
    assert grafted.grafted.differing == 0, "with HF's tables nothing is wrong with this tree"
    tables = next(r for r in by_name["not-regrown"].stages if r.stage == "TABLES")
    assert tables.first is not None
    assert tables.first.position == 2048
    assert "raised" in tables.trouble
    layers = next(r for r in by_name["offset-lost"].stages if r.stage == "LAYER")
    assert layers.first is not None
    assert layers.first.what == "second chunk"


@pytest.mark.long
def test_a_run_says_where_it_first_differs(tmp_path: Path) -> None:
    """The report has the section; without the probes it does not."""
    checkpoint = save_checkpoint(tmp_path / "my-llama", max_position_embeddings=8192)
    arguments = ("--checkpoint", checkpoint, "--subjects", "stock", "--contexts", "64")
    process = run(tmp_path / "with", *arguments, name="run")
    assert process.returncode == 0, process.stdout + process.stderr
    [result] = staged(tmp_path / "with")
    assert result.tokens == 64
    for name in ("report.md", "report.html"):
        text = (tmp_path / "with" / name).read_text(encoding="utf-8")
        assert "Where it first differs" in text
        assert "first leaves transformers at" in text
    process = run(tmp_path / "without", *arguments, "--no-stages", name="run")
    assert process.returncode == 0, process.stdout + process.stderr
    report = (tmp_path / "without" / "report.md").read_text(encoding="utf-8")
    assert "Where it first differs" not in report


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("--require", "luck", "--require: 'luck' is not accepted"),
        ("--device", "tpu", "--device: 'tpu' is not accepted"),
        ("--dtype", "float64", "--dtype: 'float64' is not accepted"),
        ("--subjects", "no-such-tree", "has no transformer_lens package"),
    ],
)
def test_bad_input_is_refused(
    field: str, value: str, message: str, checkpoint: Path, tmp_path: Path
) -> None:
    """One sentence that names the field, exit status 2, and no record."""
    process = run(tmp_path / "out", "--checkpoint", checkpoint, field, value)
    assert process.returncode == 2, process.stdout + process.stderr
    assert message in process.stderr
    assert "Traceback" not in process.stderr
    assert not (tmp_path / "out" / "stages.jsonl").exists() or not staged(tmp_path / "out")
