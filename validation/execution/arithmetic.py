"""Pins and describes whatever can change the bits of a result, beside the models and the input."""

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_PACKAGES = ("torch", "transformers", "numpy", "safetensors", "tokenizers", "einops", "jaxtyping")

_VARIABLES = (
    *("ATEN_", "CUBLAS_", "DNNL_", "KMP_", "MKL_", "NVIDIA_TF32", "OMP_", "ONEDNN_"),
    "TRANSFORMERS_SDPA_FORCE_GQA",
)
"""Beginnings of environment variables that make the libraries sum in another order."""

_DRIVER = Path("/proc/driver/nvidia/version")

_GROUPS = "use_gqa_in_sdpa"
"""Of transformers' `sdpa_attention`: whether torch is given fewer heads of keys than of queries."""


@dataclass(frozen=True)
class _Ungrouped:
    """In place of transformers' own function, which decides where this one does not."""

    theirs: Callable[..., bool]
    device_type: str

    def __call__(self, attention_mask: Tensor | None, key: Tensor, *others: Tensor) -> bool:
        is_repeated = key.dtype == torch.float32 and key.device.type == self.device_type
        return not is_repeated and self.theirs(attention_mask, key, *others)


def fix_arithmetic(threads: int, seed: int, device: str = "cuda") -> None:
    """Seeds torch, pins the number of threads, the precision of products and CUDA's attention.

    Args:
        threads: of torch, on CPU.
        seed: of torch's generators.
        device: where models run.

    Raises:
        RuntimeError: see `repeat_float32_keys`.
    """
    if device.startswith("cuda") and torch.cuda.is_available():
        repeat_float32_keys("cuda")
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    # TF32 keeps 10 bits of the mantissa: angles of thousands of radians would be whole turns off.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def repeat_float32_keys(device_type: str) -> None:
    """Has fused attention in float32 get a copy of its keys and values for every query head.

    Of CUDA's kernels flash and cuDNN take no float32, and the memory-efficient one takes no grouped
    heads (torch, aten/src/ATen/native/transformers/cuda/sdp_utils.cpp): of these torch would form
    all scores, 512 GiB of 32 heads at 64k tokens. `transformers` decides it in a function, which
    the fork reaches through `sdpa_attention_forward`, too.

    Args:
        device_type: where, such as `cuda`.

    Raises:
        RuntimeError: `transformers` has no such function.
    """
    from transformers.integrations import sdpa_attention

    theirs = getattr(sdpa_attention, _GROUPS, None)
    if theirs is None:
        raise RuntimeError(
            f"transformers {version('transformers')} has no {_GROUPS} in integrations/"
            "sdpa_attention.py: whether float32 on CUDA would form all scores is not known."
        )
    if not isinstance(theirs, _Ungrouped):
        setattr(sdpa_attention, _GROUPS, _Ungrouped(theirs, device_type))


def installed_packages() -> dict[str, str]:
    """Versions of the packages that compute or feed the models."""
    packages = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return packages


def describe_arithmetic(device: str) -> dict[str, str]:
    """Hardware and settings, after `fix_arithmetic`."""
    on_cuda = device.startswith("cuda")
    return {
        "device_name": torch.cuda.get_device_name(device) if on_cuda else _cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "allow_tf32": str(torch.backends.cuda.matmul.allow_tf32),
        "cuda": str(torch.version.cuda),
        "mkldnn": str(torch._C._has_mkldnn),
        **(_describe_cuda() if on_cuda else {}),
        **{name: value for name, value in os.environ.items() if name.startswith(_VARIABLES)},
    }


def _describe_cuda() -> dict[str, str]:
    backends: Any = torch.backends  # its functions have no types
    names = ("flash", "mem_efficient", "cudnn", "math")
    enabled = (name for name in names if getattr(backends.cuda, f"{name}_sdp_enabled")())
    return {
        "driver": _first_line(_DRIVER) or "unknown",
        "cudnn": str(backends.cudnn.version()),
        "cudnn_allow_tf32": str(backends.cudnn.allow_tf32),
        "sdpa_backends": ", ".join(enabled),
        "float32_sdpa_keys": "repeated",
    }


def _first_line(file: Path) -> str:
    """Empty if there is no such file."""
    try:
        return file.read_text(encoding="utf-8").partition("\n")[0].strip()
    except OSError:
        return ""


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
