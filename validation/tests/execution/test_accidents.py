"""What the machine does to a worker is reported as that, and never counted against a tree."""

import errno
import os
import resource
import shutil
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from transformer_lens_fork.bases import REPOSITORY
from validation.execution.accidents import MemoryKills, exhausted, what_ran_out
from validation.execution.processes import last_lines
from validation.reporting.results import RESULTS
from validation.tests.conftest import SMALLEST, save_checkpoint
from validation.tests.execution.test_run import results, run


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose runs take little more than the processes' start."""
    return save_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint", **SMALLEST)


def _extended(fork: Path, tree: Path, code: str) -> Path:
    """A copy of the fork, at `tree`, whose import ends with `code`."""
    package = tree / "transformer_lens"
    shutil.copytree(fork / "transformer_lens", package)
    with (package / "__init__.py").open("a", encoding="utf-8") as file:
        file.write(code)
    return tree


def _path_with(folder: Path, code: str) -> str:
    """A PYTHONPATH with which every process begins with `code`."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
    return os.pathsep.join((str(folder), str(REPOSITORY)))


def _raised(work: object) -> BaseException:
    assert callable(work)
    with pytest.raises(Exception) as caught:  # noqa: PT011  # whatever the library raises
        work()
    return caught.value


def test_memory_that_is_not_there_is_known_by_what_libraries_raise() -> None:
    """Python, numpy and torch, whose CPU allocator raises a plain RuntimeError."""
    for error in (
        _raised(lambda: bytearray(2**62)),
        _raised(lambda: np.ones(2**60, dtype=np.int8)),
        _raised(lambda: torch.empty(2**60, dtype=torch.int8)),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ):
        assert exhausted(error) == "memory", repr(error)


def test_a_full_disk_is_known_by_what_libraries_raise(tmp_path: Path) -> None:
    """Real writes beyond the size that a file may have, by Python, numpy and safetensors."""
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "import numpy as np, torch\n"
        "from safetensors.torch import save_file\n"
        "from validation.execution.accidents import exhausted, what_ran_out\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "path = Path(sys.argv[1])\n"
        "for work in (\n"
        "    lambda: path.write_bytes(bytes(9000)),\n"
        "    lambda: np.save(path, np.ones(9000)),\n"
        "    lambda: np.savez(path, a=np.ones(9000)),\n"
        "    lambda: save_file({'a': torch.ones(9000)}, path),\n"
        "):\n"
        "    try:\n"
        "        work()\n"
        "    except Exception as error:\n"
        "        print(exhausted(error), what_ran_out(error), sep=': ')\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "file")],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    python, save, savez, safetensors = process.stdout.splitlines()
    assert python == savez == safetensors == "disk: File too large"
    assert save.startswith("disk: ")


def test_what_a_tree_does_is_no_accident(tmp_path: Path) -> None:
    """Errors of shapes, of missing files and of safetensors' own stay the tree's."""
    for error in (
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "x"),
        _raised(lambda: save_file({"a": torch.ones(1)}, tmp_path / "no" / "x")),
        _raised(lambda: torch.ones(2) @ torch.ones(3)),
        KeyError("q"),
    ):
        assert exhausted(error) is None, repr(error)


def test_the_reason_is_short() -> None:
    """The system's words where a library wraps them in its own."""
    wrapped = ValueError("Error while serializing: I/O error: No space (os error 28)")
    assert what_ran_out(wrapped) == os.strerror(28)
    assert what_ran_out(OSError(errno.ENOSPC, "No space left on device", "f")) == (
        "No space left on device"
    )


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ((None, None), (None, None), "killed by SIGKILL (out of memory?)"),
        ((3, 9), (4, 10), "killed by SIGKILL: out of memory, the kernel says"),
        ((None, 9), (None, 10), "killed by SIGKILL: out of memory, the kernel says"),
        ((3, 9), (3, 10), "killed by SIGKILL, not by the kernel for want of memory"),
        ((None, 9), (None, 9), "killed by SIGKILL, not by the kernel for want of memory"),
    ],
)
def test_who_sent_sigkill(
    before: tuple[int | None, int | None], after: tuple[int | None, int | None], says: str
) -> None:
    """The kernel counts whom it kills for memory; the own group's count goes before the rest."""
    assert MemoryKills(*after).describe_sigkill(MemoryKills(*before)) == says


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts")
def test_the_kernel_is_asked() -> None:
    """At least one of the two counts is there, and neither rises by itself."""
    before, after = MemoryKills.now(), MemoryKills.now()
    assert (before.group, before.machine) != (None, None)
    assert after == before


