"""Tiny seeded checkpoints, and the trees under test."""

import os
import subprocess
import sys
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NoReturn, TextIO

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from transformer_lens_fork.bases import REPOSITORY, get_base
from transformer_lens_fork.series import ensure_checkout
from validation.__main__ import app

os.environ.setdefault("HF_HUB_OFFLINE", "1")

ROPE: dict[str, Any] = {
    "rope_type": "llama3",
    "rope_theta": 1e6,
    "factor": 4.0,
    "low_freq_factor": 2.0,
    "high_freq_factor": 8.0,
    "original_max_position_embeddings": 4096,
}
"""As far from the official parameters as a legal configuration is: nothing may be hard-coded."""

SMALLEST = {
    "hidden_size": 64,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 64,
}
"""Changes to `save_checkpoint` for tests that run very often."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests come first: one that starts last has a core to itself while the other idles."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def save_checkpoint(folder: Path, *, std: float = 0.35, **changes: Any) -> Path:
    """A random Llama with attention sharp enough that RoPE matters (GQA, head_dim != d/heads)."""
    config = LlamaConfig(
        **{
            "hidden_size": 144,
            "intermediate_size": 192,
            "num_hidden_layers": 2,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 48,
            "vocab_size": 320,
            "max_position_embeddings": 65536,
            "tie_word_embeddings": False,
            "rope_parameters": dict(ROPE),
            **changes,
        }
    )
    torch.manual_seed(7)
    model = LlamaForCausalLM(config)
    for layer in model.model.layers:
        torch.nn.init.normal_(layer.self_attn.q_proj.weight, std=std)
        torch.nn.init.normal_(layer.self_attn.k_proj.weight, std=std)
    model.save_pretrained(folder)
    return folder


def command(
    *arguments: object, cwd: Path = REPOSITORY, **variables: str
) -> subprocess.CompletedProcess[str]:
    """`python -m validation` with these arguments, in a process of its own.

    A fork of this one, which has imported torch and transformers already: that is what a small
    command spends its time on. Where torch has more than one thread it is a new process, since the
    threads of OpenMP do not survive a fork.

    Args:
        arguments: of the command line.
        cwd: the working directory.
        variables: of the environment, beside those of this process.
    """
    words = ["-m", "validation", *map(str, arguments)]
    added = {"HF_HUB_OFFLINE": "1", "COLUMNS": "200", "PYTHONPATH": str(REPOSITORY)} | variables
    if os.environ.get("OMP_NUM_THREADS") == "1" and hasattr(os, "fork"):
        return _fork(words, cwd, added)
    # -P: what lies in the working directory must not stand in for ours.
    return subprocess.run(
        [sys.executable, "-P", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=os.environ | added,
    )


def _fork(
    words: list[str], cwd: Path, variables: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    with TemporaryFile() as stdout, TemporaryFile() as stderr, Path(os.devnull).open() as stdin:
        with warnings.catch_warnings():
            # Python 3.12 warns of the threads of pytest-xdist, which hold nothing that is used.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            _become(words, cwd, variables, (stdin.fileno(), stdout.fileno(), stderr.fileno()))
        _, status = os.waitpid(child, 0)
        said = []
        for file in (stdout, stderr):
            file.seek(0)
            said.append(file.read().decode())
    return subprocess.CompletedProcess(words, os.waitstatus_to_exitcode(status), *said)


def _become(
    words: list[str], cwd: Path, variables: dict[str, str], streams: tuple[int, int, int]
) -> NoReturn:
    """Is the command, and ends with it: nothing of the tests goes on in this process."""
    status = 1
    try:
        for descriptor, stream in enumerate(streams):
            os.dup2(stream, descriptor)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
        os.environ |= variables
        os.chdir(cwd)
        _warn_as_python_does()
        sys.argv = words[1:]
        app()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _warn_as_python_does() -> None:
    """On stderr, and not of what only authors of code want to know: pytest's ways are another's."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        print(warnings.formatwarning(message, category, filename, lineno), end="", file=sys.stderr)

    warnings.showwarning = show
    warnings.resetwarnings()
    for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", kind)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random checkpoint in a folder whose path has 'llama' in it, as people's have."""
    return save_checkpoint(tmp_path_factory.mktemp("my-llama") / "Llama-3.1-8B-like")


@pytest.fixture(scope="session")
def fork() -> Path:
    """The materialised fork of v3.9.0."""
    return ensure_checkout(get_base("v3.9.0"))
