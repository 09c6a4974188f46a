"""Folders of results become one, and stay as they are."""

from pathlib import Path

import pytest

from transformer_lens_fork.errors import InputError
from validation.judgement.verdict import Verdict
from validation.reporting.merging import merge
from validation.reporting.results import Result, ResultStore
from validation.tests.reporting.conftest import MakeResult


def _folder(path: Path, *results: Result) -> Path:
    store = ResultStore(path)
    for result in results:
        store.add(result)
    return path


def test_every_case_is_there_once(make_result: MakeResult, tmp_path: Path) -> None:
    """Also if it was run in two folders, or a folder is merged again."""
    short, long = make_result(), make_result(context=8192)
    folders = [_folder(tmp_path / "a", short), _folder(tmp_path / "b", long, short)]
    for _ in range(2):
        results, staged = merge(folders, tmp_path / "all")
        assert results == [short, long]
        assert staged == []
    assert len((tmp_path / "all" / "results.jsonl").read_bytes().splitlines()) == 2


def test_a_death_gives_way_to_a_result(make_result: MakeResult, tmp_path: Path) -> None:
    """In whichever order they come; it is kept where nothing came of the case."""
    same = {"measured_with": {"case_key": "a" * 64}}
    died = make_result(verdict=Verdict.DIED, reason="the worker was killed", **same)
    fine = make_result(**same)
    also_died = make_result(verdict=Verdict.DIED, context=8192, reason="the worker was killed")
    one = _folder(tmp_path / "a", died, also_died)
    other = _folder(tmp_path / "b", fine)
    for number, folders in enumerate(([one, other], [other, one])):
        for _ in range(2):
            results, _ = merge(folders, tmp_path / f"{number}")
            assert sorted(results, key=lambda r: r.context) == [fine, also_died]


@pytest.mark.parametrize("newest_first", [True, False])
def test_the_newest_counts(newest_first: bool, make_result: MakeResult, tmp_path: Path) -> None:
    """Of one case measured twice, with other code say, in whichever order the folders are named."""
    old, new = (
        make_result(
            seconds=float(day), measured_with={"case_key": f"{day}" * 64, "measured_at": at}
        )
        for day, at in ((1, "2026-01-01T00:00:00+00:00"), (2, "2026-01-02T00:00:00+00:00"))
    )
    folders = [_folder(tmp_path / "a", old), _folder(tmp_path / "b", new)]
    if newest_first:
        folders.reverse()
    for _ in range(2):
        results, _ = merge(folders, tmp_path / "all")
        assert results == [new]
    assert len((tmp_path / "all" / "results.jsonl").read_bytes().splitlines()) == 2


def test_a_run_that_goes_on_is_left_alone(make_result: MakeResult, tmp_path: Path) -> None:
    """Half a line at the end is being written: it is neither read nor removed."""
    folder = _folder(tmp_path / "a", make_result())
    file = folder / "results.jsonl"
    file.write_bytes(content := file.read_bytes() + b'{"subject": "fo')
    results, _ = merge([folder], tmp_path / "all")
    assert results == [make_result()]
    assert file.read_bytes() == content


@pytest.mark.parametrize("content", [None, b"no result\n"])
def test_other_folders_are_refused(tmp_path: Path, content: bytes | None) -> None:
    """In one sentence, before anything is written."""
    if content is not None:
        (tmp_path / "results.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=r"results\.jsonl"):
        merge([tmp_path], tmp_path / "all")
    assert not (tmp_path / "all").exists()
