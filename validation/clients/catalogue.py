"""The clients, and what each is exercised on."""

from dataclasses import dataclass

from transformer_lens_fork.errors import InputError


@dataclass(frozen=True)
class Exercise:
    """Something that a client does, in a process of its own on each tree.

    Attributes:
        name: short, for the command line's output and reports.
        module: where its function is.
        function: its name; called with what takes down what is seen, and an empty folder.
        shows: what it is about, in a sentence.
        not_on_stock: why the release is not asked; empty if it is.
    """

    name: str
    module: str
    function: str
    shows: str
    not_on_stock: str = ""


@dataclass(frozen=True)
class Client:
    """A library that builds on TransformerLens.

    Attributes:
        name: as the command line has it.
        package: whose version it is.
        requirements: what is installed for it, with its own dependencies.
        also: what it needs beside them where its own pins exclude our transformers; it is then
            installed without its dependencies.
        exercises: what it does.
        own_tests: what there is of its own tests.
    """

    name: str
    package: str
    requirements: tuple[str, ...]
    exercises: tuple[Exercise, ...]
    own_tests: str
    also: tuple[str, ...] = ()


_HERE = "validation.clients"

_EAGER_16K = "it has eager attention only, whose scores of 16k tokens and 9 heads take 9.7 GB"

CLIENTS = (
    Client(
        "sae-lens",
        "sae-lens",
        ("sae-lens==6.54.12",),
        (
            Exercise(
                "GPT-2",
                f"{_HERE}.sae_lens_api",
                "exercise_gpt2",
                "SAEs at four hooks, top-k, a transcoder, error terms, an intervention, gradients",
            ),
            Exercise(
                "Llama 3.1",
                f"{_HERE}.sae_lens_api",
                "exercise_llama",
                "logits, features and the SAE's output, beside transformers'",
            ),
            Exercise(
                "16k tokens",
                f"{_HERE}.sae_lens_16k",
                "exercise",
                "SmolLM2 with Llama 3.1's scaling, 2 layers, 16,384 tokens in one forward",
                _EAGER_16K,
            ),
        ),
        "not published: the sdists of 5.11.0, 6.50.0 and 6.54.12 on PyPI have none",
    ),
    Client(
        "circuit-tracer",
        "circuit-tracer",
        ("circuit-tracer==0.5.0",),
        (
            Exercise("as it is", f"{_HERE}.circuit_tracer_api", "exercise_import", "its import"),
            Exercise(
                "GPT-2",
                f"{_HERE}.circuit_tracer_api",
                "exercise_gpt2",
                "with a name of huggingface_hub put back: a replacement model, its activations, an "
                "attribution graph, interventions",
            ),
            Exercise(
                "Llama 3.1",
                f"{_HERE}.circuit_tracer_api",
                "exercise_llama",
                "activations and logits of a replacement model, beside transformers'",
            ),
        ),
        "not published: its sdist on PyPI has none",
        also=("nnsight>=0.6.0",),
    ),
    Client(
        "auto-circuit",
        "auto-circuit",
        # Imports attr without declaring it.
        ("auto-circuit==1.0.1", "attrs==26.1.0"),
        (
            Exercise("as it is", f"{_HERE}.auto_circuit_api", "exercise_import", "its import"),
            Exercise(
                "GPT-2",
                f"{_HERE}.auto_circuit_api",
                "exercise_gpt2",
                "with two names of release 2 put back: edges, attribution, circuits, ablations",
            ),
        ),
        "not published: its sdist on PyPI has none",
    ),
    Client(
        "demos",
        "transformer-lens",
        ("nbclient==0.11.0", "ipykernel==7.4.0", "circuitsvis==1.43.3", "plotly==7.1.0"),
        (
            Exercise(
                "direct_path_patching_ioi",
                f"{_HERE}.demos",
                "exercise_path_patching",
                "every cell, headless, GPT-2 with random weights",
            ),
            Exercise(
                "Main_Demo",
                f"{_HERE}.demos",
                "exercise_main",
                "every cell, headless, GPT-2 with random weights",
            ),
            Exercise(
                "No_Position_Experiment",
                f"{_HERE}.demos",
                "exercise_no_position",
                "every cell, headless, 40 steps of training instead of 4,000",
            ),
        ),
        "upstream runs Main_Demo and No_Position_Experiment as tests",
    ),
)


def choose_clients(names: tuple[str, ...]) -> tuple[Client, ...]:
    """Those of the names, or all if there are none.

    Raises:
        InputError: a name is no client's.
    """
    known = {client.name: client for client in CLIENTS}
    for name in names:
        if name not in known:
            raise InputError(f"--only: {name!r} is no client; {', '.join(known)} are.")
    return tuple(known[name] for name in names) or CLIENTS