def test_accidents_cost_their_own_cases_only(tiny: Path, fork: Path, tmp_path: Path) -> None:
    """SIGKILL and memory that is not there, while loading or in a forward: DIED, and said so."""
    trees = [
        str(_extended(fork, tmp_path / name, _WHEN.format(code=code)))
        for name, code in _ACCIDENTS.items()
    ]
    out = tmp_path / "out"
    process = run(
        out,
        *("--checkpoint", tiny, "--contexts", "32,64"),
        *("--subjects", ",".join([*trees, "fork"])),
    )
    assert process.returncode == 1, process.stdout + process.stderr
    found = {(Path(result.subject).name, result.context): result for result in results(out)}
    for name in _ACCIDENTS:
        assert found[name, 32].verdict == "IDENTICAL", found[name, 32].reason
        assert found[name, 64].verdict == "DIED"
    assert found["killed", 64].reason.startswith("the worker killed by SIGKILL")
    for name in ("greedy", "limited"):
        reason = found[name, 64].reason
        assert reason.startswith("the worker ran out of memory: "), reason
        assert "can't allocate memory" in reason
    assert [found["fork", context].verdict for context in (32, 64)] == ["IDENTICAL"] * 2


_WHEN = """
import os as _os, resource as _resource, signal as _signal, torch as _torch
_forward = HookedTransformer.forward
def _dying(self, tokens, *args, **kwargs):
    if tokens.shape[1] == 64:
        {code}
    return _forward(self, tokens, *args, **kwargs)
HookedTransformer.forward = _dying
"""
_ACCIDENTS = {
    "killed": "_os.kill(_os.getpid(), _signal.SIGKILL)",
    "greedy": "_torch.empty(2**50)",
    "limited": ("_resource.setrlimit(_resource.RLIMIT_AS, (2**20, 2**20)); _torch.ones(2**28)"),
}


def test_what_does_not_fit_is_run_with_less_at_a_time(
    tiny: Path, fork: Path, tmp_path: Path
) -> None:
    """The reference has no memory for 256 tokens at once, the subject none for 128: both get 64."""
    tree = _extended(fork, tmp_path / "tree", _TOO_MANY.format(queries=128))
    path = _path_with(
        tmp_path / "site",
        "import sys\nif sys.orig_argv[-1].endswith('reference.job.json'):"
        + textwrap.indent(_TOO_MANY.format(queries=256), "    "),
    )
    out = tmp_path / "out"
    arguments = ("--checkpoint", tiny, "--contexts", "256", "--subjects", tree)
    process = run(out, *arguments, PYTHONPATH=path)
    shown = process.stdout + process.stderr
    assert process.returncode == 0, shown
    (found,) = results(out)
    assert (found.prefill, found.verdict) == (64, "IDENTICAL")
    assert found.provenance.chunk == 1024 // 4
    assert any("ran with 1/4 of what was planned at a time, 64 tokens" in n for n in found.notes)
    retried = [line for line in process.stderr.splitlines() if "; once more with " in line]
    assert [line.split(" ")[0] for line in retried] == ["reference", str(tree)]
    again = run(out, *arguments, PYTHONPATH=path)
    assert "(earlier run)" in again.stderr
    assert results(out) == [found]


