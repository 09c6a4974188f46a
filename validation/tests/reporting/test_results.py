"""Results survive on disk, and what is no result is refused."""

import os
import re
import resource
from pathlib import Path

import pytest
from pydantic import ValidationError

from transformer_lens_fork.errors import InputError
from validation.judgement.verdict import Verdict
from validation.reporting.results import RESULTS, Result, ResultStore
from validation.tests.reporting.conftest import FLOOR, MakeResult, bins


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


def test_a_full_disk_leaves_no_half_record(make_result: MakeResult, tmp_path: Path) -> None:
    """The system stops writing in the middle of a record: the file is as it was, and is named."""
    store = ResultStore(tmp_path)
    store.add(make_result())
    path = tmp_path / RESULTS
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
    try:
        with pytest.raises(OSError, match=r"results\.jsonl") as full:
            store.add(make_result(context=1024))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert full.value.filename == str(path)
    assert path.read_bytes() == before
    assert len(store.all()) == 1
    store.add(make_result(context=2048))
    assert len(ResultStore(tmp_path).all()) == 2


def test_a_refused_file_is_left_as_it_is(tmp_path: Path) -> None:
    """Its half line at the end is not removed while a line before it is no result."""
    content = b"no result\n{half"
    (tmp_path / RESULTS).write_bytes(content)
    with pytest.raises(InputError, match="no result"):
        ResultStore(tmp_path)
    assert (tmp_path / RESULTS).read_bytes() == content


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Opening it would never end."""
    os.mkfifo(tmp_path / RESULTS)
    with pytest.raises(InputError, match="Not a regular file"):
        ResultStore(tmp_path)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"logits_total": 0}, "logits_total is 0; a positive multiple of context 4096"),
        ({"logits_total": 4097}, "logits_total is 4097; a positive multiple"),
        ({"logits_total": None}, "logits_total is None and logits_differing 0"),
        ({"max_abs": 1e-9}, "IDENTICAL contradicts max_abs 1e-09"),
        ({"mean_abs": None}, "IDENTICAL contradicts mean_abs None"),
    ],
)
def test_identical_needs_figures_of_the_identical(
    make_result: MakeResult, fields: dict[str, object], says: str
) -> None:
    """Any logit, or any error, says otherwise."""
    with pytest.raises(ValidationError, match=says):
        make_result(**fields)


def test_identical_needs_every_bin(make_result: MakeResult) -> None:
    """One bin with an error is enough."""
    bins = list(make_result().model_dump()["bins"])
    bins[2] |= {"max_abs": 1e-9}
    with pytest.raises(ValidationError, match="IDENTICAL contradicts the bin of positions 91-127"):
        make_result(bins=bins)


RISING = bins(4096, lambda position: FLOOR * (1 + position / 8192))
"""Below twice the floor, and growing."""


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"parity_ratio_by_bin": (1.0, 2.01)}, r"where 2\.01 is; at most 2 is accepted"),
        ({"parity_ratio_by_bin": (1.0, None)}, "where None is"),
        ({"parity_ratio_by_bin": ()}, "missing or not finite"),
        ({"parity_ratio_by_bin": None}, "missing or not finite"),
        ({"max_abs": None}, "missing or not finite"),
        (
            {
                "slope": {"value": 0.5, "low": 0.2, "high": 0.8},
                "bins": RISING,
                "parity_ratio_by_bin": tuple(bin_["rms"] / bin_["floor_rms"] for bin_ in RISING),
            },
            r"slope\.low 0\.2",
        ),
        ({"parity_ratio_by_bin": (1.0,)}, "1 ratios of 13 bins"),
        ({"parity_ratio_by_bin": (0.5,) * 13}, r"the bin of positions 0-63, where it is 0\.98"),
        ({"power_ratio": 1.9}, r"power_ratio 1\.9; more than 2 is accepted"),
        ({"top1_counted": 1}, "top1_counted 1"),
        ({"logits_differing": 4096 * 49152 + 1}, "is more than logits_total"),
    ],
)
def test_at_floor_needs_errors_at_the_floor(
    make_result: MakeResult, fields: dict[str, object], says: str
) -> None:
    """The figures beside the verdict have to bear it out."""
    with pytest.raises(ValidationError, match=says):
        make_result(verdict=Verdict.AT_FLOOR, **fields)
