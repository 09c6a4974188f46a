"""The command line: `python -m validation --help`."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from transformer_lens_fork.errors import InputError, VerificationError

_HELP = """
Proves or refutes that a TransformerLens tree computes Llama 3.1 as Hugging Face transformers does,
on the same weights and tokens, logit by logit.

\b
The reference runs once for each dtype; each subject runs in a process of its own against it.
Verdicts, strongest first: IDENTICAL (not one logit differs), AT_FLOOR (differs no more than the
reference does from itself when only the order of its sums changes), then the failures by kind.

\b
Examples:
  python -m validation run --checkpoint smollm2 --contexts 1k,2k,4k --out results
  python -m validation run --checkpoint ./my-llama --subjects fork,../my-tree --dtype bfloat16 \\
      --contexts 2k --require identical --out results

Exit status: 0 every judged case passes, 1 one fails, 2 the input is not accepted.
"""

_DTYPES = ("float32", "bfloat16", "float16")
_REQUIRED = {"identical": "IDENTICAL", "floor": "AT_FLOOR"}

app = typer.Typer(
    name="python -m validation",
    help=_HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command(short_help="Compare trees with the reference and judge them.")
def run(
    checkpoint: Annotated[
        str, typer.Option(help="smollm2, a folder with config.json and safetensors, or a hub id.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for results and report; what it holds is kept.")
    ],
    contexts: Annotated[
        str, typer.Option(help="Tokens of context, comma-separated; k is 1024.")
    ] = "1k,2k,4k",
    subjects: Annotated[
        str, typer.Option(help="fork, stock, or folders with transformer_lens/, comma-separated.")
    ] = "fork,stock",
    dtype: Annotated[
        str, typer.Option(help="float32, bfloat16 or float16; several, comma-separated.")
    ] = "float32",
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    base: Annotated[
        str, typer.Option(help="The release that fork and stock stand for.")
    ] = "v3.9.0",
    require: Annotated[
        str, typer.Option(help="What passes: identical, or floor (IDENTICAL and AT_FLOOR).")
    ] = "floor",
    seed: Annotated[int, typer.Option(help="Of random prompts.", min=0)] = 0,
    threads: Annotated[
        int | None, typer.Option(help="Of torch on CPU; by default torch's choice.", min=1)
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--no-resume",
            help="Skip cases that OUT holds; with --no-resume an OUT with results is refused.",
        ),
    ] = True,
) -> None:
    r"""Run every subject at every context and dtype, judge it, and write a report to OUT.

    `stock` is shown for comparison and never changes the exit status. Stopped runs go on where
    they were: a case is run again only if something changed that could change its result.

    \b
    OUT/results.jsonl           one record a case (validation/reporting/results.schema.json)
    OUT/report.md, report.html  what people read
    OUT/error_by_position.png   error of every subject and of the floor, by position
    OUT/logs/                   what the worker processes printed
    """
    with _failures():
        from validation.reporting.results import RESULTS

        required = _one_of("--require", require, tuple(_REQUIRED))
        lengths = parse_contexts(contexts)
        dtypes = tuple(_one_of("--dtype", name, _DTYPES) for name in _split("--dtype", dtype))
        specs = _split("--subjects", subjects)
        if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
            raise InputError(f"--device: {device!r} is not accepted; cpu, cuda or cuda:N is.")
        if not resume and (out / RESULTS).exists():
            raise InputError(f"--no-resume: {str(out)!r} holds results; one without is accepted.")
        passed = _run(
            checkpoint,
            out,
            lengths,
            specs,
            dtypes,
            device,
            base,
            _REQUIRED[required],
            seed,
            threads,
        )
    raise typer.Exit(0 if passed else 1)


@app.command(short_help="Print the JSON schema of a result.")
def schema() -> None:
    """Print the JSON schema of one line of results.jsonl.

    It is kept in validation/reporting/results.schema.json.
    """
    import json

    from validation.reporting.results import Result

    print(json.dumps(Result.model_json_schema(), indent=2))


def _run(
    checkpoint: str,
    out: Path,
    contexts: tuple[int, ...],
    subjects: tuple[str, ...],
    dtypes: tuple[str, ...],
    device: str,
    base_name: str,
    required: str,
    seed: int,
    threads: int | None,
) -> bool:
    # Imports torch, which takes seconds: only once the arguments are known to be sound.
    import torch

    from transformer_lens_fork.bases import get_base
    from validation.execution import cases
    from validation.execution.arithmetic import fix_arithmetic
    from validation.execution.run import run_cases
    from validation.judgement.verdict import Verdict
    from validation.models.checkpoints import resolve_checkpoint
    from validation.models.prompts import build_prompt
    from validation.models.trees import resolve_tree
    from validation.reporting.console import Console
    from validation.reporting.report import write_report
    from validation.reporting.results import ResultStore

    with Console() as console:
        base = get_base(base_name)
        cases.refuse_wrong_transformers(base)
        cases.refuse_missing_device(device)
        store = ResultStore(out)
        if store.recovered:
            console.note(store.recovered)
        found = resolve_checkpoint(checkpoint, console.step)
        cases.refuse_missing_positions(found, contexts)
        trees = tuple(resolve_tree(spec, base, console.step) for spec in subjects)
        console.step("tokenising the prompt")
        request = cases.Request(
            checkpoint=found,
            trees=trees,
            contexts=contexts,
            dtypes=dtypes,  # type: ignore[arg-type]  # checked against _DTYPES
            device=device,
            base=base,
            prompt=build_prompt(found, contexts[-1], seed),
            seed=seed,
            threads=threads or torch.get_num_threads(),
        )
        fix_arithmetic(request.threads, seed)
        results = run_cases(request, store, console)
        console.step("writing the report")
        write_report([*results, *store.beside(results)], out)
    if not any(tree.is_judged for tree in trees):
        console.note("No case is judged: stock is shown for comparison only.")
    judged = {tree.name for tree in trees if tree.is_judged}
    console.summary(results, judged, Verdict[required], out)
    return all(
        result.outcome.meets(Verdict[required]) for result in results if result.subject in judged
    )


def parse_contexts(text: str) -> tuple[int, ...]:
    """Token counts such as `1k,2k,4096`, ascending and without repetition; k is 1024.

    Raises:
        InputError: one is no positive number.
    """
    lengths = set()
    for word in _split("--contexts", text):
        match = re.fullmatch(r"([1-9]\d{0,6})(k?)", word)
        if not match:
            raise InputError(
                f"--contexts: {word!r} is not accepted; a number of tokens such as 4096 or 4k is."
            )
        lengths.add(int(match[1]) * (1024 if match[2] else 1))
    return tuple(sorted(lengths))


def _split(field: str, text: str) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    if "" in words:
        raise InputError(f"{field}: {text!r} has an empty item; values between commas are.")
    return words


def _one_of(field: str, value: str, accepted: tuple[str, ...]) -> str:
    if value not in accepted:
        raise InputError(f"{field}: {value!r} is not accepted; {', '.join(accepted)} are.")
    return value


@contextmanager
def _failures() -> Iterator[None]:
    """Turns what the user can mend into one sentence and exit status 2."""
    try:
        yield
    except (InputError, VerificationError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    app()
