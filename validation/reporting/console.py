"""What a person sees while a run goes on and when it is over."""

from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from validation.execution.jobs import Progress as LayerDone
from validation.judgement.verdict import Verdict
from validation.reporting.results import Result
from validation.reporting.wording import (
    count,
    error,
    is_failure,
    memory,
    ratio,
    seconds,
    tokens,
)

_LOG_WIDTH = 140
"""A log has no width of its own; the table needs this much."""


class Console:
    """A live line for what is running, a lasting line for what is finished."""

    def __init__(self) -> None:
        # stderr: what is under way is no result.
        self._console = RichConsole(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("starting", total=None)
        self._shown = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def step(self, what: str) -> None:
        """Something without measurable progress begins."""
        self._progress.reset(self._task, description=escape(what), total=None)
        if not self._console.is_terminal:
            self.note(what)

    def note(self, what: str) -> None:
        """Leaves a line."""
        self._console.print(escape(what), highlight=False)

    def progress(self, who: str, event: LayerDone) -> None:
        """A layer of `who` is done."""
        what = f"{who}, {event.what} tokens"
        if what != self._shown:
            self._shown = what
            self._progress.reset(self._task, description=escape(what), total=event.total)
            if not self._console.is_terminal:
                self.note(what)
        self._progress.update(self._task, completed=event.done)

    def result(self, result: Result, is_new: bool) -> None:
        """A case is finished."""
        case = f"{result.subject} {result.dtype} {tokens(result.context)}"
        earlier = "" if is_new else " (earlier run)"
        style = "red" if is_failure(result) else "green"
        self._console.print(
            f"[{style}]{result.verdict}[/] {escape(case)}: {escape(result.reason)}{earlier}",
            highlight=False,
        )

    def summary(
        self, results: list[Result], judged: Collection[str], required: Verdict, out: Path
    ) -> None:
        """The table of all cases, whether they pass, and where the report is."""
        console = RichConsole()
        if not console.is_terminal:
            console.width = _LOG_WIDTH
        console.print(_table(results))
        failed = [
            result
            for result in results
            if result.subject in judged and not result.outcome.meets(required)
        ]
        for result in failed:
            case = f"{result.subject} {result.dtype} {tokens(result.context)}"
            console.print(f"FAIL {case}: {result.verdict}, {result.reason}", markup=False)
        cases = sum(result.subject in judged for result in results)
        console.print(
            f"{cases - len(failed)} of {cases} judged cases are {required.name} or better.",
            markup=False,
        )
        console.print(f"Report: {out.absolute() / 'report.html'}", markup=False, soft_wrap=True)


def _table(results: list[Result]) -> Table:
    table = Table(title="Subject against transformers (eager)")
    table.add_column("subject", overflow="fold")
    for heading in ("dtype", "tokens"):
        table.add_column(heading)
    table.add_column("verdict")
    for heading in ("differing", "x floor", "max error", "KL", "top-1", "time", "memory"):
        table.add_column(heading, justify="right")
    for result in sorted(results, key=lambda r: (r.dtype, r.context)):
        table.add_row(
            escape(result.subject),
            result.dtype,
            tokens(result.context),
            f"[{'red' if is_failure(result) else 'green'}]{result.verdict}[/]",
            count(result.logits_differing),
            ratio(result.parity_ratio),
            error(result.max_abs),
            error(result.kl_mean),
            "-" if result.top1_agreement is None else f"{result.top1_agreement:.2%}",
            seconds(result.seconds),
            memory(result.peak_memory_bytes),
        )
    return table
