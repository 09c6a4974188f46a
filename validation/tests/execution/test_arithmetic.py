"""What can change the bits of a result is pinned and described."""

from pathlib import Path

import pytest
import torch

from validation.execution.arithmetic import describe_arithmetic, fix_arithmetic

GROUPS = "transformers.integrations.sdpa_attention.use_gqa_in_sdpa"


def test_only_cuda_needs_to_know_how_keys_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """There it is said when it is not so; elsewhere `transformers` may have what it wants."""
    monkeypatch.delattr(GROUPS)
    fix_arithmetic(torch.get_num_threads(), 0, "cpu")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    fix_arithmetic(torch.get_num_threads(), 0, "cpu")
    with pytest.raises(RuntimeError, match="has no use_gqa_in_sdpa in integrations/sdpa_attention"):
        fix_arithmetic(torch.get_num_threads(), 0, "cuda:1")


def test_cuda_has_settings_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Beside those of the CPU, whose results keep their keys."""
    driver = tmp_path / "version"
    driver.write_text("NVRM version: 1.2.3  \nGCC version: 4\n")
    monkeypatch.setattr("validation.execution.arithmetic._DRIVER", driver)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _: "a GPU")
    monkeypatch.setattr("torch.backends.cudnn.version", lambda: 91002)
    fix_arithmetic(torch.get_num_threads(), 0, "cpu")
    on_cpu, on_cuda = describe_arithmetic("cpu"), describe_arithmetic("cuda")
    assert {name: on_cuda[name] for name in on_cuda.keys() - on_cpu.keys()} == {
        "driver": "NVRM version: 1.2.3",
        "cudnn": "91002",
        "cudnn_allow_tf32": "False",
        "sdpa_backends": "flash, mem_efficient, cudnn, math",
        "float32_sdpa_keys": "repeated",
    }
    assert {name for name in on_cpu if name.islower()} == {
        *("device_name", "cpu_capability", "threads", "float32_matmul_precision"),
        *("allow_tf32", "cuda", "mkldnn"),
    }
    driver.unlink()
    assert describe_arithmetic("cuda")["driver"] == "unknown"
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert describe_arithmetic("cuda")["sdpa_backends"] == "math"


def test_a_variable_is_told_where_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would group heads that are masked, on any device."""
    name = "TRANSFORMERS_SDPA_FORCE_GQA"
    monkeypatch.delenv(name, raising=False)
    assert name not in describe_arithmetic("cpu")
    monkeypatch.setenv(name, "1")
    assert describe_arithmetic("cpu")[name] == "1"
