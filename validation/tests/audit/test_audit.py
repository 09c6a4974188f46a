"""The whole way, on the release that the harness has installed: real processes, real verdicts."""

from dataclasses import replace
from pathlib import Path

import pytest

from transformer_lens_fork.errors import InputError
from validation.audit.records import AUDIT, AuditRecord
from validation.audit.releases import Generation, generation_of
from validation.audit.run import Audited, run_audit
from validation.execution.arithmetic import fix_arithmetic
from validation.execution.asked import Asked, resolve
from validation.execution.cases import Request
from validation.execution.jobs import Progress
from validation.judgement.verdict import Verdict
from validation.reporting.records import RecordFile
from validation.tests.conftest import command, save_checkpoint

INSTALLED = "3.9.0"

LLAMA_31 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


class Listener:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.who: set[str] = set()

    def step(self, what: str) -> None:
        """Something begins."""

    def note(self, what: str) -> None:
        """Keeps it."""
        self.notes.append(what)

    def progress(self, who: str, event: Progress) -> None:
        """Keeps who."""
        self.who.add(who)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> Request:
    """Of a tiny Llama with Llama 3.1's RoPE, beyond and within the release's own n_ctx."""
    folder = save_checkpoint(tmp_path_factory.mktemp("audit") / "c", rope_parameters=LLAMA_31)
    words = {
        **{"checkpoint": str(folder), "contexts": "256,2304", "subjects": "stock"},
        **{"dtype": "float32", "attention": "eager", "device": "cpu", "base": "v3.9.0"},
        **{"layers": None, "memory": "4g", "seed": 0, "threads": 1},
    }
    return resolve(Asked.checked(words), lambda _: None)


def test_a_release_is_judged_once(request_: Request, tmp_path: Path) -> None:
    """3.9.0 has the frequencies and drifts; one that is not there says so, and is tried again."""
    subjects = [Audited(name, generation_of(name), "eager") for name in (INSTALLED, "3.9.99")]
    records = _run(request_, subjects, tmp_path)
    measured, missing = records
    assert measured.ending == "MEASURED"
    assert [context.context for context in measured.contexts] == [256, 2304]
    assert measured.installed["transformers"] == "5.23.0"
    assert measured.contexts[-1].logits_differing > 0
    assert "given n_ctx 2304" in " ".join(measured.contexts[1].notes)
    assert "given n_ctx" not in " ".join(measured.contexts[0].notes)
    for frequencies in measured.frequencies.values():
        assert frequencies.wrong == 0
    assert {n: f.total for n, f in measured.frequencies.items()} == {
        "Llama 3.1": 64,
        "checkpoint": 24,
    }
    assert missing.ending == "NOT_INSTALLED"
    assert "No matching distribution found" in missing.reason

    listener = Listener()
    again = _run(request_, subjects, tmp_path, listener)
    assert again[0] == measured
    assert listener.who == {"reference"}, "only for the one that is missing"
    lines = (tmp_path / AUDIT).read_text(encoding="utf-8").splitlines()
    assert [AuditRecord.model_validate_json(line).release for line in lines] == [
        INSTALLED,
        "3.9.99",
        "3.9.99",
    ]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_bridge_is_judged_by_its_own_forward(
    attention: str, request_: Request, tmp_path: Path
) -> None:
    """The one that 3.9.0 has: frequencies are transformers' own, and logits are near at least."""
    bridge = Generation(
        releases=">=3.9",
        model="TransformerBridge",
        transformers="5.23.0",
        beside=(),
        why="a test",
    )
    subject = Audited(INSTALLED, bridge, attention)  # type: ignore[arg-type]
    (record,) = _run(request_, [subject], tmp_path)
    assert record.ending == "MEASURED", record.reason
    assert record.attention == attention
    for frequencies in record.frequencies.values():
        assert (frequencies.wrong, frequencies.differing) == (0, 0)
    for context in record.contexts:
        assert Verdict[context.verdict].meets(Verdict.AT_FLOOR), context.reason
        assert context.first_wrong is None


def test_a_release_that_no_table_covers_says_so(request_: Request, tmp_path: Path) -> None:
    """It is in the report, not left out."""
    (record,) = _run(request_, [Audited("1.19.0", None, "eager")], tmp_path)
    assert (record.ending, record.model) == ("NOT_INSTALLED", "")
    assert "releases.toml does not say" in record.reason


def test_a_context_that_needs_chunks_is_refused(request_: Request, tmp_path: Path) -> None:
    """Before anything runs: releases are run in one forward."""
    small = replace(request_, memory_bytes=700 * 2**20)
    with pytest.raises(InputError, match=r"--contexts: 2304 tokens do not fit 0\.7 GiB"):
        _run(small, [Audited(INSTALLED, generation_of(INSTALLED), "eager")], tmp_path)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--releases", "two"), "--releases: 'two' is not accepted"),
        (("--releases", "2.9.0", "--checkpoint", "nowhere"), "--checkpoint: 'nowhere'"),
        (("--releases", "2.9.0", "--contexts", "4k:1k"), "--contexts: '4k:1k' goes down"),
    ],
)
def test_bad_input_is_refused(arguments: tuple[str, ...], says: str, tmp_path: Path) -> None:
    """One sentence, exit status 2."""
    process = command("audit", "--out", tmp_path / "out", *arguments)
    assert process.returncode == 2, process.stdout + process.stderr
    assert says in process.stderr
    assert "Traceback" not in process.stderr


def _run(
    request: Request, subjects: list[Audited], out: Path, listener: Listener | None = None
) -> list[AuditRecord]:
    fix_arithmetic(request.threads, request.seed)
    file = RecordFile(out / AUDIT, AuditRecord, "record of a release")
    return run_audit(request, subjects, file, listener or Listener())
