"""Finds a checkpoint and refuses, before any model loads, one that cannot be judged."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transformer_lens_fork.errors import InputError
from validation.models.configuration import read_configuration
from validation.models.hashing import files_sha256
from validation.models.random_weights import parse_random, random_folder, random_sha256
from validation.models.refusals import reason, shown
from validation.models.rope_parameters import Llama3Rope, read_rope
from validation.models.shapes import Shape
from validation.models.smollm2 import smollm2_folder
from validation.models.weights import check_weights, weight_files

__all__ = [
    "Checkpoint",
    "Llama3Rope",
    "read_rope",
    "refuse_missing_checkpoint",
    "resolve_checkpoint",
]

_SMOLLM2 = "smollm2"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)


@dataclass(frozen=True)
class Checkpoint:
    """Weights and configuration of one Llama.

    Attributes:
        name: what the user called it.
        path: folder with `config.json` and safetensors.
        sha256: over the names and contents of these files.
        positions: tokens of context it accepts.
        shape: its sizes.
        rope: its position encoding.
        has_tokenizer: whether text can be tokenised for it.
        weights_seed: of weights that are in no file (`random_weights.py`), else None.
    """

    name: str
    path: Path
    sha256: str
    positions: int
    shape: Shape
    rope: Llama3Rope
    has_tokenizer: bool
    weights_seed: int | None = None


def resolve_checkpoint(spec: str, report: Callable[[str], None]) -> Checkpoint:
    """The checkpoint that `spec` names.

    Args:
        spec: `smollm2`, a folder, an id on the hub, or `random:SHAPE@SEED`.
        report: receives what is being done, for people.

    Raises:
        InputError: it is missing, damaged, or not a Llama with llama3 RoPE scaling.
    """
    path = _find(spec, report).absolute()
    config = read_configuration(spec, path)
    if drawn := parse_random(spec):
        sha256 = random_sha256(_sha256(path, [path / "config.json"]), drawn.seed)
    else:
        weights = weight_files(path)
        check_weights(spec, config, weights)
        report(f"hashing {spec}")
        sha256 = _sha256(path, [path / "config.json", *weights])
    return Checkpoint(
        name=spec,
        path=path,
        sha256=sha256,
        positions=config.max_position_embeddings,
        shape=Shape.of(config),
        rope=read_rope(spec, config),
        has_tokenizer=any((path / name).exists() for name in ("tokenizer.json", "tokenizer.model")),
        weights_seed=drawn.seed if drawn else None,
    )


def refuse_missing_checkpoint(spec: str) -> None:
    """Raises InputError if `spec` is neither a folder nor may be fetched; fetches nothing."""
    if spec != _SMOLLM2 and not parse_random(spec):
        _local_folder(spec)


def _find(spec: str, report: Callable[[str], None]) -> Path:
    if spec == _SMOLLM2:
        return smollm2_folder(report)
    if drawn := parse_random(spec):
        return random_folder(drawn, report)
    return _local_folder(spec) or _fetch_from_hub(spec, report)


def _local_folder(spec: str) -> Path | None:
    """The folder, or None if this is an id on the hub."""
    accepted = (
        "'smollm2', a folder with config.json and safetensors, a hub id such as "
        "meta-llama/Llama-3.1-8B, or random:SHAPE is accepted."
    )
    try:
        path = Path(spec).expanduser()
        if path.is_dir():
            return path
        is_id = _HUB_ID.fullmatch(spec) and not path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, ~ of nobody, NUL
        raise InputError(
            f"--checkpoint: {shown(spec)} is no folder ({reason(error)}); {accepted}"
        ) from None
    if not is_id:
        raise InputError(f"--checkpoint: {shown(spec)} is no folder; {accepted}")
    return None


def _fetch_from_hub(spec: str, report: Callable[[str], None]) -> Path:
    from huggingface_hub import snapshot_download

    report(f"fetching {spec} from the hub")
    patterns = ["*.json", "*.safetensors", "tokenizer.model"]
    try:
        return Path(snapshot_download(spec, allow_patterns=patterns))
    except Exception as error:  # its own errors and its HTTP library's
        if isinstance(error, OSError) and error.errno:  # the disk's: it is full, say
            raise
        raise InputError(f"--checkpoint: {shown(spec)} {_hub_refusal(spec, error)}") from None


def _hub_refusal(spec: str, error: Exception) -> str:
    """Why the hub does not give a checkpoint, and what would help."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    page = f"huggingface.co/{spec}"
    if isinstance(error, GatedRepoError):
        if get_token() is None:
            return (
                f"is gated and there is no token; HF_TOKEN of an account that {page} lets in is "
                "accepted."
            )
        return (
            f"is gated and refuses the account of the token; one that {page} lets in is accepted."
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"is no folder here and the hub has no such model, or none that it shows: {page}; "
            "an id that it shows to the account of HF_TOKEN is accepted."
        )
    cause = error.__cause__
    if isinstance(error, LocalEntryNotFoundError) and not isinstance(cause, HfHubHTTPError):
        is_offline = isinstance(cause, OfflineModeIsEnabled)
        why = "HF_HUB_OFFLINE is set" if is_offline else "the hub cannot be reached"
        return (
            f"is no folder here, {why}, and the hub's cache on this machine has no copy of it; "
            "a folder with config.json and safetensors is accepted."
        )
    # A status that is none of these has only been the reason to look into the cache.
    said = reason(cause if isinstance(cause, HfHubHTTPError) else error)
    return (
        f"is no folder here and the hub does not give it ({said}); a folder with config.json and "
        "safetensors is accepted."
    )


def _sha256(path: Path, files: list[Path]) -> str:
    try:
        return files_sha256(path, files)
    except OSError as error:
        raise InputError(
            f"--checkpoint: {shown(error.filename or str(path))} cannot be read "
            f"({reason(error)}); a readable file is accepted."
        ) from None
