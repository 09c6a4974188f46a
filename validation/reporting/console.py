"""What a person sees while a run goes on and when it is over."""

from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable

from validation.execution.jobs import Progress as LayerDone
from validation.execution.plan import CasePlan
from validation.judgement.verdict import Verdict
from validation.reporting.results import Result
from validation.reporting.stage_tables import compose_stages, departure
from validation.reporting.staged import StageResult
from validation.reporting.tables import Column, Row, Table, tabulate_cases
from validation.reporting.wording import (
    is_failure,
    memory,
    seconds,
    tokens,
)

_LOG_WIDTH = 140
"""A log has no width of its own; the table needs this much."""


_SHOWN = (
    "differing logits",
    "x floor",
    "max error",
    "top-1 agreement",
    "time",
    "peak memory",
)
"""Figures of a case for which a terminal has room."""


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

    def counted(self, what: str, done: int, total: int) -> None:
        """One of `total` is done."""
        self._progress.update(self._task, description=escape(what), completed=done, total=total)
        if not self._console.is_terminal:
            self.note(f"{done} of {total}: {what}")

    def result(self, result: Result, is_new: bool) -> None:
        """A case is finished."""
        case = f"{result.subject} {result.dtype} {tokens(result.context)}"
        earlier = "" if is_new else " (earlier run)"
        style = "red" if is_failure(result) else "green"
        self._console.print(
            f"[{style}]{result.verdict}[/] {escape(case)}: {escape(result.reason)}{earlier}",
            highlight=False,
        )

    def staged(self, result: StageResult, is_new: bool) -> None:
        """A subject is probed at every stage."""
        earlier = "" if is_new else " (earlier run)"
        self.note(f"{departure(result)}{earlier}")

    def stages(
        self, results: list[StageResult], judged: Collection[str], required: Verdict
    ) -> None:
        """The staged proof as tables, and which subjects do not pass it."""
        console = RichConsole()
        if not console.is_terminal:
            console.width = _LOG_WIDTH
        section = compose_stages(results)
        assert section is not None, "a request has subjects"
        for table in filter(None, (section.stages, section.grafts)):
            console.print(_rich(table))
        for result in results:
            fails = result.subject in judged and not result.passes(required)
            console.print(f"{'FAIL ' if fails else ''}{departure(result)}", markup=False)

    def summary(
        self, results: list[Result], judged: Collection[str], required: Verdict, out: Path
    ) -> None:
        """The table of all cases, whether they pass, and where the report is."""
        console = _wide_console()
        ordered = sorted(results, key=lambda r: (r.dtype, r.context))
        console.print(_rich(tabulate_cases(ordered, _SHOWN)))
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


def print_plans(
    plans: Sequence[tuple[str, CasePlan]],
    subjects: int,
    memory_bytes: int,
    *,
    is_timed: bool = True,
) -> None:
    """The plan of every case, how long all take, and why some are not attempted.

    Args:
        plans: by dtype.
        subjects: how many there are.
        memory_bytes: what one process may take.
        is_timed: whether the plans know the device's speed.
    """
    names = ("dtype", "tokens")
    figures = ("at a time", "reference", "subject", "reference", "subject")
    columns = (*(Column(name, "text") for name in names), *map(Column, figures))
    rows = (
        Row(
            (
                dtype,
                tokens(plan.context),
                "all" if plan.is_whole else tokens(plan.prefill),
                memory(plan.reference_bytes),
                memory(plan.subject_bytes),
                seconds(plan.reference_seconds if is_timed else None),
                seconds(plan.subject_seconds if is_timed else None),
                "yes" if plan.refusal is None else "no",
            ),
            plan.refusal is not None,
        )
        for dtype, plan in plans
    )
    caption = f"Plan: at most {memory(memory_bytes)} a process"
    table = Table(caption, (*columns, Column("fits", "verdict")), tuple(rows))
    console = _wide_console()
    console.print(_rich(table))
    for dtype, plan in plans:
        if plan.refusal:
            console.print(f"{dtype}: {plan.refusal}.", markup=False)
    if not is_timed:
        console.print("No CUDA device is here: memory is as --memory has it, and no time is known.")
        return
    runs = [plan for _, plan in plans if plan.refusal is None]
    total = sum(plan.reference_seconds + subjects * plan.subject_seconds for plan in runs)
    console.print(f"About {total / 60:.0f} minutes for {subjects} subjects, without loading.")


def print_tables(*tables: Table) -> None:
    """On stdout, as wide as they need."""
    console = _wide_console()
    for table in tables:
        console.print(_rich(table))


def _wide_console() -> RichConsole:
    console = RichConsole()
    if not console.is_terminal:
        console.width = _LOG_WIDTH
    return console


def _rich(table: Table) -> RichTable:
    shown = RichTable(title=table.caption)
    for column in table.columns:
        justify: Literal["left", "right"] = "right" if column.kind == "number" else "left"
        shown.add_column(column.heading, justify=justify, overflow="fold")
    for row in table.rows:
        style = {None: None, True: "red", False: "green"}[row.is_failure]
        shown.add_row(*map(escape, row.cells), style=style)
    return shown
