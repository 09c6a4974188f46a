"""One tree's process: `python -m validation.architectures.worker TREE`.

It does a task for each line on its standard input, until that ends.
"""

import logging
import pickle
import sys
import warnings
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors.torch import save_file
from torch import Tensor

from validation.architectures.catalogue import choose_architectures
from validation.architectures.loading import Loaded, initialise, load
from validation.architectures.records import SURFACE, Done, Failed, Observed, Task
from validation.architectures.surface import look_at_surface, shown_configuration
from validation.architectures.tiny import build_reference, random_tokens
from validation.execution.accidents import exhausted
from validation.execution.arithmetic import fix_arithmetic
from validation.execution.events import Reporter
from validation.models.subject import import_from

TENSORS = "observed.safetensors"
OBSERVED = "observed.json"
_STATE = "state.pt"
_CONFIGURATION = "configuration.pickle"
THREADS = 1
"""Of torch: sums in another order are another result."""
_LONGEST = 300
"""Characters of what a tree raised: TransformerLens may list every model it knows."""

LOGITS, PROCESSED, GRADIENT, OWN_GRADIENT = "logits", "processed", "gradient", "own-gradient"
THEIRS = "theirs"
"""Parts of a tensor's name: `KIND/SEED`, `KIND/SEED/NAME`, and HF's with this before it."""

Logits = Float[Tensor, "batch pos vocab"]
Tokens = Int[Tensor, "batch pos"]


def main(tree: str) -> None:
    """Imports `tree` and works until its standard input ends."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    import_from(Path(tree))
    with Reporter.from_environment() as reporter:
        for line in sys.stdin:
            fix_arithmetic(THREADS, 0)
            try:
                _do(Task.model_validate_json(line))
            except Exception as error:  # a foreign tree may raise anything
                if exhausted(error):
                    raise
                said = " ".join(f"{type(error).__name__}: {error}".split())
                reporter.send(Failed(reason=shorten(said, _LONGEST, placeholder=" ...")))
            else:
                reporter.send(Done())


def _do(task: Task) -> None:
    folder = Path(task.folder)
    if task.what == "surface":
        (folder / SURFACE).write_text(look_at_surface().model_dump_json(), encoding="utf-8")
        return
    tensors: dict[str, Tensor] = {}
    first = None
    for seed in range(task.seeds):
        observed = _observe(task, seed, tensors)
        first = first or observed
    assert first is not None, "a task has seeds"
    # Copies: some share memory, which safetensors refuses.
    save_file(
        {name: tensor.clone().contiguous() for name, tensor in tensors.items()}, folder / TENSORS
    )
    (folder / OBSERVED).write_text(first.model_dump_json(), encoding="utf-8")


def _observe(task: Task, seed: int, tensors: dict[str, Tensor]) -> Observed:
    """Runs the model of one seed, and adds what comes of it to `tensors`."""
    (architecture,) = choose_architectures((task.architecture,))
    dtype = getattr(torch, task.dtype)
    tokens = random_tokens(seed)
    if architecture.reference is None:
        plain = initialise(architecture, seed, dtype)
        _add_own(plain.model, tokens, seed, tensors)
        return _look_at(plain, task, tokens, seed)
    reference = build_reference(architecture, seed, dtype)
    theirs = reference(tokens, use_cache=False).logits
    torch.autograd.backward(_loss(theirs, tokens))
    for kind in (LOGITS, PROCESSED):
        tensors[f"{THEIRS}/{kind}/{seed}"] = theirs.detach()

    plain = load(architecture, reference, dtype, is_processed=False)
    _add_own(plain.model, tokens, seed, tensors)
    _add_carried(plain, reference, seed, tensors)

    reference.requires_grad_(False)
    processed = load(architecture, reference, dtype, is_processed=True).model
    with torch.no_grad():
        tensors[f"{PROCESSED}/{seed}"] = processed(tokens)
    return _look_at(plain, task, tokens, seed)


def _loss(logits: Logits, tokens: Tokens) -> Float[Tensor, ""]:
    return F.cross_entropy(logits[:, :-1].float().flatten(0, 1), tokens[:, 1:].flatten())


def _add_own(model: Any, tokens: Tokens, seed: int, tensors: dict[str, Tensor]) -> None:
    """The tree's logits, and the gradient of each of its parameters."""
    logits = model(tokens)
    torch.autograd.backward(_loss(logits, tokens))
    tensors[f"{LOGITS}/{seed}"] = logits.detach()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            tensors[f"{OWN_GRADIENT}/{seed}/{name}"] = parameter.grad


def _add_carried(loaded: Loaded, reference: Any, seed: int, tensors: dict[str, Tensor]) -> None:
    """The gradients carried back to HF's parameters, through the conversion of the weights."""
    own = {name: p.grad for name, p in loaded.model.named_parameters() if p.grad is not None}
    made = {
        name: weight
        for name, weight in loaded.converted.items()
        if weight.requires_grad and name in own and own[name].numel() == weight.numel()
    }
    theirs = dict(reference.named_parameters())
    carried = torch.autograd.grad(
        list(made.values()),
        list(theirs.values()),
        # Apertus' scalars are vectors of one entry in HF.
        [own[name].to(weight.dtype).reshape(weight.shape) for name, weight in made.items()],
        allow_unused=True,
    )
    for (name, parameter), gradient in zip(theirs.items(), carried, strict=True):
        if gradient is not None and parameter.grad is not None:
            tensors[f"{GRADIENT}/{seed}/{name}"] = gradient
            tensors[f"{THEIRS}/{GRADIENT}/{seed}/{name}"] = parameter.grad


def _look_at(loaded: Loaded, task: Task, tokens: Tokens, seed: int) -> Observed:
    """What else there is of a model; that of the first seed is saved for the other tree."""
    model = loaded.model
    state = model.state_dict()
    found = Observed(
        way=loaded.way,
        configuration=shown_configuration(model.cfg),
        shapes={name: tuple(tensor.shape) for name, tensor in state.items()},
        loaded_saved=None,
    )
    if seed > 0:
        return found
    folder = Path(task.folder)
    torch.save(state, folder / _STATE)
    (folder / _CONFIGURATION).write_bytes(pickle.dumps(model.cfg))
    if task.saved is None:
        return found
    wrong = _load_saved(Path(task.saved), model, tokens)
    return found.model_copy(update={"loaded_saved": wrong})


def _load_saved(folder: Path, model: Any, tokens: Tokens) -> tuple[str, ...]:
    """What goes wrong with a state dict and a configuration that another tree saved."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    wrong = []
    pickled = pickle.loads((folder / _CONFIGURATION).read_bytes())
    own = shown_configuration(model.cfg)
    for how, cfg in (
        ("pickled", pickled),
        ("as a dict", HookedTransformerConfig.from_dict(dict(vars(pickled)))),
    ):
        again = HookedTransformer(cfg).eval()
        again.load_state_dict(torch.load(folder / _STATE), strict=True)
        with torch.no_grad():
            differing = int((again(tokens) != model(tokens)).sum())
        if differing:
            wrong.append(f"{differing} logits differ with the saved state, configuration {how}")
        fields = [name for name, value in shown_configuration(cfg).items() if own[name] != value]
        if fields:
            wrong.append(f"the saved configuration, {how}, has another {', '.join(fields)}")
    return tuple(wrong)


if __name__ == "__main__":
    main(sys.argv[1])