_TOO_MANY = """
import torch as _torch
_softmax = _torch.nn.functional.softmax
def _greedy(x, *args, **kwargs):
    if x.shape[-2] >= {queries}:
        raise _torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return _softmax(x, *args, **kwargs)
_torch.nn.functional.softmax = _greedy
"""


def test_no_memory_while_loading_is_no_refusal(tiny: Path, fork: Path, tmp_path: Path) -> None:
    """A refusal would stand for ever; a death is run again. The reference dies the same way."""
    greedy_tree = _extended(
        fork,
        tmp_path / "tree",
        "\nif __import__('os').environ.get('GREEDY') == 'tree':\n    "
        "HookedTransformer.forward = lambda *_, **__: __import__('torch').empty(2**50)",
    )
    path = _path_with(tmp_path / "site", _KILLED_REFERENCE)
    out = tmp_path / "out"
    arguments = ("--checkpoint", tiny, "--contexts", "64", "--subjects", greedy_tree)
    for greedy in ("tree", "reference", ""):
        process = run(out, *arguments, GREEDY=greedy, PYTHONPATH=path)
        assert process.returncode == (1 if greedy else 0), process.stdout + process.stderr
    tree, reference, neither = results(out)
    assert (tree.verdict, reference.verdict, neither.verdict) == ("DIED", "DIED", "IDENTICAL")
    assert tree.reason.startswith("the worker ran out of memory: ")
    assert reference.reason.startswith("the reference worker killed by SIGKILL")


_KILLED_REFERENCE = """
import os, signal, sys
if os.environ.get("GREEDY") == "reference" and sys.orig_argv[-1].endswith("reference.job.json"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_full_disk_ends_a_run_in_one_sentence(tiny: Path, fork: Path, tmp_path: Path) -> None:
    """In a worker's files and in the report; what is on disk stays, and the next run goes on."""
    out, tree = tmp_path / "out", tmp_path / "tree"
    shutil.copytree(fork / "transformer_lens", tree / "transformer_lens")
    arguments = ("--checkpoint", tiny, "--contexts", "64,96", "--subjects", tree)
    command = [sys.executable, "-P", "-m", "validation", "run", "--no-stages", "--out", str(out)]
    lines = []
    for largest, says in ((8_000, "a worker's file cannot be written"), (60_000, "File too large")):
        process = subprocess.run(
            [*command, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            cwd=REPOSITORY,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPOSITORY)},
            # Larger files are refused, as all are when the disk is full.
            preexec_fn=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (largest, largest)),
        )
        shown = process.stdout + process.stderr
        assert process.returncode == 2, shown
        assert "Traceback" not in shown
        (error,) = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
        assert says in error
        assert str(out) in error
        assert not list(out.glob(".building-*"))
        assert not (out / "report.md").exists()
        lines.append((out / RESULTS).read_bytes().splitlines())
    assert [len(found) for found in lines] == [0, 2]
    process = run(out, *arguments)
    assert process.returncode == 0, process.stdout + process.stderr
    assert (out / RESULTS).read_bytes().splitlines() == lines[-1]
    assert (out / "report.md").exists()


def test_a_traceback_says_nothing_of_the_machine(tmp_path: Path) -> None:
    """What is quoted of a dead worker's log: packages and lines, without their folders."""
    log = tmp_path / "log"
    log.write_text(
        "of the worker before\n"
        'File "/somewhere/copies/of/transformer_lens/components/unembed.py", line 3, in forward\n'
        "    x = table[index]\n"
        "        ~~~~~^^^^^^^\n"
        'File "/env/lib/site-packages/torch/nn/functional.py", line 9, in linear\n'
        "IndexError: out of bounds\n",
        encoding="utf-8",
    )
    assert last_lines(log, len("of the worker before\n")) == (
        'File "transformer_lens/components/unembed.py", line 3, in forward | x = table[index] | '
        'File "site-packages/torch/nn/functional.py", line 9, in linear | IndexError: out of bounds'
    )
