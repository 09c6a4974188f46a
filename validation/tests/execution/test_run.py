"""The whole way, on real trees and a tiny checkpoint: real processes, real verdicts."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Never

import numpy as np
import pytest

from transformer_lens_fork.bases import REPOSITORY
from validation.execution.jobs import AttentionName, Job, Progress, ReferenceJob
from validation.execution.processes import WorkerDied
from validation.execution.run import run_cases
from validation.models.prompts import Prompt
from validation.models.shapes import Shape
from validation.models.trees import Tree
from validation.reporting.results import Result, ResultStore
from validation.rope.catalogue import find_fault
from validation.rope.faults import Fault, plant
from validation.tests.conftest import command, save_checkpoint
from validation.tests.execution.test_cases import REQUEST, with_shape

SCHEMA = json.loads(
    (REPOSITORY / "validation/reporting/results.schema.json").read_text(encoding="utf-8")
)
FAULTS = tuple(map(find_fault, ("factor-ignored", "original-is-n-ctx", "low-high-swapped")))


def run(
    out: Path, *arguments: object, cwd: Path = REPOSITORY, **variables: str
) -> subprocess.CompletedProcess[str]:
    """`python -m validation run`, as a person would start it."""
    # The staged proof has tests of its own.
    return command("run", "--no-stages", "--out", out, *arguments, cwd=cwd, **variables)


def results(out: Path) -> list[Result]:
    """The records in `out`, in the order in which they were written."""
    lines = (out / "results.jsonl").read_text(encoding="utf-8").splitlines()
    return [Result.model_validate_json(line) for line in lines]


@pytest.mark.long
def test_fork_is_identical_in_every_dtype(checkpoint: Path, tmp_path: Path) -> None:
    """The odd checkpoint, loaded from its folder by the fork itself: not one logit differs."""
    dtypes = "float32,bfloat16,float16"
    process = run(
        tmp_path,
        *("--checkpoint", checkpoint, "--subjects", "fork", "--contexts", "777,1k"),
        *("--dtype", dtypes, "--require", "identical"),
    )
    assert process.returncode == 0, process.stdout + process.stderr
    found = results(tmp_path)
    # Of odd lengths too: half precision kernels treat the tail of a row in their own way.
    assert [result.context for result in found] == [777, 1024] * 3
    assert [result.dtype for result in found[::2]] == dtypes.split(",")
    for result in found:
        assert result.verdict == "IDENTICAL"
        assert result.logits_differing == 0
        assert result.logits_total == result.context * 320
        assert result.floor_mean_abs, "a floor of zero would make every comparison vacuous"
        assert "loaded with from_pretrained_no_processing" in result.notes
        assert result.provenance.series_sha256 is not None
        assert result.parts
        assert result.reference_parts
        assert set(result.parts) == {"load", "forward", "unembed", "compare", "files"}
        assert set(result.reference_parts) == {"load", "forward", "floor", "compare", "files"}
        assert result.seconds == result.parts["forward"] > 0
    for name in ("report.md", "report.html", "error_by_position.png"):
        assert (tmp_path / name).stat().st_size > 0


@pytest.mark.long
def test_multi_query_is_identical_without_fp16_instructions(fork: Path, tmp_path: Path) -> None:
    """On CPUs without AVX-512 FP16 the order of a sum follows the layout of the weight."""
    shape = {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 96}
    checkpoint = save_checkpoint(tmp_path / "mqa", **shape)
    source = Path("transformer_lens/utilities/attention.py")
    strided = Fault("strided", "K and V are strided views.", ((".contiguous()", ""),), source)
    tree = plant(strided, fork, tmp_path / strided.name)
    process = run(
        tmp_path / "out",
        *("--checkpoint", checkpoint, "--subjects", f"fork,{tree}", "--contexts", "256"),
        *("--dtype", "float16"),
        ONEDNN_MAX_CPU_ISA="AVX2",
    )
    assert process.returncode in (0, 1), process.stdout + process.stderr
    sound, faulty = results(tmp_path / "out")
    assert sound.verdict == "IDENTICAL"
    assert faulty.logits_differing, "the test has no power on this CPU"
    assert sound.provenance.settings["ONEDNN_MAX_CPU_ISA"] == "AVX2"


@pytest.mark.long
def test_stock_fails_and_never_changes_the_status(checkpoint: Path, tmp_path: Path) -> None:
    """Stock is shown beside a run that passes; a second run measures nothing again.

    With a lazy floor what is IDENTICAL has none, and stock is judged by the same figures.
    """
    arguments = ("--checkpoint", checkpoint, "--contexts", "2k", "--subjects", "fork,stock")
    process = run(tmp_path, *arguments)
    assert process.returncode == 0, process.stdout + process.stderr
    fork, stock = results(tmp_path)
    assert (fork.subject, fork.verdict) == ("fork", "IDENTICAL")
    assert stock.subject == "stock"
    assert stock.verdict in ("DRIFTS", "BEYOND_FLOOR")
    assert stock.parity_ratio is not None
    assert stock.parity_ratio > 2
    assert stock.logits_differing is not None
    assert stock.logits_differing > 1024 * 320
    assert any("given the configuration explicitly" in note for note in stock.notes)

    before = (tmp_path / "results.jsonl").read_bytes()
    again = run(tmp_path, *arguments)
    assert again.returncode == 0
    assert (tmp_path / "results.jsonl").read_bytes() == before
    assert again.stderr.count("(earlier run)") == 2
    assert "reference float32" not in again.stderr

    refused = run(tmp_path, *arguments, "--no-resume")
    assert refused.returncode == 2
    assert (tmp_path / "results.jsonl").read_bytes() == before

    lazy = run(tmp_path / "lazy", *arguments, "--lazy-floor")
    assert lazy.returncode == 0, lazy.stdout + lazy.stderr
    bare, judged = results(tmp_path / "lazy")
    assert bare.verdict == "IDENTICAL"
    assert bare.reference_sha256 == fork.reference_sha256 is not None
    assert (bare.floors, bare.bins, bare.parity_ratio, bare.power_ratio) == (None,) * 4
    assert bare.reference_parts is not None
    assert "floor" not in bare.reference_parts
    for field in ("verdict", "reason", "bins", "floors", "power_ratio", "reference_sha256"):
        assert getattr(judged, field) == getattr(stock, field), field
    assert "no floor was measured" in (tmp_path / "lazy/report.md").read_text(encoding="utf-8")


@pytest.mark.long
def test_planted_faults_fail(checkpoint: Path, fork: Path, tmp_path: Path) -> None:
    """Three subtly wrong trees and the sound one beside them, at 2k, from one reference pass."""
    trees = [plant(fault, fork, tmp_path / fault.name) for fault in FAULTS]
    out = tmp_path / "out"
    process = run(
        out,
        *("--checkpoint", checkpoint, "--contexts", "2k"),
        *("--subjects", ",".join(map(str, [*trees, "fork"]))),
    )
    assert process.returncode == 1, process.stdout + process.stderr
    *faulty, sound = results(out)
    assert sound.verdict == "IDENTICAL"
    for result, tree in zip(faulty, trees, strict=True):
        assert result.subject == str(tree)
        assert result.verdict in ("DRIFTS", "BEYOND_FLOOR"), result.reason
        assert result.parity_ratio is not None
        assert result.parity_ratio > 10, "a fault must stand far above the floor"
    assert process.stdout.count("FAIL ") == len(FAULTS)


@pytest.mark.long
def test_a_tree_that_dies_or_is_refused_loses_its_own_cases_only(
    checkpoint: Path, fork: Path, tmp_path: Path
) -> None:
    """Each end is reported as what it is, and the cases around it are measured.

    Exiting with 0 before the work is a death; a forward() of its own is refused.
    """
    dies = plant(find_fault("factor-ignored"), fork, tmp_path / "dies")
    init = dies / "transformer_lens" / "__init__.py"
    init.write_text(init.read_text(encoding="utf-8") + _SEGFAULT_AT_128_TOKENS, encoding="utf-8")
    broken = plant(find_fault("factor-ignored"), fork, tmp_path / "broken")
    (broken / "transformer_lens" / "__init__.py").write_text("import no_such_module\n")
    quits = plant(find_fault("factor-ignored"), fork, tmp_path / "quits")
    (quits / "transformer_lens" / "__init__.py").write_text("import sys; sys.exit(0)\n")
    scaled = plant(_SCALED, fork, tmp_path / "scaled")
    out = tmp_path / "out"
    process = run(
        out,
        *("--checkpoint", checkpoint, "--contexts", "64,128,256"),
        *("--subjects", ",".join(map(str, (dies, broken, quits, scaled, "fork")))),
    )
    assert process.returncode == 1, process.stdout + process.stderr
    found = {(Path(result.subject).name, result.context): result for result in results(out)}
    assert found["dies", 128].verdict == "DIED"
    assert "SIGSEGV" in found["dies", 128].reason
    assert found["dies", 64].logits_total == 64 * 320
    assert found["dies", 256].logits_total == 256 * 320
    for context in (64, 128, 256):
        assert found["broken", context].verdict == "DIED"
        assert "no_such_module" in found["broken", context].reason
        assert found["quits", context].verdict == "DIED"
        assert found["scaled", context].verdict == "REFUSED"
        assert "forward()" in found["scaled", context].reason
        assert found["fork", context].verdict == "IDENTICAL"


_SCALED = Fault(
    "scaled",
    "Logits are scaled.",
    (("(self.unembed(", "(1.5 * self.unembed("),),
    Path("transformer_lens/HookedTransformer.py"),
)


def test_a_tree_that_changes_torch_never_passes(
    checkpoint: Path, fork: Path, tmp_path: Path
) -> None:
    """It changes the reference's logits in its process alike; what lies beside it does nothing."""
    changed = plant(find_fault("factor-ignored"), fork, tmp_path / "changed")
    init = changed / "transformer_lens" / "__init__.py"
    init.write_text(init.read_text(encoding="utf-8") + _OTHER_LINEAR, encoding="utf-8")
    crowded = tmp_path / "crowded"
    shutil.copytree(fork / "transformer_lens", crowded / "transformer_lens")
    for name in ("validation", "torch", "einops"):
        (crowded / name).mkdir()
        (crowded / name / "__init__.py").write_text("raise RuntimeError('imported')\n")
    out = tmp_path / "out"
    process = run(
        out,
        *("--checkpoint", checkpoint, "--subjects", f"{changed},{crowded}", "--contexts", "64"),
        cwd=crowded,
    )
    assert process.returncode == 1, process.stdout + process.stderr
    bad, good = results(out)
    assert bad.verdict == "REFERENCE_CHANGED"
    assert good.verdict == "IDENTICAL"


