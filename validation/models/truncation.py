"""The first layers of a checkpoint, as a checkpoint: long contexts on a small machine."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from transformer_lens_fork.atomic import building_folder
from transformer_lens_fork.errors import InputError
from transformer_lens_fork.sdist import cache_path
from validation.models.checkpoints import Checkpoint
from validation.models.weights import INDEX, SINGLE, weight_files

_LAYER = re.compile(r"model\.layers\.(\d+)\.")
_TOKENIZER = ("tokenizer*", "special_tokens_map.json")


def truncate(checkpoint: Checkpoint, layers: int, report: Callable[[str], None]) -> Checkpoint:
    """The checkpoint with its first `layers` decoder layers, built once in the user's cache.

    Its tensors have the same bits; reference and subject both load it as any other checkpoint.

    Raises:
        InputError: the checkpoint does not have so many layers.
    """
    if not 1 <= layers <= checkpoint.shape.layers:
        raise InputError(
            f"--layers: {layers} is not accepted; {checkpoint.name!r} has "
            f"{checkpoint.shape.layers}, 1 to {checkpoint.shape.layers} are."
        )
    if layers == checkpoint.shape.layers:
        return checkpoint
    folder = cache_path() / "checkpoints" / f"{checkpoint.sha256[:16]}-layers-{layers}"
    if not folder.is_dir():
        report(f"taking the first {layers} layers of {checkpoint.name}")
        with building_folder(folder.parent) as scratch:
            built = scratch / "checkpoint"
            files = weight_files(checkpoint.path) if checkpoint.weights_seed is None else []
            _build(checkpoint.path, files, layers, built)
            if not folder.is_dir():  # another process may have been faster
                built.rename(folder)
    return replace(
        checkpoint,
        name=f"{checkpoint.name}[{layers} of {checkpoint.shape.layers} layers]",
        path=folder,
        shape=replace(checkpoint.shape, layers=layers),
    )


def _build(source: Path, files: list[Path], layers: int, folder: Path) -> None:
    folder.mkdir()
    config = json.loads((source / "config.json").read_text(encoding="utf-8-sig"))
    config["num_hidden_layers"] = layers
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for pattern in _TOKENIZER:
        for path in source.glob(pattern):
            shutil.copyfile(path, folder / path.name)
    shards: dict[str, str] = {}
    for number, file in enumerate(files):
        kept = _read_layers(file, layers)
        if kept:
            # A file of its own for each: never more than one in memory.
            name = f"model-{number:05}.safetensors"
            save_file(kept, folder / name, metadata={"format": "pt"})
            shards |= dict.fromkeys(kept, name)
    if not shards:  # they are made of a seed
        return
    if len(set(shards.values())) == 1:
        (folder / next(iter(shards.values()))).rename(folder / SINGLE)
    else:
        index = {"metadata": {}, "weight_map": shards}
        (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def _read_layers(file: Path, layers: int) -> dict[str, Tensor]:
    with safe_open(file, framework="pt") as tensors:
        names = [name for name in tensors.keys() if _is_kept(name, layers)]  # noqa: SIM118
        return {name: tensors.get_tensor(name) for name in names}


def _is_kept(name: str, layers: int) -> bool:
    layer = _LAYER.match(name)
    return layer is None or int(layer[1]) < layers
