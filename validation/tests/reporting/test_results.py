"""Results survive on disk, and what is no result is refused."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from transformer_lens_fork.errors import InputError
from validation.judgement.verdict import Verdict
from validation.reporting.results import RESULTS, Result, ResultStore
from validation.tests.reporting.conftest import MakeResult


@pytest.mark.parametrize("verdict", Verdict)
def test_results_come_back(make_result: MakeResult, tmp_path: Path, verdict: Verdict) -> None:
    """What one store wrote another reads, whatever the verdict."""
    result = make_result(verdict=verdict)
    ResultStore(tmp_path).add(result)
    store = ResultStore(tmp_path)
    assert store.all() == [result]
    assert store.recovered is None


def test_append_only(make_result: MakeResult, tmp_path: Path) -> None:
    """A later result leaves the bytes of the earlier ones alone."""
    store = ResultStore(tmp_path)
    store.add(make_result("stock", Verdict.DRIFTS))
    before = (tmp_path / RESULTS).read_bytes()
    ResultStore(tmp_path).add(make_result("fork"))
    after = (tmp_path / RESULTS).read_bytes()
    assert after.startswith(before)
    assert after.count(b"\n") == 2


def test_result_is_on_disk_at_once(make_result: MakeResult, tmp_path: Path) -> None:
    """A run that is killed right after a case has not lost it."""
    store = ResultStore(tmp_path)
    store.add(make_result())
    assert len((tmp_path / RESULTS).read_bytes().splitlines()) == 1


def test_newest_wins(make_result: MakeResult, tmp_path: Path) -> None:
    """A case that died and was run again has the result of the second run."""
    case_key = "c" * 64
    store = ResultStore(tmp_path)
    store.add(make_result(verdict=Verdict.DIED, measured_with={"case_key": case_key}))
    again = make_result(measured_with={"case_key": case_key})
    store.add(again)
    for reader in (store, ResultStore(tmp_path)):
        assert reader.all() == [again]
        assert reader.finished(case_key) == again


def test_torn_line_is_removed(make_result: MakeResult, tmp_path: Path) -> None:
    """Half a line at the end is what a crash leaves: it goes, people are told, and work goes on."""
    first, second = make_result(), make_result(context=1024)
    ResultStore(tmp_path).add(first)
    path = tmp_path / RESULTS
    whole = path.read_bytes()
    path.write_bytes(whole + second.model_dump_json().encode()[:100])
    store = ResultStore(tmp_path)
    assert store.recovered == f"{path}: half a line at its end was removed"
    assert path.read_bytes() == whole
    store.add(second)
    assert ResultStore(tmp_path).all() == [first, second]


def test_line_torn_at_its_end(make_result: MakeResult, tmp_path: Path) -> None:
    """A last line that lacks only its newline is torn too: the next one would join it."""
    ResultStore(tmp_path).add(make_result())
    path = tmp_path / RESULTS
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    store = ResultStore(tmp_path)
    assert store.recovered
    assert store.all() == []


@pytest.mark.parametrize("line", ["no json", "{}", '{"subject": "fork"}', ""])
def test_invalid_line(make_result: MakeResult, tmp_path: Path, line: str) -> None:
    """A line that is no result is refused with its number, and the file stays as it is."""
    ResultStore(tmp_path).add(make_result())
    path = tmp_path / RESULTS
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(InputError, match=re.escape(f"--out: {path}:2 is no result")):
        ResultStore(tmp_path)
    assert path.read_bytes() == before


def test_unknown_field(make_result: MakeResult, tmp_path: Path) -> None:
    """A result of another version is refused, and the message names the field."""
    line = make_result().model_dump_json().replace('{"subject"', '{"flavour":1,"subject"', 1)
    (tmp_path / RESULTS).write_text(line + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"results\.jsonl:1 is no result \(flavour: "):
        ResultStore(tmp_path)


def test_folder_cannot_be_made(tmp_path: Path) -> None:
    """A folder below a file is refused before anything runs."""
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^--out: .*file/out' cannot be written \(Not a dir"):
        ResultStore(tmp_path / "file" / "out")


def test_results_are_a_folder(tmp_path: Path) -> None:
    """A folder where the results should be is refused."""
    (tmp_path / RESULTS).mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        ResultStore(tmp_path)


def test_died_is_not_finished(make_result: MakeResult, tmp_path: Path) -> None:
    """A death may have been an accident: the case is run again."""
    store = ResultStore(tmp_path)
    died = make_result(verdict=Verdict.DIED)
    refused = make_result("stock", Verdict.REFUSED)
    store.add(died)
    store.add(refused)
    assert not died.is_finished
    assert store.finished(died.provenance.case_key) is None
    assert store.finished(refused.provenance.case_key) == refused
    assert store.finished("0" * 64) is None
    assert store.all() == [died, refused]


def test_identical_with_differing_logits(make_result: MakeResult) -> None:
    """IDENTICAL with a differing logit contradicts itself."""
    with pytest.raises(ValidationError, match="IDENTICAL contradicts logits_differing 1"):
        make_result(logits_differing=1)


def test_failure_without_differing_logits(make_result: MakeResult) -> None:
    """So does any other verdict where none differs."""
    with pytest.raises(ValidationError, match="DRIFTS contradicts logits_differing 0"):
        make_result(verdict=Verdict.DRIFTS, logits_differing=0)


def test_unknown_verdict(make_result: MakeResult) -> None:
    """Only names of verdicts are accepted, and the message lists them."""
    fields = make_result().model_dump() | {"verdict": "PASSED"}
    with pytest.raises(ValidationError, match="verdict is 'PASSED'; accepted are IDENTICAL, AT_"):
        Result.model_validate(fields)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_errors_are_finite(make_result: MakeResult, value: float) -> None:
    """NaN and Inf, which JSON has no words for, and negative errors are refused."""
    with pytest.raises(ValidationError, match="max_abs"):
        make_result(verdict=Verdict.DRIFTS, max_abs=value)


@pytest.mark.parametrize("verdict", Verdict)
def test_outcome(make_result: MakeResult, verdict: Verdict) -> None:
    """The verdict's name becomes the verdict again."""
    assert make_result(verdict=verdict).outcome is verdict
