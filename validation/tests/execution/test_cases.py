"""A case's key changes with everything that could change its result, and with nothing else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from transformer_lens_fork.bases import get_base
from transformer_lens_fork.errors import InputError
from validation.execution.cases import (
    Case,
    Request,
    Surroundings,
    case_key,
    refuse_missing_device,
    refuse_wrong_transformers,
)
from validation.models.checkpoints import Checkpoint, Llama3Rope
from validation.models.prompts import Prompt
from validation.models.shapes import Shape
from validation.models.trees import Tree

TREE = Tree("fork", Path("fork"), "a" * 64, "b" * 64, loads_itself=True)
SHAPE = Shape(2, 144, 192, 6, 2, 48, 320, is_tied=False)
REQUEST = Request(
    checkpoint=Checkpoint(
        name="tiny",
        path=Path("tiny"),
        sha256="c" * 64,
        positions=4096,
        shape=SHAPE,
        rope=Llama3Rope(1e6, 4.0, 2.0, 8.0, 4096),
        has_tokenizer=False,
    ),
    trees=(TREE,),
    contexts=(64, 128),
    dtypes=("float32",),
    attention="eager",
    device="cpu",
    base=get_base("v3.9.0"),
    prompt=Prompt(np.arange(128), "counting"),
    seed=0,
    threads=2,
    memory_bytes=2**33,
)
CASE = Case(TREE, "float32", 64, 64, 64)
SURROUNDINGS = Surroundings("d" * 64, {"torch": "2.13.0"}, {"threads": "2"}, "c0ffee", False)


def with_shape(layers: int = SHAPE.layers, vocab: int = SHAPE.vocab) -> Checkpoint:
    """The checkpoint with another size."""
    return replace(REQUEST.checkpoint, shape=replace(SHAPE, layers=layers, vocab=vocab))


@pytest.mark.parametrize(
    ("request_", "case", "surroundings"),
    [
        (replace(REQUEST, checkpoint=replace(REQUEST.checkpoint, sha256="e" * 64)), CASE, None),
        (replace(REQUEST, checkpoint=with_shape(vocab=2**20)), CASE, None),
        (replace(REQUEST, checkpoint=with_shape(layers=1)), CASE, None),
        (replace(REQUEST, device="cuda"), CASE, None),
        (replace(REQUEST, base=get_base("v2.8.0")), CASE, None),
        (replace(REQUEST, seed=1), CASE, None),
        (replace(REQUEST, prompt=Prompt(np.arange(128) + 1, "counting")), CASE, None),
        (REQUEST, replace(CASE, context=128), None),
        (replace(REQUEST, attention="sdpa"), CASE, None),
        (REQUEST, replace(CASE, prefill=32), None),
        (REQUEST, replace(CASE, eager_prefill=32), None),
        (REQUEST, replace(CASE, dtype="bfloat16"), None),
        (REQUEST, replace(CASE, tree=replace(TREE, sha256="e" * 64)), None),
        (REQUEST, replace(CASE, tree=replace(TREE, name="stock")), None),
        (REQUEST, CASE, replace(SURROUNDINGS, harness_sha256="e" * 64)),
        (REQUEST, CASE, replace(SURROUNDINGS, packages={"torch": "2.14.0"})),
        (REQUEST, CASE, replace(SURROUNDINGS, settings={"threads": "4"})),
    ],
)
def test_another_ingredient_is_another_case(
    request_: Request, case: Case, surroundings: Surroundings | None
) -> None:
    """Each one alone makes a new key."""
    assert case_key(request_, case, surroundings or SURROUNDINGS) != case_key(
        REQUEST, CASE, SURROUNDINGS
    )


def test_other_cases_of_a_run_do_not_matter() -> None:
    """More contexts or dtypes, a longer prompt with the same start: the same case."""
    larger = replace(
        REQUEST,
        contexts=(64, 128, 256),
        dtypes=("float32", "float16"),
        prompt=Prompt(np.arange(256), "counting"),
        memory_bytes=2**34,
    )
    elsewhere = replace(SURROUNDINGS, git_commit="decaf", git_dirty=True)
    assert case_key(REQUEST, CASE, elsewhere) == case_key(REQUEST, CASE, SURROUNDINGS)
    assert case_key(larger, CASE, SURROUNDINGS) == case_key(REQUEST, CASE, SURROUNDINGS)


@pytest.mark.parametrize(("vocab_size", "chunk"), [(320, 1024), (49152, 682), (128256, 261)])
def test_chunks_bound_the_logits_held(vocab_size: int, chunk: int) -> None:
    """32 Mi logits at most, whatever the vocabulary."""
    request = replace(REQUEST, checkpoint=with_shape(vocab=vocab_size))
    assert request.chunk == chunk
    assert chunk * vocab_size <= 2**25


def test_a_base_for_another_transformers_is_refused() -> None:
    """v2.8.0 runs with transformers 4, which these tests do not have."""
    refuse_wrong_transformers(get_base("v3.9.0"))
    with pytest.raises(InputError, match=r"--base: v2\.8\.0 runs with transformers"):
        refuse_wrong_transformers(get_base("v2.8.0"))


def test_cuda_that_is_absent_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails loudly; and a device number beyond the last one is named."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    refuse_missing_device("cpu")
    with pytest.raises(InputError, match=r"'cuda' is asked for and torch .* finds no CUDA"):
        refuse_missing_device("cuda")
    for device, n_devices in (("cuda", 1), ("cuda:3", 1), ("cuda", 8)):
        refuse_missing_device(device, n_devices, may_be_absent=True)
    with pytest.raises(InputError, match="as many with 'cuda' are accepted"):
        refuse_missing_device("cuda:1", 2, may_be_absent=True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    refuse_missing_device("cuda:1")
    for may_be_absent in (False, True):
        with pytest.raises(InputError, match="'cuda:2' is asked for and there are 2 CUDA devices"):
            refuse_missing_device("cuda:2", may_be_absent=may_be_absent)
