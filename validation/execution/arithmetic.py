"""Pins and describes whatever can change the bits of a result, beside the models and the input."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

_PACKAGES = ("torch", "transformers", "numpy", "safetensors", "tokenizers", "einops", "jaxtyping")

_VARIABLES = ("ATEN_", "CUBLAS_", "DNNL_", "KMP_", "MKL_", "NVIDIA_TF32", "OMP_", "ONEDNN_")
"""Beginnings of environment variables that make the libraries sum in another order."""


def fix_arithmetic(threads: int, seed: int) -> None:
    """Seeds torch and pins the number of threads and the precision of matrix products."""
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    # TF32 keeps 10 bits of the mantissa: angles of thousands of radians would be whole turns off.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


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
        **{name: value for name, value in os.environ.items() if name.startswith(_VARIABLES)},
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
