"""Every exercise is there, and a name that is none is refused."""

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

from transformer_lens_fork.errors import InputError
from validation.clients.catalogue import CLIENTS, choose_clients
from validation.clients.environments import conflict


def test_every_function_is_in_its_module() -> None:
    """The libraries are not installed here: the modules are read, not imported."""
    for exercise in (exercise for client in CLIENTS for exercise in client.exercises):
        spec = find_spec(exercise.module)
        assert spec is not None
        assert spec.origin is not None
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert exercise.function in functions, exercise


def test_every_client_is_pinned() -> None:
    """What is measured is one release, and names are their own."""
    for client in CLIENTS:
        assert all("==" in requirement for requirement in client.requirements)
        assert len({exercise.name for exercise in client.exercises}) == len(client.exercises)
    assert len({client.name for client in CLIENTS}) == len(CLIENTS)


def test_names_choose() -> None:
    """All without names; those named, in their order; no others."""
    assert choose_clients(()) == CLIENTS
    assert [client.name for client in choose_clients(("demos", "sae-lens"))] == [
        "demos",
        "sae-lens",
    ]
    with pytest.raises(InputError, match=r"--only: 'saelens' is no client; sae-lens, "):
        choose_clients(("saelens",))


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            "ERROR: Cannot install\n\nThe conflict is caused by:\n"
            "    The user requested transformers==5.23.0\n"
            "    circuit-tracer 0.5.0 depends on transformers<=4.57.3 and >=4.56.0\n\nTo fix",
            "The user requested transformers==5.23.0; "
            "circuit-tracer 0.5.0 depends on transformers<=4.57.3 and >=4.56.0",
        ),
        ("Looking\nERROR: No matching distribution found for x", "ERROR: No matching distribution"),
        ("", "pip said nothing"),
    ],
)
def test_what_pip_says_is_one_sentence(said: str, sentence: str) -> None:
    """The requirements that exclude each other, without pip's advice."""
    assert conflict(said).startswith(sentence)