_OTHER_LINEAR = """
import torch.nn.functional as _F
_linear = _F.linear
_F.linear = lambda x, w, b=None: _linear(x * 1.5, w, b)
"""


def test_a_blind_checkpoint_proves_nothing(fork: Path, tmp_path: Path) -> None:
    """Default weights in half precision do not show a missing scaling: that is no pass."""
    checkpoint = save_checkpoint(tmp_path / "flat", std=0.02)
    tree = plant(find_fault("factor-ignored"), fork, tmp_path / "faulty")
    process = run(
        tmp_path / "out",
        *("--checkpoint", checkpoint, "--subjects", f"{tree},fork", "--contexts", "128"),
        *("--dtype", "bfloat16"),
    )
    assert process.returncode == 1, process.stdout + process.stderr
    faulty, sound = results(tmp_path / "out")
    assert faulty.verdict == "BLIND"
    assert faulty.power_ratio is not None
    assert faulty.power_ratio <= 2
    assert sound.verdict == "IDENTICAL"


@pytest.mark.long
def test_a_long_context_goes_through_in_chunks(checkpoint: Path, tmp_path: Path) -> None:
    """Both models' own caches, the first layer alone: identical too; what cannot fit is not run."""
    arguments = ("--checkpoint", checkpoint, "--layers", "1", "--contexts", "1k:4k")
    process = run(
        tmp_path,
        *(*arguments, "--subjects", "fork", "--dtype", "float32,bfloat16"),
        *("--memory", "1g", "--require", "identical"),
    )
    assert process.returncode == 0, process.stdout + process.stderr
    found = results(tmp_path)
    assert [result.context for result in found] == [1024, 2048, 4096] * 2
    assert {result.verdict for result in found} == {"IDENTICAL"}
    assert found[0].prefill == 1024
    assert all(result.prefill < result.context for result in found if result.context == 4096)
    assert {result.provenance.layers for result in found} == {1}

    refused = run(tmp_path / "small", *arguments, "--subjects", "fork", "--memory", "100m")
    assert refused.returncode == 1, refused.stdout + refused.stderr
    for result in results(tmp_path / "small"):
        assert result.verdict == "TOO_LARGE"
        assert "0.1 GiB may be taken (--memory)" in result.reason


