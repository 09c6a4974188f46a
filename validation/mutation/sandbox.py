"""Runs tests of a fork on one mutant after the other, each in a fork of one warm process.

The warm process has collected the tests, so that a mutant costs what its tests cost. The child
swaps the code of the mutated function; nothing is written to the tree.
"""

import gc
import importlib
import inspect
import json
import os
import resource
import select
import signal
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

from transformer_lens_fork.errors import InputError, VerificationError

_MEMORY_BYTES = 4 * 2**30
"""What a mutant may take beside the warm process: some make tables of any size."""

_WAIT_FACTOR = 60
"""How much longer than its time on a processor a mutant may take, on a busy machine."""


class Fate(Enum):
    """What became of a mutant; the values are words for people."""

    KILLED = "killed"
    SURVIVED = "survived"
    TIMEOUT = "timeout"


@dataclass
class Run:
    """What a child says about its run of some tests.

    Attributes:
        error: why nothing could be tested; None if it could.
        failed: the first test that failed; None if none did.
        seconds: that each test took.
        reached: the functions that each test called, as `FILE:QUALIFIED.NAME`; on request.
        note: what the swap returned.
    """

    error: str | None = None
    failed: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    reached: dict[str, list[str]] = field(default_factory=dict)
    note: list[str] | None = None


def in_sandbox(tree: Path, tests: Sequence[str], work: Callable[["Sandbox"], None]) -> None:
    """Collects `tests` of `tree` in this process, and calls `work` in place of running them.

    Changes to the folder `tree` for good.
    """
    os.environ |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "HF_HUB_OFFLINE": "1"}
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    package = importlib.import_module("transformer_lens")
    if tree.resolve() not in Path(package.__file__ or "").resolve().parents:
        raise InputError(f"transformer_lens was imported from {package.__file__}, not {tree}.")
    import pytest

    options = ["-q", "-s", "-o", "addopts=", "-p", "no:cacheprovider"]
    options += ["-o", "tmp_path_retention_policy=none"]
    plugin = _InsteadOfTests(work)
    status = pytest.main([*options, *tests], plugins=[plugin])
    if plugin.error:
        raise plugin.error
    if not plugin.worked:
        raise VerificationError(f"The tests are not collected: {pytest.ExitCode(status).name}.")


class _InsteadOfTests:
    """A plugin of pytest, which gives the collected tests to somebody else."""

    def __init__(self, work: Callable[["Sandbox"], None]) -> None:
        self._work = work
        self.worked = False
        self.error: Exception | None = None

    def pytest_runtestloop(self, session: Any) -> bool:
        # A fixture of upstream's collects after each test: not what is common to all.
        gc.collect()
        gc.freeze()
        self.worked = not session.testsfailed
        try:
            if self.worked:
                self._work(Sandbox(session))
        except Exception as error:
            # pytest would print it as a defect of its own.
            self.error = error
        return True


class Sandbox:
    """The warm process."""

    def __init__(self, session: Any) -> None:
        self._items = {item.nodeid: item for item in session.items}

    def run(
        self,
        swap: Callable[[], list[str] | None],
        tests: Sequence[str] | None,
        cpu_seconds: int,
        record: bool = False,
    ) -> Run | Fate:
        """Forks, calls `swap` and then the tests in their order until one fails.

        Args:
            swap: makes the mutant, in the child.
            tests: which, and in which order; None for all.
            cpu_seconds: what the child may take of a processor.
            record: also note which functions each test calls.

        Returns:
            What the child said, or how it ended if it could not say anything.
        """
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _limit(cpu_seconds)
            self._work(swap, list(self._items) if tests is None else tests, record, writer)
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            ended = select.select([stream], [], [], cpu_seconds * _WAIT_FACTOR)[0]
            if not ended:
                os.kill(child, signal.SIGKILL)
            message = stream.read() if ended else b""
        _, status = os.waitpid(child, 0)
        if message:
            return Run(**json.loads(message))
        timed_out = not ended or os.WTERMSIG(status) == signal.SIGXCPU
        return Fate.TIMEOUT if timed_out else Fate.KILLED

    def _work(
        self,
        swap: Callable[[], list[str] | None],
        tests: Sequence[str],
        record: bool,
        writer: int,
    ) -> NoReturn:
        try:
            silence = os.open(os.devnull, os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(silence, number)
            run = Run()
            try:
                run.note = swap()
            except Exception as error:
                run.error = f"{type(error).__name__}: {error}"
            else:
                self._test(run, tests, record)
            with os.fdopen(writer, "w") as stream:
                json.dump(asdict(run), stream)
        finally:
            os._exit(0)

    def _test(self, run: Run, tests: Sequence[str], record: bool) -> None:
        items = [self._items[test] for test in tests]
        for item, following in zip(items, [*items[1:], None], strict=True):
            with _recording(run.reached.setdefault(item.nodeid, []) if record else None):
                reports = _run_one(item, following)
            run.seconds[item.nodeid] = sum(report.duration for report in reports)
            if any(report.failed for report in reports):
                run.failed = item.nodeid
                return


def _run_one(item: Any, following: Any) -> list[Any]:
    from _pytest.runner import runtestprotocol

    return list(runtestprotocol(item, nextitem=following, log=False))


def _limit(cpu_seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 10))
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = mapped + _MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@contextmanager
def _recording(calls: list[str] | None) -> Iterator[None]:
    if calls is None:
        yield
        return
    seen: dict[types.CodeType, None] = {}
    sys.setprofile(lambda frame, event, _: seen.setdefault(frame.f_code))
    try:
        yield
    finally:
        sys.setprofile(None)
        here = f"{os.getcwd()}{os.sep}"
        inside = (code for code in seen if code.co_filename.startswith(here))
        calls += [f"{code.co_filename[len(here) :]}:{code.co_qualname}" for code in inside]


def swap_function(file: str, name: str, source: str) -> None:
    """Gives the loaded function or method the code that it has in another text of its module.

    Whoever imported or inherited it has the new code too.

    Args:
        file: of the module, from the folder that it is imported from.
        name: qualified, of a function that stands in no other.
        source: the text of the module.
    """
    module = sys.modules[file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")]
    changed = types.ModuleType(module.__name__)
    vars(changed).update(__file__=module.__file__, __package__=module.__package__)
    exec(compile(source, module.__file__ or file, "exec", dont_inherit=True), vars(changed))
    owner, _, name = name.rpartition(".")
    for part in filter(None, owner.split(".")):
        module, changed = getattr(module, part), getattr(changed, part)
    old, new = vars(module)[name], vars(changed)[name]
    if type(old) is not type(new) or hasattr(old, "__wrapped__") != hasattr(new, "__wrapped__"):
        setattr(module, name, new)  # it lost its decorator
        return
    target, donor = _function_in(old), _function_in(new)
    target.__code__ = donor.__code__
    target.__defaults__, target.__kwdefaults__ = donor.__defaults__, donor.__kwdefaults__


def _function_in(found: Any) -> types.FunctionType:
    for attribute in ("fget", "__func__"):
        found = getattr(found, attribute, found)
    function = inspect.unwrap(found)
    if not isinstance(function, types.FunctionType):
        raise TypeError(f"{found!r} is no function.")
    return function
