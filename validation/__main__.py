"""The command line: `python -m validation --help`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from transformer_lens_fork.errors import InputError, VerificationError
from validation.execution.asked import DTYPES, Asked, each_of, one_of, resolve, split_words
from validation.studies.catalogue import STUDIES

if TYPE_CHECKING:
    from validation.clients.catalogue import Client

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

_CONTESTANTS = ("fork-sdpa", "hf-sdpa", "fork-eager", "stock")
_WORKLOADS = ("forward", "hooks", "generate")
_REQUIRED = {"identical": "IDENTICAL", "floor": "AT_FLOOR"}

app = typer.Typer(
    name="python -m validation",
    help=_HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


Checkpoint = Annotated[
    str,
    typer.Option(
        help="smollm2, a folder with config.json and safetensors, a hub id, or random:SHAPE@SEED: "
        "seeded weights of a Llama 3.x's size, such as random:llama-3.2-1b or "
        "random:tiny-llama-3.1-405b."
    ),
]
Out = Annotated[Path, typer.Option(help="Folder for results and report; what it holds is kept.")]
Contexts = Annotated[
    str,
    typer.Option(help="Tokens of context: 1k,2k,4096, or 1k:64k for doublings; k is 1024."),
]
Subjects = Annotated[
    str, typer.Option(help="fork, stock, or folders with transformer_lens/, comma-separated.")
]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16 or float16; several, comma-separated.")]
Attention = Annotated[
    str,
    typer.Option(
        help="The reference's: eager or sdpa (fused). A tree runs its own of that name; one "
        "without sdpa runs eager, which cannot be identical to sdpa."
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")]
BaseName = Annotated[str, typer.Option("--base", help="The release that fork and stock stand for.")]
StreamLayers = Annotated[
    bool,
    typer.Option(
        "--stream-layers",
        help="One layer's weights on the device at a time, the next on its way: models larger than "
        "the memory. The same bits; the fork is given one layer after the other.",
    ),
]
Gpus = Annotated[
    int,
    typer.Option(
        help="Spread each model over so many GPUs: transformers by accelerate, TransformerLens by "
        "its own n_devices.",
        min=1,
    ),
]
LazyFloor = Annotated[
    bool,
    typer.Option(
        "--lazy-floor",
        help="Measure the floor only where a logit differs: what is IDENTICAL needs none. With "
        "fused attention half of the time or more is saved; where a logit differs, a forward more "
        "is run.",
    ),
]
Seed = Annotated[int, typer.Option(help="Of random prompts.", min=0)]
Threads = Annotated[
    int | None, typer.Option(help="Of torch on CPU; by default torch's choice.", min=1)
]
Layers = Annotated[
    int | None, typer.Option(help="Take the first N layers only, of reference and subject.", min=1)
]
Memory = Annotated[
    str | None,
    typer.Option(
        help="What one process may take, such as 12g; by default 60 % of the machine's, or 90 % of "
        "the GPU's."
    ),
]


ShardOf = Annotated[
    str | None,
    typer.Option(
        "--shard",
        help="I/N: the I-th of N parts of the cases, of about the same cost each; the other parts "
        "may run elsewhere, each with an OUT of its own, and `report` puts them together.",
    ),
]


@app.command(short_help="Compare trees with the reference and judge them.")
def run(
    checkpoint: Checkpoint,
    out: Out,
    contexts: Contexts = "1k,2k,4k",
    subjects: Subjects = "fork,stock",
    dtype: Dtype = "float32",
    attention: Attention = "eager",
    device: Device = "cpu",
    base: BaseName = "v3.9.0",
    require: Annotated[
        str, typer.Option(help="What passes: identical, or floor (IDENTICAL and AT_FLOOR).")
    ] = "floor",
    layers: Layers = None,
    stream_layers: StreamLayers = False,
    gpus: Gpus = 1,
    memory: Memory = None,
    lazy_floor: LazyFloor = False,
    seed: Seed = 0,
    threads: Threads = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--no-resume",
            help="Skip cases that OUT holds; with --no-resume an OUT with results is refused.",
        ),
    ] = True,
    shard: ShardOf = None,
    stages: Annotated[
        bool, typer.Option(help="Also find the stage at which a subject first differs.")
    ] = True,
) -> None:
    """Run every subject at every context and dtype, judge it, and write a report to OUT.

    `stock` is shown for comparison and never changes the exit status. Stopped runs go on where
    they were: a case is run again only if something changed that could change its result. A
    context goes through the models in one forward where that fits the memory, else in chunks
    through their own KV caches, the same for both; `plan` shows which.

    \b
    OUT/results.jsonl           one record a case (validation/reporting/results.schema.json)
    OUT/report.md, report.html  what people read
    OUT/stages.jsonl            where each subject first differs, as `stages` finds it
    OUT/error_by_position.png   error of every subject and of the floor, by position
    OUT/logs/                   what the worker processes printed
    """
    with _failures(out):
        from validation.reporting.results import RESULTS

        required = one_of("--require", require, tuple(_REQUIRED))
        asked = Asked.checked(locals())
        if not resume and (out / RESULTS).exists():
            raise InputError(f"--no-resume: {str(out)!r} holds results; one without is accepted.")
        passed = _run(asked, out, _REQUIRED[required], shard, stages)
    raise typer.Exit(0 if passed else 1)


@app.command(short_help="Find the stage at which a tree first differs.")
def stages(
    checkpoint: Checkpoint,
    out: Out,
    subjects: Subjects = "fork,stock",
    dtype: Dtype = "float32,bfloat16,float16",
    attention: Attention = "eager",
    device: Device = "cpu",
    base: BaseName = "v3.9.0",
    require: Annotated[
        str,
        typer.Option(help="What layers and logits need: identical, or floor. The rest is exact."),
    ] = "identical",
    layers: Layers = None,
    stream_layers: StreamLayers = False,
    gpus: Gpus = 1,
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """Follow every subject from RoPE's inverse frequencies to the logits, beside transformers.

    Inverse frequencies, angles, cosines and sines, rotated queries and keys are compared bit for
    bit at all 131,072 positions (or as many as the checkpoint has), then every layer on the
    reference's own hidden states and the logits on 1024 tokens. The graft runs the subject again
    with transformers' tables in it. `stock` is shown for comparison and never changes the status.

    \b
    OUT/stages.jsonl   one record a subject and dtype; what is there is not probed again
    OUT/logs/          what the worker processes printed
    """
    with _failures(out):
        required = one_of("--require", require, tuple(_REQUIRED))
        asked = Asked.checked(locals())
        passed = _stages(asked, out, _REQUIRED[required])
    raise typer.Exit(0 if passed else 1)


@app.command(short_help="Say what each case would need, and run nothing.")
def plan(
    checkpoint: Checkpoint,
    contexts: Contexts = "1k,2k,4k",
    subjects: Subjects = "fork,stock",
    dtype: Dtype = "float32",
    attention: Attention = "eager",
    device: Device = "cpu",
    base: BaseName = "v3.9.0",
    layers: Layers = None,
    stream_layers: StreamLayers = False,
    gpus: Gpus = 1,
    memory: Memory = None,
    lazy_floor: LazyFloor = False,
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """Print, for each case of `run` with the same arguments, what it would need.

    Predicted peak memory of the reference's and of a subject's process, predicted time, and how
    many tokens go through at a time. A case that does not fit is named, with the reason; `run`
    would not attempt it, and would judge it TOO_LARGE. With --memory, what one process may take of
    a GPU, --device cuda is planned without one, too; times are left out then.

    Exit status: 0 everything fits, 1 a case does not.
    """
    with _failures():
        asked = Asked.checked(locals())
        fits = _plan(asked)
    raise typer.Exit(0 if fits else 1)


@app.command(short_help="Plant mistakes in the fork and see which are caught.")
def faults(
    checkpoint: Checkpoint,
    out: Out,
    contexts: Contexts = "1k,2k,4k",
    dtype: Dtype = "float32",
    attention: Attention = "eager",
    device: Device = "cpu",
    base: BaseName = "v3.9.0",
    only: Annotated[
        str | None, typer.Option(help="Names or families of faults, comma-separated; else all.")
    ] = None,
    effects: Annotated[
        bool, typer.Option("--mde/--no-mde", help="Look for the smallest error that is caught.")
    ] = True,
    layers: Layers = None,
    memory: Memory = None,
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """Edit each known RoPE mistake into a copy of the fork and judge the copies as subjects.

    Every copy goes through the stages of `stages`, and through each context in which its mistake
    can show.

    Exit status: 0 every fault that can show is caught and the fork itself passes, 1 one is not
    caught, 2 the input is not accepted. Finished cases are not run again.

    \b
    OUT/faults.jsonl      one record for every fault, dtype and context
    OUT/mde.jsonl         the smallest relative errors in factor and angle that are caught
    OUT/results.jsonl, OUT/stages.jsonl   every case and staged proof that these rest on
    OUT/faults.md, OUT/fault_matrix.png   what people read
    """
    with _failures(out):
        asked = Asked.checked(locals(), subjects="fork")
        names = () if only is None else split_words("--only", only)
        passed = _faults(asked, out, names, effects)
    raise typer.Exit(0 if passed else 1)


@app.command(short_help="Compare what is correct, and see whether any of it fails.")
def alarms(
    out: Out,
    comparisons: Annotated[
        int, typer.Option(help="Clean comparisons, at least; identical ones among them.", min=1)
    ] = 300,
    tree: Annotated[str, typer.Option(help="fork, or a copy of it to put in its place.")] = "fork",
    with_faults: Annotated[
        bool, typer.Option("--faults/--no-faults", help="Plant small faults beside them.")
    ] = True,
    workers: Annotated[
        int, typer.Option(help="Processes, of one thread and up to 3 GiB each.", min=1)
    ] = 2,
    seed: Seed = 0,
) -> None:
    """Judge correct computations that sum in another order than the reference: none may fail.

    Tiny random Llamas in three dtypes at 256 to 4096 tokens; the fork in chunks, in a batch, head
    by head, with stock's divisions, with folded norms, permuted, all at once; transformers with its
    other kernels. Small faults of RoPE beside them show what another floor would catch. Stopped
    runs go on where they were; a larger number of comparisons adds to a smaller one.

    Exit status: 0 no clean comparison fails, 1 one does, 2 the input is not accepted.

    \b
    OUT/alarms.jsonl             one record for every reference, with all comparisons against it
    OUT/alarms.md, OUT/alarms.png   what people read
    """
    with _failures(out):
        from validation.models.trees import refuse_bad_folders

        refuse_bad_folders((tree,), "--tree")
        passed = _alarms(out, comparisons, tree, with_faults, workers, seed)
    raise typer.Exit(0 if passed else 1)


@app.command(short_help="Compare fork and release on every other architecture.")
def architectures(
    out: Out,
    only: Annotated[
        str | None, typer.Option(help="Names of architectures, comma-separated; else all.")
    ] = None,
    dtype: Dtype = "float32",
    seeds: Annotated[int, typer.Option(help="Models with weights of their own, each.", min=2)] = 8,
    tree: Annotated[str, typer.Option(help="fork, or a folder to put in its place.")] = "fork",
    surface: Annotated[
        bool,
        typer.Option(help="Compare public signatures and configurations by official name, too."),
    ] = True,
) -> None:
    """Prove that nothing else moves: every architecture in fork and release, with default settings.

    Tiny random models of transformers, loaded by both trees. Logits, gradients, state dicts and
    configurations have to be the same bits; where they are not, the fork has to be strictly nearer
    to Hugging Face, by more than the models of other seeds vary. What the release saved has to load
    in the fork, and public signatures only grow.

    \b
    SAME      not one bit differs
    NEARER    what differs is strictly nearer, in logits as in gradients
    LEVEL     some of it is neither nearer nor further, as far as the seeds can tell
    FURTHER   some of it is further
    BROKEN    it does not load, or what the release saved does not

    Stopped runs go on where they were. Example:

      python -m validation architectures --only gpt2,mistral,gemma --out results/architectures

    Exit status: 0 all are SAME or NEARER, 1 one is not, 2 the input is not accepted.

    \b
    OUT/architectures.jsonl   one record an architecture and dtype
    OUT/surface.json          signatures and configurations by official name
    OUT/architectures.md      what people read
    OUT/logs/                 what the processes printed
    """
    with _failures(out):
        from validation.models.trees import refuse_bad_folders

        dtypes = each_of("--dtype", dtype, DTYPES)
        names = () if only is None else split_words("--only", only)
        refuse_bad_folders((tree,), "--tree")
        passed = _architectures(out, names, dtypes, seeds, tree, surface)
    raise typer.Exit(0 if passed else 1)


@app.command(short_help="Measure time and memory against transformers and the release.")
def bench(
    checkpoint: Checkpoint,
    out: Out,
    contexts: Contexts = "1k:4k",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    device: Device = "cpu",
    contestants: Annotated[
        str, typer.Option(help="Who takes turns; a ratio needs both of its pair.")
    ] = ",".join(_CONTESTANTS),
    workloads: Annotated[str, typer.Option(help="What they do, as above.")] = ",".join(_WORKLOADS),
    tree: Annotated[str, typer.Option(help="fork, or a copy of it to put in its place.")] = "fork",
    layers: Layers = None,
    repeats: Annotated[
        int,
        typer.Option(
            help="Turns of each that count, after one that does not; 1 goes without that.", min=1
        ),
    ] = 5,
    memory: Annotated[
        str | None,
        typer.Option(help="What all may take, such as 12g; by default 60 % of the machine's."),
    ] = None,
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """Time fork and stock beside transformers, on the same weights and tokens, in turns.

    Each contestant has a process that holds its model alone. One works at a time, A B C D A B C D,
    so that what drifts on the machine drifts for all. Ratios are of neighbouring turns: fork-sdpa
    over hf-sdpa, fork-eager over stock, with their quartiles. Where four models do not fit side by
    side the pairs run one after the other.

    \b
    forward   hidden states after the last norm, logits of the last position only
    hooks     the same, and a hook at every layer that keeps the mean of the residual stream
    generate  128 greedy tokens after the context, through each library's own KV cache

    All tokens go through at once. What is predicted not to fit the memory is not attempted, but
    recorded and drawn as such: eager attention's memory grows with the square of the context.
    Stopped runs go on where they were. Let nothing else run beside it.

    \b
    Example:
      python -m validation bench --checkpoint smollm2 --layers 2 --contexts 1k:64k --out bench

    Exit status: 0 it has been measured, 2 the input is not accepted.

    \b
    OUT/bench.jsonl          one record for every work and context, with every turn
    OUT/bench.md, OUT/bench.png   what people read
    OUT/logs/                what the processes printed
    """
    with _failures(out):
        one_of("--dtype", dtype, DTYPES)
        names = each_of("--contestants", contestants, _CONTESTANTS)
        works = each_of("--workloads", workloads, _WORKLOADS)
        _refuse_another_tree(tree)
        asked = Asked.checked(locals(), subjects=f"{tree},stock", attention="sdpa", base="v3.9.0")
        _bench(asked, out, names, works, repeats)


@app.command(short_help="Study what Llama 3.1's position encoding does to a model.")
def study(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(STUDIES)}.", metavar="NAME")],
    out: Out,
    checkpoint: Checkpoint = "smollm2",
    contexts: Annotated[
        str | None,
        typer.Option(help="Tokens of context: 1k,2k,4096, or 1k:64k; by default the study's own."),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="float32, bfloat16 or float16, for drift several; by default the study's own."
        ),
    ] = None,
    device: Device = "cpu",
    base: BaseName = "v3.9.0",
    tree: Annotated[str, typer.Option(help="fork, or a copy of it to put in its place.")] = "fork",
    layers: Layers = None,
    seed: Annotated[int, typer.Option(help="The first of the seeds.", min=0)] = 0,
    seeds: Annotated[
        int | None,
        typer.Option(
            help="How many: each draws its own window of the text, and one that would overlap "
            "another's is passed over; by default the study's own.",
            min=1,
        ),
    ] = None,
    threads: Threads = None,
    page_only: Annotated[
        bool, typer.Option("--page-only", help="Measure nothing: write the page of what OUT holds.")
    ] = False,
) -> None:
    """Measure one long-context study in the fork, on real text, and write what was found.

    \b
    encodings      loss by position under every scaling of RoPE that transformers has, p-RoPE, ALiBi
    position-bias  attention by distance, sinks, a passkey at every depth, retrieval heads
    frequencies    what each rotary frequency contributes to attention, by head and distance
    interventions  knock out a band of frequencies, rescale it, shift a span, patch a far position
    drift          what the release's error does to heads and losses downstream
    learned        frequencies as parameters, fitted to extend the model's context

    What is finished is kept: a stopped study goes on where it was. Figures have 95 % intervals for
    texts like those of the seeds; each of four is held against what the others foresee. Defaults
    are the settings of the committed evidence, with as many texts as half an hour on 2 free cores
    allows; it has more in some.

    \b
    Example:
      python -m validation study encodings --contexts 4k --out results/encodings

    Exit status: 0 it has been measured, 2 the input is not accepted.

    \b
    OUT/study.jsonl            one record a unit of work
    OUT/study.md, study.html   what people read, and its plots
    """
    with _failures(out):
        one_of("NAME", name, tuple(STUDIES))
        _study(
            name,
            out,
            seed,
            seeds or STUDIES[name],
            page_only,
            locals() | {"subjects": tree, "attention": "sdpa"},
        )


@app.command(short_help="Time the rotation itself: the fork's, compiled, transformers', Liger's.")
def rotary(
    checkpoint: Checkpoint,
    out: Out,
    contexts: Contexts = "1k:4k",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "bfloat16",
    device: Device = "cpu",
    tree: Annotated[str, typer.Option(help="fork, or a copy of it to put in its place.")] = "fork",
    repeats: Annotated[int, typer.Option(help="Turns of each way that count.", min=1)] = 20,
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """Rotate one layer's queries and keys in every way there is, way after way.

    As the fork does; the same through torch.compile; as transformers does; with the kernel of
    liger-kernel, if that is installed. Only the sizes of the checkpoint count: its embeddings and
    one layer are loaded. A way that cannot run says why.

    \b
    Example:
      python -m validation rotary --checkpoint random:llama-3.1-8b --contexts 1k:64k \\
          --device cuda --out rotary

    \b
    OUT/rotary.jsonl   one record a way and context; a run adds its own

    Exit status: 0 it has been measured, 2 the input is not accepted.
    """
    with _failures(out):
        one_of("--dtype", dtype, DTYPES)
        _refuse_another_tree(tree)
        asked = Asked.checked(
            locals(), subjects=tree, attention="eager", base="v3.9.0", layers=1, stream_layers=True
        )
        _rotary(asked, out, repeats)


@app.command(short_help="Run libraries that build on TransformerLens on release and fork.")
def clients(
    out: Out,
    only: Annotated[
        str, typer.Option(help="Names of clients, such as sae-lens; all by default.")
    ] = "",
    tree: Annotated[str, typer.Option(help="fork, or a copy of it to put in its place.")] = "fork",
) -> None:
    """Exercise sae-lens, circuit-tracer, auto-circuit and upstream's demos on stock and fork.

    Each in an environment of its own, built once in the user's cache on top of this one; each
    exercise in a process of its own. All that it computes must be the same on both, bit for bit, or
    what transformers computes. What cannot run says why.

    \b
    Example:
      python -m validation clients --only sae-lens,auto-circuit --out results/clients

    \b
    OUT/clients.jsonl  one record an exercise; what it holds is not run again
    OUT/clients.md     the same as tables, and what was measured
    OUT/logs/          what the processes printed

    Exit status: 0 the fork breaks no client, 1 it breaks one, 2 the input is not accepted.
    """
    with _failures(out):
        from validation.clients.catalogue import choose_clients

        _refuse_another_tree(tree)
        chosen = choose_clients(split_words("--only", only) if only else ())
        passed = _clients(out, chosen, tree)
    raise typer.Exit(0 if passed else 1)


@app.command(short_help="Judge every release on PyPI.")
def audit(
    out: Out,
    checkpoint: Checkpoint = "smollm2",
    layers: Layers = None,
    contexts: Contexts = "256,1k,2k,4k",
    releases: Annotated[
        str | None,
        typer.Option(
            help="Releases and ranges, comma-separated: 2.9.0,3.0.0:3.9.0; else all from 2.7.0."
        ),
    ] = None,
    memory: Memory = None,
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """Run each release of TransformerLens from PyPI, and judge it by the same harness.

    Each release has a virtual environment of its own, built by pip at the first time, with a
    transformers that it runs with (validation/audit/releases.toml); the reference is the harness'
    transformers, one for all. Up to 3.9 `HookedTransformer` runs the checkpoint with what the
    release has for Llama 3.1 by name; from 4.0 on `TransformerBridge` does, with eager attention
    and with sdpa. float32 on CPU. Stopped runs go on where they were; a release that cannot be
    installed, or cannot run, says why.

    \b
    Example:
      python -m validation audit --layers 2 --releases 2.8.0,2.15.0:3.1.0,4.3.0 --out results/audit

    Exit status: 0 it has been measured, 1 the process of a release died, 2 the input is not
    accepted.

    \b
    OUT/audit.jsonl   one record a release and attention
    OUT/audit.md, OUT/audit.png   what people read
    OUT/logs/         what the processes printed
    """
    with _failures(out):
        own = {"subjects": "stock", "dtype": "float32", "device": "cpu", "attention": "eager"}
        asked = Asked.checked(locals(), base="v3.9.0", **own)
        passed = _audit(asked, out, releases)
    raise typer.Exit(0 if passed else 1)


@app.command(short_help="Put the results of several runs into one report.")
def report(
    folders: Annotated[list[Path], typer.Argument(help="OUT of runs, such as of shards.")],
    out: Out,
    require: Annotated[
        str, typer.Option(help="What passes: identical, or floor (IDENTICAL and AT_FLOOR).")
    ] = "floor",
) -> None:
    """Merge what runs have measured, such as the shards of one, and write the report of all of it.

    The folders are only read. OUT keeps what it holds, gets the rest, and the same files as from
    `run`; nothing is measured. `stock` never changes the exit status.

    \b
    Example:
      python -m validation report results/shard-* --out results/all --require identical

    Exit status: 0 every judged case passes, 1 one fails, 2 the input is not accepted.
    """
    with _failures(out):
        required = one_of("--require", require, tuple(_REQUIRED))
        passed = _report(folders, out, _REQUIRED[required])
    raise typer.Exit(0 if passed else 1)


@app.command(short_help="Draw the tables of READMEs and cover letters from the evidence.")
def readme(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit 1 if a table is stale.")
    ] = False,
) -> None:
    """Write what README.md, cover letters and the studies' README have from validation/evidence/.

    Exit status: 0 they are as the evidence has them, 1 with --check if one is not.
    """
    with _failures():
        from validation.reporting.readme import DOCUMENTS, render_document

        drawn = {document: render_document(document) for document in DOCUMENTS}
        stale = [d for d, text in drawn.items() if d.read_text(encoding="utf-8") != text]
        if not check:
            for document in stale:
                document.write_text(drawn[document], encoding="utf-8")
    if check and stale:
        names = ", ".join(document.name for document in stale)
        print(f"Stale: {names}; `python -m validation readme` draws the tables anew.")
        raise typer.Exit(1)


@app.command(short_help="Print the JSON schema of a result.")
def schema() -> None:
    """Print the JSON schema of one line of results.jsonl.

    It is kept in validation/reporting/results.schema.json.
    """
    import json

    from validation.reporting.results import Result

    print(json.dumps(Result.model_json_schema(), indent=2))


def _run(asked: Asked, out: Path, required: str, part: str | None, with_stages: bool) -> bool:
    from validation.execution.run import run_cases
    from validation.execution.shards import parse_shard, places
    from validation.execution.staging import run_stages
    from validation.judgement.verdict import Verdict
    from validation.reporting.console import Console
    from validation.reporting.outputs import refuse_unusable_folder
    from validation.reporting.report import write_report
    from validation.reporting.results import ResultStore
    from validation.reporting.staged import StageStore

    shard = parse_shard("1/1" if part is None else part)
    with Console() as console:
        refuse_unusable_folder(out)
        store, stage_store = ResultStore(out), StageStore(out)
        for recovered in filter(None, (store.recovered, stage_store.recovered)):
            console.note(recovered)
        request = resolve(asked, console.step)
        # Once for each dtype, by whose shard has its first context.
        chosen = places(request, shard)
        first = tuple(d for d in request.dtypes if (d, request.contexts[0]) in chosen)
        probed = replace(request, dtypes=first)
        staged = run_stages(probed, stage_store, console) if with_stages else []
        results = run_cases(request, store, console, chosen)
        console.step("writing the report")
        write_report([*results, *store.beside(results)], out, stage_store.with_others(staged))
    judged = {tree.name for tree in request.trees if tree.is_judged}
    if not judged:
        console.note("No case is judged: stock is shown for comparison only.")
    console.summary(results, judged, Verdict[required], out)
    return all(
        result.outcome.meets(Verdict[required]) for result in results if result.subject in judged
    )


def _report(folders: list[Path], out: Path, required: str) -> bool:
    from validation.judgement.verdict import Verdict
    from validation.models.trees import STOCK
    from validation.reporting.console import Console
    from validation.reporting.merging import merge
    from validation.reporting.outputs import refuse_unusable_folder
    from validation.reporting.report import write_report

    with Console() as console:
        refuse_unusable_folder(out)
        results, staged = merge(folders, out)
        write_report(results, out, staged)
    judged = {result.subject for result in results} - {STOCK}
    console.summary(results, judged, Verdict[required], out)
    return all(
        result.outcome.meets(Verdict[required]) for result in results if result.subject in judged
    )


def _stages(asked: Asked, out: Path, required: str) -> bool:
    from validation.execution.staging import run_stages
    from validation.judgement.verdict import Verdict
    from validation.reporting.console import Console
    from validation.reporting.outputs import refuse_unusable_folder
    from validation.reporting.staged import StageStore

    with Console() as console:
        refuse_unusable_folder(out)
        store = StageStore(out)
        if store.recovered:
            console.note(store.recovered)
        request = resolve(asked, console.step)
        results = run_stages(request, store, console)
    judged = {tree.name for tree in request.trees if tree.is_judged}
    if not judged:
        console.note("No subject is judged: stock is shown for comparison only.")
    console.stages(results, judged, Verdict[required])
    return all(result.passes(Verdict[required]) for result in results if result.subject in judged)


def _faults(asked: Asked, out: Path, only: tuple[str, ...], with_effects: bool) -> bool:
    from validation.execution.fault_run import choose_faults, run_faults
    from validation.judgement.verdict import Verdict
    from validation.reporting.console import Console
    from validation.reporting.fault_content import missed_faults
    from validation.reporting.fault_records import record_effects, record_faults
    from validation.reporting.fault_report import print_faults, write_fault_report
    from validation.reporting.outputs import refuse_unusable_folder
    from validation.reporting.results import ResultStore
    from validation.reporting.staged import StageStore
    from validation.rope.faults import BASE

    if asked.base != BASE:
        raise InputError(f"--base: {asked.base!r} is not accepted; the faults edit {BASE}.")
    chosen = choose_faults(only)
    with Console() as console:
        refuse_unusable_folder(out)
        stores = ResultStore(out), StageStore(out)
        for recovered in filter(None, (store.recovered for store in stores)):
            console.note(recovered)
        request = resolve(asked, console.step)
        measured = run_faults(request, chosen, stores, console, with_effects=with_effects)
        console.step("writing the report")
        records = record_faults(chosen, measured)
        effects = record_effects(measured)
        report = write_fault_report(records, effects, measured.sound, out)
    print_faults(report, out)
    is_sound = all(result.outcome.meets(Verdict.AT_FLOOR) for result in measured.sound)
    return is_sound and not missed_faults(records)


def _alarms(
    out: Path, comparisons: int, tree: str, with_faults: bool, workers: int, seed: int
) -> bool:
    from transformer_lens_fork.bases import get_base
    from validation.execution.alarm_bench import THREADS
    from validation.execution.alarm_grid import Setting, choose_situations
    from validation.execution.alarms import run_alarms
    from validation.execution.arithmetic import fix_arithmetic
    from validation.execution.cases import Surroundings, refuse_wrong_transformers
    from validation.models.trees import resolve_tree
    from validation.reporting.alarm_content import false_alarms
    from validation.reporting.alarm_records import ALARMS, AlarmRecord
    from validation.reporting.alarm_report import print_alarms, write_alarm_report
    from validation.reporting.console import Console
    from validation.reporting.outputs import refuse_unusable_folder
    from validation.reporting.records import RecordFile
    from validation.rope.faults import BASE

    base = get_base(BASE)
    refuse_wrong_transformers(base)
    with Console() as console:
        refuse_unusable_folder(out)
        file = RecordFile(out / ALARMS, AlarmRecord, "record of clean comparisons")
        if file.recovered:
            console.note(file.recovered)
        fix_arithmetic(THREADS, seed)
        resolved = resolve_tree(tree, base, console.step)
        setting = Setting(resolved, base, with_faults, Surroundings.of("cpu"))
        situations = choose_situations(comparisons, seed)
        records = run_alarms(situations, setting, file, workers, console)
        console.step("writing the report")
        report = write_alarm_report(records, out)
    print_alarms(report, out)
    return not false_alarms(records)


def _architectures(
    out: Path,
    names: tuple[str, ...],
    dtypes: tuple[str, ...],
    seeds: int,
    tree: str,
    with_surface: bool,
) -> bool:
    from transformer_lens_fork.bases import get_base
    from validation.architectures.catalogue import choose_architectures
    from validation.architectures.records import ARCHITECTURES, SURFACE, ArchitectureRecord
    from validation.architectures.report import (
        MARKDOWN,
        failures,
        print_architectures,
        write_architectures,
    )
    from validation.architectures.run import Pair, run_architectures, run_surface
    from validation.architectures.worker import THREADS
    from validation.execution.arithmetic import fix_arithmetic
    from validation.execution.cases import Surroundings, refuse_wrong_transformers
    from validation.models.trees import STOCK, resolve_tree
    from validation.reporting.console import Console
    from validation.reporting.outputs import refuse_unusable_folder
    from validation.reporting.records import RecordFile
    from validation.rope.faults import BASE

    chosen = choose_architectures(names)
    base = get_base(BASE)
    refuse_wrong_transformers(base)
    with Console() as console:
        refuse_unusable_folder(out, (ARCHITECTURES, SURFACE, MARKDOWN))
        file = RecordFile(out / ARCHITECTURES, ArchitectureRecord, "record of an architecture")
        if file.recovered:
            console.note(file.recovered)
        fix_arithmetic(THREADS, 0)
        before, after = (resolve_tree(spec, base, console.step) for spec in (STOCK, tree))
        pair = Pair(before, after, seeds, Surroundings.of("cpu"))
        # checked against DTYPES
        records = run_architectures(chosen, dtypes, pair, file, console)  # type: ignore[arg-type]
        console.step("comparing public names")
        looked_at = run_surface(pair, out / SURFACE) if with_surface else None
        write_architectures(records, looked_at, out)
    print_architectures(records, looked_at, out)
    return not failures(records, looked_at)


def _bench(
    asked: Asked, out: Path, names: tuple[str, ...], works: tuple[str, ...], repeats: int
) -> None:
    from validation.execution.bench import run_bench
    from validation.execution.bench_grid import choose_bench
    from validation.reporting.bench_records import BENCH, BenchRecord
    from validation.reporting.bench_report import MARKDOWN, PLOT, print_bench, write_bench_report
    from validation.reporting.console import Console
    from validation.reporting.outputs import refuse_unusable_folder
    from validation.reporting.records import RecordFile

    with Console() as console:
        refuse_unusable_folder(out, (BENCH, MARKDOWN, PLOT))
        file = RecordFile(out / BENCH, BenchRecord, "record of the bench")
        if file.recovered:
            console.note(file.recovered)
        chosen = choose_bench(resolve(asked, console.step), names, works, repeats)
        records = run_bench(chosen, file, console)
        console.step("writing the report")
        report = write_bench_report(records, out)
    print_bench(report, out)


def _study(
    name: str, out: Path, seed: int, texts: int, page_only: bool, arguments: dict[str, object]
) -> None:
    from validation.reporting.console import Console
    from validation.reporting.outputs import refuse_unusable_folder
    from validation.reporting.records import RecordFile
    from validation.studies.catalogue import load_study
    from validation.studies.page import HTML, MARKDOWN, write_page
    from validation.studies.records import STUDY, StudyRecord
    from validation.studies.study import (
        choose_seeds,
        of_study,
        prepare,
        run_study,
        window_start,
    )

    with Console() as console:
        chosen = load_study(name)
        refuse_unusable_folder(out, (STUDY, MARKDOWN, HTML))
        file = RecordFile(out / STUDY, StudyRecord, "record of a study")
        if file.recovered:
            console.note(file.recovered)
        if page_only:
            records = of_study(chosen, file)
        else:
            request = prepare(chosen, arguments, texts, console.step)
            seeds = choose_seeds(window_start(request), request.contexts[-1], seed, texts)
            records = run_study(chosen, request, seeds, file, console)
        console.step("writing the page")
        page = chosen.compose(records)
        write_page(page, records, out)
    for finding in page.findings:
        console.note(finding)
    console.note(f"Page: {out.absolute() / HTML}")


def _clients(out: Path, chosen: "tuple[Client, ...]", tree: str) -> bool:
    from transformer_lens_fork.bases import get_base
    from validation.clients.catalogue import choose_clients
    from validation.clients.run import Trees, run_clients
    from validation.execution.arithmetic import fix_arithmetic
    from validation.execution.cases import Surroundings, refuse_wrong_transformers
    from validation.models.trees import STOCK, resolve_tree
    from validation.reporting.client_content import (
        MARKDOWN,
        print_clients,
        write_client_report,
    )
    from validation.reporting.client_records import CLIENTS, ClientRecord
    from validation.reporting.console import Console
    from validation.reporting.outputs import refuse_unusable_folder
    from validation.reporting.records import RecordFile, newest

    base = get_base("v3.9.0")
    refuse_wrong_transformers(base)
    with Console() as console:
        refuse_unusable_folder(out, (CLIENTS, MARKDOWN))
        file = RecordFile(out / CLIENTS, ClientRecord, "record of clients")
        if file.recovered:
            console.note(file.recovered)
        fix_arithmetic(1, 0)
        stock, fork = (resolve_tree(spec, base, console.step) for spec in (STOCK, tree))
        run_clients(chosen, Trees(stock, fork, Surroundings.of("cpu")), file, console)
    order = [client.name for client in choose_clients(())]
    records = sorted(newest(file.records), key=lambda record: order.index(record.client))
    report = write_client_report(records, out)
    print_clients(report, out)
    return not report.broken


def _audit(asked: Asked, out: Path, releases: str | None) -> bool:
    from validation.audit.records import AUDIT, AuditRecord, Ending, latest, measured_alike
    from validation.audit.releases import choose_releases
    from validation.audit.report import MARKDOWN, PLOT, print_audit, write_audit_report
    from validation.audit.run import audited, run_audit
    from validation.reporting.console import Console
    from validation.reporting.outputs import refuse_unusable_folder
    from validation.reporting.records import RecordFile

    with Console() as console:
        refuse_unusable_folder(out, (AUDIT, MARKDOWN, PLOT))
        subjects = audited(choose_releases(releases))
        file = RecordFile(out / AUDIT, AuditRecord, "record of a release")
        if file.recovered:
            console.note(file.recovered)
        records = run_audit(resolve(asked, console.step), subjects, file, console)
        console.step("writing the report")
        # What earlier runs measured of other releases belongs on the same page.
        beside = measured_alike(file.records, records[0])
        report = write_audit_report(latest([*beside, *records]), out)
    print_audit(report, out)
    return all(record.ending != Ending.DIED.name for record in records)


def _refuse_another_tree(tree: str) -> None:
    from validation.models.trees import refuse_bad_folders

    if "," in tree or tree == "stock":
        raise InputError(
            f"--tree: {tree!r} is not accepted; fork or one folder that contains "
            "transformer_lens/ is."
        )
    refuse_bad_folders((tree,), "--tree")


def _rotary(asked: Asked, out: Path, repeats: int) -> None:
    from validation.execution.cases import Surroundings
    from validation.execution.rotary import time_rotations
    from validation.models.subject import SubjectRefused
    from validation.reporting.console import Console, print_tables
    from validation.reporting.outputs import refuse_unusable_folder
    from validation.reporting.records import RecordFile
    from validation.reporting.rotary_report import (
        ROTARY,
        RotaryRecord,
        record_rotation,
        tabulate_rotations,
    )

    with Console() as console:
        refuse_unusable_folder(out, (ROTARY,))
        file = RecordFile(out / ROTARY, RotaryRecord, "record of rotations")
        if file.recovered:
            console.note(file.recovered)
        request = resolve(asked, console.step)
        job = request.subject_job(request.trees[0], request.dtypes[0], out)
        measured_with = Surroundings.of(request.device).recorded() | {
            "tree_sha256": request.trees[0].sha256,
            "checkpoint": request.checkpoint.name,
            "dtype": request.dtypes[0],
        }
        records = []
        try:
            for rotations in time_rotations(job, request.checkpoint, request.contexts, repeats):
                new = [record_rotation(rotation, measured_with) for rotation in rotations]
                for record in new:
                    file.append(record)
                records += new
                console.counted("rotations", len(records), 4 * len(request.contexts))
        except SubjectRefused as refusal:
            raise InputError(
                f"--tree: {request.trees[0].name!r} cannot run {request.checkpoint.name!r}: "
                f"{refusal}; a copy of the fork is accepted."
            ) from None
    print_tables(tabulate_rotations(records))


def _plan(asked: Asked) -> bool:
    from validation.execution.cases import has_device
    from validation.execution.plan import plan_request
    from validation.reporting.console import Console, print_plans

    with Console() as console:
        request = resolve(asked, console.step, only_plans=True)
        is_timed = has_device(request.device)
        if is_timed:
            console.step("timing this machine")
        plans = plan_request(request, is_timed=is_timed)
    print_plans(plans, len(request.trees), request.memory_bytes, is_timed=is_timed)
    return all(plan.refusal is None for _, plan in plans)


@contextmanager
def _failures(out: Path | None = None) -> Iterator[None]:
    """Turns what the user can mend into one sentence and exit status 2.

    Args:
        out: folder that is written to, where the system does not say which file is at fault.
    """
    try:
        yield
    except (InputError, VerificationError) as error:
        sentence = str(error)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "validation", "transformer_lens_fork"):
            raise
        sentence = (
            f"{missing!r} is not installed: `pip install -e '.[validation]'` brings what the "
            "harness needs, and the fork what TransformerLens does."
        )
    except BrokenPipeError:
        raise  # whoever read our output has stopped: there is nobody to tell
    except OSError as error:
        where = error.filename or out
        sentence = f"{error.strerror or error}" + (f": {str(where)!r}" if where else "")
    else:
        return
    # On one line, whatever names of files are in it.
    print("error: " + " ".join(sentence.split()), file=sys.stderr)
    raise typer.Exit(2)


if __name__ == "__main__":
    app()
