"""What can change the bits of a result is pinned and described."""

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


def test_only_cuda_says_how_keys_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """So results on CPU keep their keys."""
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _: "a GPU")
    assert describe_arithmetic("cuda")["float32_sdpa_keys"] == "repeated"
    assert set(describe_arithmetic("cpu")) >= {"threads", "allow_tf32"}
    assert "float32_sdpa_keys" not in describe_arithmetic("cpu")
