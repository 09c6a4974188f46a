"""Two architectures end to end, in the fork and in copies of it with a mistake."""

from pathlib import Path

import pytest

from transformer_lens_fork.bases import get_base
from validation.architectures.catalogue import choose_architectures
from validation.architectures.records import ArchitectureRecord
from validation.architectures.report import failures, write_architectures
from validation.architectures.run import Pair, run_architectures, run_surface
from validation.architectures.verdict import Outcome
from validation.execution.cases import Surroundings
from validation.models.trees import STOCK, resolve_tree
from validation.reporting.records import RecordFile
from validation.rope.faults import Fault, plant
from validation.tests.conftest import command

EPS = Fault(
    "eps-twice",
    "RMSNorm adds twice its epsilon: a small error in every RMSNorm architecture.",
    (("+ self.eps", "+ 2 * self.eps"),),
    file=Path("transformer_lens/components/rms_norm.py"),
)
FIELD = Fault(
    "another-default",
    "A field of the configuration has another default, which a saved one does not have.",
    (("    post_embedding_ln: bool = False", "    post_embedding_ln: bool = None"),),
    file=Path("transformer_lens/config/hooked_transformer_config.py"),
)
STATE = Fault(
    "another-key",
    "A parameter more: what was saved does not have it.",
    (("self.b_O = nn", "self.b_P = nn.Parameter(torch.zeros(1))\n        self.b_O = nn"),),
)

RAISES = Fault(
    "raises",
    "GPT-2 does not load.",
    (("state_dict = {}", "raise KeyError"),),
    file=Path("transformer_lens/pretrained/weight_conversions/gpt2.py"),
)


class Silent:
    """Nobody is told anything."""

    def counted(self, what: str, done: int, total: int) -> None:
        """Says nothing."""


def compare(tree: Path, out: Path, *names: str) -> dict[str, ArchitectureRecord]:
    """The records of these architectures with `tree` in the fork's place, two seeds."""
    file = RecordFile(out / "architectures.jsonl", ArchitectureRecord, "record")
    chosen = choose_architectures(names)
    records = run_architectures(chosen, ("float32",), pair(tree), file, Silent())
    return {record.architecture: record for record in records}


def pair(tree: Path) -> Pair:
    """The release, and `tree` in the fork's place."""
    base = get_base("v3.9.0")
    before, after = (resolve_tree(spec, base, lambda _: None) for spec in (STOCK, str(tree)))
    return Pair(before, after, 2, Surroundings.of("cpu"))


@pytest.fixture(scope="session")
def sound(fork: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OUT of a run of the fork itself."""
    out = tmp_path_factory.mktemp("sound")
    compare(fork, out, "gpt2", "yi")
    return out


def test_fork_moves_nothing_but_towards_hf(fork: Path, sound: Path) -> None:
    """GPT-2 keeps every bit; a Llama's logits and gradients are nearer, and its logits HF's own."""
    found = compare(fork, sound, "gpt2", "yi")
    assert found["gpt2"].outcome is Outcome.SAME, found["gpt2"].reason
    yi = found["yi"]
    assert yi.outcome is Outcome.NEARER, yi.reason
    assert yi.logits is not None
    assert yi.logits.before is not None
    assert yi.logits.before > 0
    assert yi.logits.after == 0


def test_what_is_there_is_not_run_again(fork: Path, sound: Path) -> None:
    """A second run adds no record."""
    before = (sound / "architectures.jsonl").read_bytes()
    compare(fork, sound, "gpt2", "yi")
    assert (sound / "architectures.jsonl").read_bytes() == before


def test_report_names_every_architecture(fork: Path, sound: Path) -> None:
    """The Markdown has a row of each, and nothing that fails."""
    records = list(compare(fork, sound, "gpt2", "yi").values())
    write_architectures(records, None, sound)
    text = (sound / "architectures.md").read_text(encoding="utf-8")
    assert "| gpt2 | GPT2LMHeadModel | float32 | SAME |" in text
    assert "| yi | LlamaForCausalLM | float32 | NEARER |" in text
    assert failures(records, None) == []


def test_mistakes_are_seen(fork: Path, tmp_path: Path) -> None:
    """An epsilon twice as large is FURTHER; what a tree raises is told, and the rest still runs."""
    further = plant(EPS, fork, tmp_path / "further", is_linked=True)
    tree = plant(RAISES, further, tmp_path / "tree", is_linked=True)
    found = compare(tree, tmp_path, "gpt2", "yi")
    assert found["gpt2"].outcome is Outcome.BROKEN
    assert "the fork: KeyError" in found["gpt2"].reason
    assert found["yi"].outcome is Outcome.FURTHER
    assert found["yi"].reason.startswith("further in logits")


@pytest.mark.parametrize(
    ("fault", "said"),
    [(FIELD, "pickled, has another post_embedding_ln"), (STATE, "Missing key(s)")],
)
def test_other_fields_and_keys_are_broken(
    fault: Fault, said: str, fork: Path, tmp_path: Path
) -> None:
    """A changed default and a parameter more fail by name."""
    tree = plant(fault, fork, tmp_path / "tree", is_linked=True)
    record = compare(tree, tmp_path, "gpt2")["gpt2"]
    assert record.outcome is Outcome.BROKEN
    assert said in record.reason


def test_surface_only_grows(fork: Path, tmp_path: Path) -> None:
    """The fork's signatures have what the release's have; only three Llamas' n_ctx are others."""
    record = run_surface(pair(fork), tmp_path / "surface.json")
    assert record.narrowed == ()
    assert record.signatures > 500
    assert record.configurations == 49
    changed = {field for fields in record.fields.values() for field in fields}
    assert changed == {"n_ctx"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--only", "gtp2"), "--only: 'gtp2' is no architecture"),
        (("--dtype", "float8"), "--dtype: 'float8' is not accepted"),
        (("--tree", "/nowhere"), "--tree: '/nowhere' has no transformer_lens package"),
        (("--seeds", "1"), "'--seeds': Input should be greater than or equal to 2"),
    ],
)
def test_bad_input_is_one_sentence(arguments: tuple[str, str], says: str, tmp_path: Path) -> None:
    """Status 2, and what is accepted."""
    done = command("architectures", *arguments, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert says in done.stderr
