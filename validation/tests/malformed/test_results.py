"""results.jsonl torn, flipped, edited, or with garbage among its lines."""

import json
import random
from functools import partial
from pathlib import Path

import pytest

from validation.reporting.results import RESULTS, Result, ResultStore
from validation.tests.malformed.conftest import SEED, Refused, flip


def _results(folder: Path, content: bytes) -> list[Result]:
    (folder / RESULTS).write_bytes(content)
    return ResultStore(folder).all()


def test_torn_results_are_repaired(lines: list[bytes], tmp_path: Path, refusal: Refused) -> None:
    """Cut anywhere in its last line, a file keeps the other lines and says what it lost."""
    random_ = random.Random(SEED)
    whole = b"".join(lines[:2])
    for _ in range(25):
        torn = whole + lines[2][: random_.randrange(1, len(lines[2]))]
        assert refusal(partial(_results, tmp_path, torn)) is None
        assert (tmp_path / RESULTS).read_bytes() == whole
        (tmp_path / RESULTS).write_bytes(torn)
        assert "half a line" in (ResultStore(tmp_path).recovered or "")


def test_garbage_among_results(lines: list[bytes], tmp_path: Path, refusal: Refused) -> None:
    """A line that is none is refused with its number, and the file is left as it is."""
    random_ = random.Random(SEED)
    garbage = [b"", b"{}", b"[]", b"null", b"\0" * 9, b"\xff\xfe", b"\xef\xbb\xbf", b"[" * 100_000]
    garbage += [random_.randbytes(40).replace(b"\n", b"") for _ in range(12)]
    for line in garbage:
        content = lines[0] + line + b"\n" + lines[1] + b'{"torn'
        sentence = refusal(partial(_results, tmp_path, content))
        assert sentence
        assert f"{RESULTS}:2 is no result" in sentence
        assert (tmp_path / RESULTS).read_bytes() == content


def test_flipped_bits_of_results(lines: list[bytes], tmp_path: Path, refusal: Refused) -> None:
    """No flip gives a case another verdict."""
    content = b"".join(lines)
    wanted = {
        (result.subject, result.context, result.verdict)
        for result in map(Result.model_validate_json, lines)
    }
    random_ = random.Random(SEED)
    read: list[Result] = []
    refused = sum(
        refusal(
            lambda: read.extend(_results(tmp_path, flip(content, random_, 0, len(content) - 1)))
        )
        is not None
        for _ in range(80)
    )
    assert refused > 5
    for result in read:
        verdicts = {verdict for _, _, verdict in wanted}
        assert result.verdict in verdicts
        if (result.subject, result.context) in {known[:2] for known in wanted}:
            assert (result.subject, result.context, result.verdict) in wanted


@pytest.mark.parametrize(
    "edit",
    [
        {"verdict": "IDENTICAL"},
        {"verdict": "IDENTICAL", "logits_differing": 0},
        {"verdict": "IDENTICAL", "logits_differing": 0, "max_abs": 0.0},
        {"verdict": "IDENTICAL", "logits_differing": 0, "max_abs": 0.0, "mean_abs": 0.0},
        {"verdict": "IDENTICAL", "logits_differing": 0, "logits_total": 0},
        {"verdict": "IDENTICAL", "logits_differing": 0, "logits_total": None},
        {"verdict": "AT_FLOOR"},
        {"verdict": "AT_FLOOR", "parity_ratio_by_bin": None},
        {"verdict": "AT_FLOOR", "parity_ratio_by_bin": []},
        {"verdict": "AT_FLOOR", "parity_ratio_by_bin": [1.0, None]},
        {"verdict": "AT_FLOOR", "parity_ratio_by_bin": [1.0]},
        {"verdict": "AT_FLOOR", "parity_ratio_by_bin": [1.0], "slope": None, "max_abs": None},
        {"verdict": "AT_FLOOR", "parity_ratio_by_bin": [1.0], "slope": None, "top1_counted": 3},
        {"verdict": "PASS"},
        {"verdict": "identical"},
        {"verdict": 0},
        {"verdict": None},
        {"verdict": ["IDENTICAL"]},
        {"logits_differing": 0},
        {"logits_differing": -1},
        {"logits_differing": 10**12},
        {"logits_differing": None},
        {"logits_total": 1},
        {"logits_total": 0},
        {"logits_total": float("nan")},
        {"max_abs": float("nan")},
        {"max_abs": float("inf")},
        {"max_abs": -1.0},
        {"mean_abs": "small"},
        {"seconds": -5.0},
        {"top1_agreement": 1.5},
        {"context": 0},
        {"context": -1024},
        {"bins": {}},
        {"provenance": None},
        {"provenance": {}},
        {"unknown": 1},
    ],
)
def test_edited_results_are_not_believed(
    lines: list[bytes], tmp_path: Path, refusal: Refused, edit: dict[str, object]
) -> None:
    """A failed case does not pass because somebody wrote so, nor with figures that cannot be."""
    edited = json.dumps(json.loads(lines[1]) | edit).encode() + b"\n"
    sentence = refusal(lambda: _results(tmp_path, lines[0] + edited))
    assert sentence
    assert f"{RESULTS}:2 is no result" in sentence
