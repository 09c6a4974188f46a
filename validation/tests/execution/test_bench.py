"""`python -m validation bench`, as a person would start it, on real trees and a tiny checkpoint."""

import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from validation.__main__ import app
from validation.judgement.speed import pair_ratio
from validation.reporting.bench_records import BenchRecord, TurnsRecord
from validation.tests.conftest import command


def bench(out: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command with these arguments."""
    return command("bench", "--out", out, "--threads", 1, *arguments)


def records(out: Path) -> list[BenchRecord]:
    """Those in `out`, in the order in which they were written."""
    lines = (out / "bench.jsonl").read_text(encoding="utf-8").splitlines()
    return [BenchRecord.model_validate_json(line) for line in lines]


def turns(record: BenchRecord, contestant: str) -> TurnsRecord:
    """Of a contestant that took part."""
    found = record.of(contestant)
    assert found is not None
    return found


_NINE_FORWARDS = """
_forward = HookedTransformer.forward
def _slow(self, tokens, *args, past_kv_cache=None, **kwargs):
    if past_kv_cache is None:
        for _ in range(8):
            _forward(self, tokens, *args, **kwargs)
    return _forward(self, tokens, *args, past_kv_cache=past_kv_cache, **kwargs)
HookedTransformer.forward = _slow
"""


@pytest.fixture(scope="module")
def slow(fork: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fork, with each forward done nine times."""
    tree = tmp_path_factory.mktemp("trees") / "slow"
    shutil.copytree(fork / "transformer_lens", tree / "transformer_lens")
    with (tree / "transformer_lens" / "__init__.py").open("a", encoding="utf-8") as file:
        file.write(_NINE_FORWARDS)
    return tree


def test_a_slower_tree_is_seen_slower_and_nothing_is_measured_twice(
    checkpoint: Path, slow: Path, tmp_path: Path
) -> None:
    """Every turn is recorded, the tokens are the same, and both ratios show who is slow."""
    arguments = ("--checkpoint", checkpoint, "--tree", slow, "--repeats", 3)
    works = ("--contexts", 64, "--workloads", "forward,generate")
    process = bench(tmp_path, *arguments, *works)
    assert process.returncode == 0, process.stdout + process.stderr
    found = records(tmp_path)
    assert [(r.workload, r.context) for r in found] == [("forward", 64), ("generate", 64)]
    for record in found:
        assert len({each.tokens for each in record.turns}) == 1, "not the same work"
        assert len(record.turns[0].tokens) == record.generated or record.workload == "forward"
        for each in record.turns:
            assert len(each.seconds) == 3
            assert min(each.resting_memory_bytes) > 100e6
        if record.workload == "forward":
            for ours, theirs in (("fork-sdpa", "hf-sdpa"), ("fork-eager", "stock")):
                ratio = pair_ratio(turns(record, ours).seconds, turns(record, theirs).seconds)
                assert ratio.low > 1.5, (ours, ratio)
    assert "fork sdpa and HF sdpa chose the same tokens at 2 of 2 points." in process.stdout
    assert (tmp_path / "bench.png").stat().st_size > 10_000
    assert "fork eager / stock" in (tmp_path / "bench.md").read_text(encoding="utf-8")

    before = (tmp_path / "bench.jsonl").read_bytes()
    again = bench(tmp_path, *arguments, *works)
    assert again.returncode == 0, again.stdout + again.stderr
    assert (tmp_path / "bench.jsonl").read_bytes() == before
    assert " of 24: " in process.stderr
    assert " of " not in again.stderr


def test_the_command_for_gpus_runs_with_a_small_shape(tmp_path: Path) -> None:
    """The README's, but for the size and the device: seeded weights, bf16, fused attention only."""
    process = bench(
        tmp_path,
        *("--checkpoint", "random:tiny-llama-3.2-1b", "--dtype", "bfloat16", "--contexts", "256"),
        *("--contestants", "fork-sdpa,hf-sdpa", "--workloads", "forward,hooks", "--repeats", 1),
    )
    assert process.returncode == 0, process.stdout + process.stderr
    found = records(tmp_path)
    assert [record.workload for record in found] == ["forward", "hooks"]
    for record in found:
        fork, theirs = record.turns
        assert fork.tokens == theirs.tokens
        assert len(fork.seconds) == len(theirs.seconds) == 1
        assert fork.notes == ("loaded with from_pretrained_no_processing",)


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--contestants", "fork-sdpa,hf", "--contestants: 'hf' is not accepted; fork-sdpa, hf"),
        ("--workloads", "train", "--workloads: 'train' is not accepted; forward, hooks, generate"),
        ("--dtype", "float32,bfloat16", "--dtype: 'float32,bfloat16' is not accepted"),
        ("--memory", "much", "--memory: 'much' is not accepted"),
        ("--repeats", "0", "--repeats"),
    ],
)
def test_bad_input_is_refused(option: str, value: str, says: str, tmp_path: Path) -> None:
    """One sentence, status 2, before anything is looked for or written."""
    out = tmp_path / "out"
    arguments = ["bench", "--checkpoint", "smollm2", "--out", str(out), option, value]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert says in result.stderr
    assert not out.exists()
