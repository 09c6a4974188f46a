"""What a command line asks for: its words, checked, and what they name."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformer_lens_fork.errors import InputError

if TYPE_CHECKING:
    from validation.execution.cases import Request

DTYPES = ("float32", "bfloat16", "float16")
ATTENTIONS = ("eager", "sdpa")


@dataclass(frozen=True)
class Asked:
    """The arguments that the commands share, checked as far as words can be."""

    checkpoint: str
    contexts: tuple[int, ...] | None
    subjects: tuple[str, ...]
    dtypes: tuple[str, ...]
    attention: str
    device: str
    base: str
    layers: int | None
    streams_layers: bool
    n_devices: int
    memory_bytes: int | None
    seed: int
    threads: int | None
    has_lazy_floor: bool = False

    @classmethod
    def checked(cls, arguments: Mapping[str, Any], **own: Any) -> "Asked":
        """Raises InputError, naming the first argument that is not accepted.

        Args:
            arguments: a command's, by name; what they lack is not asked for.
            own: those that the command does not have but sets.
        """
        absent = {"contexts": None, "memory": None, "stream_layers": False, "gpus": 1}
        found = {**absent, "lazy_floor": False, **arguments, **own}
        device, contexts, memory = found["device"], found["contexts"], found["memory"]
        if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
            raise InputError(f"--device: {device!r} is not accepted; cpu, cuda or cuda:N is.")
        if found["gpus"] > 1 and found["stream_layers"]:
            raise InputError(
                f"--gpus: {found['gpus']} with --stream-layers; one of them is accepted."
            )
        dtypes = split_words("--dtype", found["dtype"])
        return cls(
            checkpoint=found["checkpoint"],
            contexts=None if contexts is None else parse_contexts(contexts),
            subjects=split_words("--subjects", found["subjects"]),
            dtypes=tuple(one_of("--dtype", name, DTYPES) for name in dtypes),
            attention=one_of("--attention", found["attention"], ATTENTIONS),
            device=device,
            base=found["base"],
            layers=found["layers"],
            streams_layers=found["stream_layers"],
            n_devices=found["gpus"],
            memory_bytes=None if memory is None else parse_memory(memory),
            seed=found["seed"],
            threads=found["threads"],
            has_lazy_floor=found["lazy_floor"],
        )


def resolve(asked: Asked, report: Callable[[str], None], *, only_plans: bool = False) -> "Request":
    """Finds what the arguments name; what costs nothing comes before what fetches or builds.

    Args:
        asked: the arguments.
        report: receives what is being done, for people.
        only_plans: nothing will be run: GPUs whose memory is known need not be here.

    Raises:
        InputError: one names nothing, or nothing that can be run here.
    """
    # Imports torch, which takes seconds: only once the arguments are known to be sound.
    import torch

    from transformer_lens_fork.bases import get_base
    from validation.execution import cases
    from validation.execution.arithmetic import fix_arithmetic
    from validation.execution.plan import default_memory
    from validation.execution.probe_files import TOKENS
    from validation.models.checkpoints import refuse_missing_checkpoint, resolve_checkpoint
    from validation.models.prompts import build_prompt
    from validation.models.trees import refuse_bad_folders, resolve_tree
    from validation.models.truncation import truncate

    base = get_base(asked.base)
    if not base.has_hooked_transformer:
        raise InputError(
            f"--base: {base.name!r} is not accepted: it has no HookedTransformer; a base that has "
            "one is."
        )
    cases.refuse_wrong_transformers(base)
    is_known = only_plans and asked.memory_bytes is not None
    cases.refuse_missing_device(asked.device, asked.n_devices, may_be_absent=is_known)
    refuse_bad_folders(asked.subjects)
    refuse_missing_checkpoint(asked.checkpoint)
    trees = tuple(resolve_tree(spec, base, report) for spec in asked.subjects)
    found = resolve_checkpoint(asked.checkpoint, report)
    contexts = asked.contexts or (min(TOKENS, found.positions),)
    cases.refuse_missing_positions(found, contexts)
    if asked.layers is not None:
        found = truncate(found, asked.layers, report)
    report("tokenising the prompt")
    request = cases.Request(
        checkpoint=found,
        trees=trees,
        contexts=contexts,
        dtypes=asked.dtypes,  # type: ignore[arg-type]  # checked against DTYPES
        attention=asked.attention,  # type: ignore[arg-type]  # checked against ATTENTIONS
        device=asked.device,
        base=base,
        prompt=build_prompt(found, contexts[-1], asked.seed),
        seed=asked.seed,
        threads=asked.threads or torch.get_num_threads(),
        memory_bytes=asked.memory_bytes or default_memory(asked.device),
        streams_layers=asked.streams_layers,
        n_devices=asked.n_devices,
        has_lazy_floor=asked.has_lazy_floor,
    )
    fix_arithmetic(request.threads, request.seed, request.device)
    return request


def parse_contexts(text: str) -> tuple[int, ...]:
    """Token counts such as `1k,2k,4096` or `1k:64k`, ascending and without repetition; k is 1024.

    A range goes up by doublings, and to its end.

    Raises:
        InputError: one is no positive number, or a range goes down.
    """
    lengths: set[int] = set()
    for word in split_words("--contexts", text):
        first, colon, last = word.partition(":")
        start = _parse_length(first, word)
        stop = _parse_length(last, word) if colon else start
        if stop < start:
            raise InputError(f"--contexts: {word!r} goes down; one that goes up is accepted.")
        while start < stop:
            lengths.add(start)
            start *= 2
        lengths.add(stop)
    return tuple(sorted(lengths))


def _parse_length(text: str, word: str) -> int:
    match = re.fullmatch(r"([1-9]\d{0,6})(k?)", text)
    if not match:
        raise InputError(
            f"--contexts: {word!r} is not accepted; a number of tokens such as 4096 or 4k, or a "
            "range such as 1k:64k, is."
        )
    return int(match[1]) * (1024 if match[2] else 1)


def parse_memory(text: str) -> int:
    """Bytes, of a size such as `12g` or `800m`.

    Raises:
        InputError: it is no such size.
    """
    match = re.fullmatch(r"([1-9]\d{0,5})([mg])", text.lower())
    if not match:
        raise InputError(f"--memory: {text!r} is not accepted; a size such as 12g or 800m is.")
    return int(match[1]) << {"m": 20, "g": 30}[match[2]]


def split_words(field: str, text: str) -> tuple[str, ...]:
    """The words between commas, each once.

    Raises:
        InputError: one is empty.
    """
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    if "" in words:
        raise InputError(f"{field}: {text!r} has an empty item; values between commas are.")
    return words


def one_of(field: str, value: str, accepted: tuple[str, ...]) -> str:
    """The value; raises InputError unless it is accepted."""
    if value not in accepted:
        raise InputError(f"{field}: {value!r} is not accepted; {', '.join(accepted)} are.")
    return value


def each_of(field: str, text: str, accepted: tuple[str, ...]) -> tuple[str, ...]:
    """The words between commas, in the order in which they are accepted."""
    words = [one_of(field, word, accepted) for word in split_words(field, text)]
    return tuple(word for word in accepted if word in words)