def test_fused_attention_is_identical_to_fused_attention(
    checkpoint: Path, fork: Path, tmp_path: Path
) -> None:
    """One forward; a tree with eager alone goes in chunks; a missing scale shows."""
    tree = plant(find_fault("fused-scale-missing"), fork, tmp_path / "unscaled")
    process = run(
        tmp_path / "out",
        *("--checkpoint", checkpoint, "--subjects", f"fork,stock,{tree}", "--layers", "1"),
        *("--contexts", "2k", "--attention", "sdpa", "--memory", "800m"),
    )
    assert process.returncode == 1, process.stdout + process.stderr
    found, stock, unscaled = results(tmp_path / "out")
    assert found.verdict == "IDENTICAL"
    assert found.prefill == 2048
    assert found.attention == "sdpa"
    assert found.floor_mean_abs
    assert stock.prefill < 2048
    assert stock.logits_differing
    assert any("has eager attention only" in note for note in stock.notes)
    assert unscaled.verdict == "BEYOND_FLOOR"


@pytest.mark.parametrize(("gibibytes", "refused"), [(2.7, "fused"), (5.5, "eager")])
@pytest.mark.parametrize("order", [("fused", "eager"), ("eager", "fused")])
def test_each_tree_has_a_plan_of_its_own(
    gibibytes: float,
    refused: str,
    order: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What does not fit one tree may fit another: each case ends once, in its own way."""
    shape = Shape(2 if refused == "fused" else 30, 576, 1536, 9, 3, 64, 49152, is_tied=True)
    request = replace(
        REQUEST,
        checkpoint=replace(REQUEST.checkpoint, shape=shape),
        trees=tuple(_tree(name, tmp_path) for name in order),
        contexts=(65536,),
        attention="sdpa",
        prompt=Prompt(np.zeros(65536, dtype=np.int64), "zeros"),
        memory_bytes=int(gibibytes * 2**30),
    )

    def die(job: Job, _log: Path) -> Iterator[Never]:
        assert isinstance(job, ReferenceJob), "no subject runs without a reference"
        assert [forward.context for forward in job.forwards] == [65536]
        raise WorkerDied("was not started")
        yield

    monkeypatch.setattr("validation.execution.run.run_worker", die)
    found = run_cases(request, ResultStore(tmp_path / "out"), Silent())
    verdicts = {result.subject: result.verdict for result in found}
    assert len(found) == 2
    assert verdicts == {refused: "TOO_LARGE"} | {name: "DIED" for name in order if name != refused}


def _tree(name: str, folder: Path) -> Tree:
    """A tree of which nothing is there but whether it has fused attention, as `fused` has."""
    file = folder / name / "transformer_lens/config/hooked_transformer_config.py"
    file.parent.mkdir(parents=True)
    file.write_text("attn_implementation" if name == "fused" else "")
    return Tree(name, folder / name, "a" * 64, None, loads_itself=False)


@pytest.mark.parametrize(
    ("attention", "vocab", "tried"),
    [
        ("eager", 320, [(4096 >> halvings, 1024 >> halvings) for halvings in range(7)]),
        ("sdpa", 320, [(4096, 1024)]),
        ("sdpa", 2**20, [(4096, 32 >> halvings) for halvings in range(6)]),
    ],
    ids=["scores", "activations", "logits"],
)
def test_less_at_a_time_is_tried_where_it_takes_less(
    attention: AttentionName,
    vocab: int,
    tried: list[tuple[int, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half the tokens and logits at a time, as long as the plan says that less is needed."""
    request = replace(
        REQUEST,
        checkpoint=with_shape(vocab=vocab),
        trees=(_tree("fused", tmp_path),),
        contexts=(4096,),
        attention=attention,
        prompt=Prompt(np.zeros(4096, dtype=np.int64), "zeros"),
        memory_bytes=2**36,
    )
    jobs = []

    def die(job: Job, _log: Path) -> Iterator[Never]:
        jobs.append((job.forwards[0].prefill, job.chunk))
        raise WorkerDied("ran out of memory: 1 GiB", did_not_fit=len(jobs) < 20)
        yield

    monkeypatch.setattr("validation.execution.run.run_worker", die)
    (found,) = run_cases(request, ResultStore(tmp_path / "out"), Silent())
    assert jobs == tried
    assert found.verdict == "DIED"
    assert found.reason == "the reference worker ran out of memory: 1 GiB"
    assert (found.prefill, found.provenance.chunk) == jobs[-1]


class Silent:
    """Watches and says nothing."""

    def progress(self, who: str, event: Progress) -> None:
        """Nothing."""

    def result(self, result: Result, is_new: bool) -> None:
        """Nothing."""

    def note(self, what: str) -> None:
        """Nothing."""


_SEGFAULT_AT_128_TOKENS = """
import os as _os, signal as _signal
_forward = HookedTransformer.forward
def _dying(self, tokens, *args, **kwargs):
    if tokens.shape[1] == 128:
        _os.kill(_os.getpid(), _signal.SIGSEGV)
    return _forward(self, tokens, *args, **kwargs)
HookedTransformer.forward = _dying
"""


def test_seeded_weights_are_identical_and_not_blind(tmp_path: Path) -> None:
    """The fork is given them as a model of transformers and says so; stock is told all it lacks."""
    process = run(
        tmp_path,
        *("--checkpoint", "random:tiny-llama-3.1-8b@3", "--layers", 1, "--threads", 1),
        *("--subjects", "fork,stock", "--contexts", "1k", "--require", "identical"),
    )
    assert process.returncode == 0, process.stdout + process.stderr
    fork, stock = results(tmp_path)
    assert fork.verdict == "IDENTICAL"
    assert fork.checkpoint == "random:tiny-llama-3.1-8b@3[1 of 2 layers]"
    assert fork.notes == ("loaded with from_pretrained_no_processing",)
    assert fork.power_ratio is not None
    assert fork.power_ratio > 10
    assert stock.logits_differing is not None
    assert stock.logits_differing > 1024 * 4096 / 2
    assert "given the configuration explicitly" in stock.notes[0]


def test_a_longer_run_keeps_what_is_there(checkpoint: Path, tmp_path: Path) -> None:
    """Another context is added; the finished case stays as it was, and is as the schema says."""
    first = run(tmp_path, "--checkpoint", checkpoint, "--subjects", "fork", "--contexts", "64")
    assert first.returncode == 0, first.stdout + first.stderr
    line = (tmp_path / "results.jsonl").read_bytes()
    second = run(tmp_path, "--checkpoint", checkpoint, "--subjects", "fork", "--contexts", "64,96")
    assert second.returncode == 0, second.stdout + second.stderr
    content = (tmp_path / "results.jsonl").read_bytes()
    assert content.startswith(line)
    assert [result.context for result in results(tmp_path)] == [64, 96]
    for record in map(json.loads, content.splitlines()):
        assert set(record) == set(SCHEMA["properties"])
        assert re.fullmatch("[0-9a-f]{64}", record["provenance"]["case_key"])


def test_bad_input_is_refused_before_anything_runs(checkpoint: Path, tmp_path: Path) -> None:
    """One sentence that names the field, exit status 2, and no results."""
    plain = save_checkpoint(
        tmp_path / "plain", rope_parameters={"rope_type": "default", "rope_theta": 1e4}
    )
    not_a_folder = tmp_path / "file"
    not_a_folder.write_text("")
    sound = {"--checkpoint": checkpoint, "--subjects": "fork", "--contexts": "64"}
    for field, value, message in (
        ("--contexts", "3x", "--contexts: '3x' is not accepted"),
        ("--contexts", "0", "--contexts: '0' is not accepted"),
        ("--contexts", "128k", "more than the 65536 positions"),
        ("--checkpoint", "no-such-folder", "--checkpoint: 'no-such-folder' is no folder"),
        ("--checkpoint", plain, "'llama3' is accepted"),
        ("--subjects", tmp_path, "has no transformer_lens package"),
        ("--dtype", "float64", "--dtype: 'float64' is not accepted"),
        ("--attention", "flash", "--attention: 'flash' is not accepted; eager, sdpa are"),
        ("--device", "tpu", "--device: 'tpu' is not accepted"),
        ("--device", "cuda", "finds no CUDA device"),
        ("--base", "v9.9.9", "accepted are v3.9.0"),
        ("--base", "v2.8.0", "runs with transformers"),
        ("--base", "v4.3.0", "it has no HookedTransformer"),
        ("--require", "luck", "--require: 'luck' is not accepted"),
        ("--out", not_a_folder, "cannot be written"),
    ):
        out = tmp_path / "out"
        arguments = {**sound, field: value}
        process = run(out, *(word for pair in arguments.items() for word in pair))
        shown = f"{field} {value}: {process.stdout}{process.stderr}"
        assert process.returncode == 2, shown
        errors = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, shown
        assert message in errors[0], shown
        assert "Traceback" not in process.stderr, shown
        assert not (out / "report.md").exists()


def test_the_exported_schema_is_ours() -> None:
    """The one that others validate with is in the repository."""
    assert Result.model_json_schema() == SCHEMA
