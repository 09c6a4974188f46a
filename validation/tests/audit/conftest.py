"""Records as an audit would give them, and an index of tiny wheels for pip."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from validation.audit.records import AuditRecord
from validation.judgement.verdict import Verdict
from validation.tests.reporting.conftest import digest

MakeRecord = Callable[..., AuditRecord]
"""See `build_record`."""

FLOOR = 6e-6
VOCAB = 100

_RATIOS = {Verdict.IDENTICAL: 0.0, Verdict.AT_FLOOR: 0.9, Verdict.DRIFTS: 8.85}


def build_context(context: int, of: Verdict, **fields: Any) -> dict[str, Any]:
    """A release with this verdict at one context."""
    ratio = _RATIOS.get(of, 12_345.6)
    is_same = of is Verdict.IDENTICAL
    return {
        "context": context,
        "verdict": of.name,
        "reason": f"reason at {context}",
        "notes": ("it has n_ctx 2048 for Llama 3.1",),
        "logits_total": context * VOCAB,
        "logits_differing": 0 if is_same else context * VOCAB - 7,
        "first_differing": None if is_same else 0,
        "first_wrong": None if ratio < 1 else 1,
        "parity_ratio": ratio,
        "largest_ratio": 2 * ratio,
        "mean_abs": ratio * FLOOR,
        "floor_mean_abs": FLOOR,
        "max_abs": 50 * ratio * FLOOR,
        "kl_mean": ratio * 1e-9,
        "top1_agreement": 1.0 if ratio < 1 else 0.75,
        "seconds": 1.5,
    } | fields


def build_record(
    release: str = "2.9.0",
    verdict: Verdict = Verdict.DRIFTS,
    wrong: int = 13,
    at: tuple[int, ...] = (256, 4096),
    **fields: Any,
) -> AuditRecord:
    """A record of a release with this verdict in every context.

    Args:
        release: its version.
        verdict: of each context.
        wrong: of its 64 frequencies.
        at: tokens of the contexts.
        **fields: other fields of the record.
    """
    frequencies = {"total": 64, "wrong": wrong, "differing": 40, "largest_factor": 8.0}
    provenance = {
        "key": digest(release, fields),
        "harness_sha256": digest("harness"),
        "git_commit": "1f" * 20,
        "git_dirty": False,
        "checkpoint_sha256": digest("checkpoint"),
        "prompt_sha256": digest("prompt"),
        "prompt_source": "text of TransformerLens 3.9.0's sdist",
        "layers": 2,
        "seed": 0,
        "chunk": 682,
        "packages": {"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0"},
        "settings": {"device_name": "a processor", "threads": "1"},
        "measured_at": "2026-01-02T03:04:05+00:00",
    }
    return AuditRecord.model_validate(
        {
            "release": release,
            "model": "HookedTransformer",
            "attention": "eager",
            "ending": "MEASURED",
            "reason": "",
            "checkpoint": "smollm2[2 of 30 layers]",
            "dtype": "float32",
            "wheel_sha256": digest("wheel", release),
            "tree_sha256": digest("tree", release),
            "installed": {"torch": "2.13.0", "transformers": "4.57.6"},
            "overridden": (),
            "contexts": tuple(build_context(context, verdict) for context in at),
            "frequencies": {"Llama 3.1": frequencies},
            "provenance": provenance,
            **fields,
        }
    )


def not_installed(release: str = "2.12.0") -> AuditRecord:
    """A record of a release that pip could not install."""
    nothing: dict[str, Any] = {"wheel_sha256": None, "tree_sha256": None, "installed": {}}
    return build_record(
        release,
        ending="NOT_INSTALLED",
        reason="No matching distribution found.",
        at=(),
        frequencies={},
        **nothing,
    )


@pytest.fixture
def make_record() -> MakeRecord:
    """Builds records."""
    return build_record


def make_wheel(folder: Path, name: str, version: str, *requires: str) -> None:
    """Writes a wheel of a package that holds its version."""
    module = name.replace("-", "_")
    stem = f"{module}-{version}"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
        wheel.writestr(f"{stem}.dist-info/METADATA", metadata)
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{stem}.dist-info/WHEEL", tags)
        wheel.writestr(f"{stem}.dist-info/RECORD", "")
        wheel.writestr(f"{module}/__init__.py", f"VERSION = {version!r}\n")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is pip's only index, and a cache of its own for what is built from it."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("LLAMA31_PARITY_CACHE", str(tmp_path / "cache"))
    return folder
