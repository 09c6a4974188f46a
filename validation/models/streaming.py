"""Runs a model layer by layer: one layer's weights on the device, the next one's being fetched.

The model is whole but for its layers' weights, which have no storage (torch's device `meta`). They
are put in place when a layer's forward begins and dropped when it ends. Modules, hooks, caches and
masks are the model's own, and so is every bit.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from validation.models.random_weights import random_tensor
from validation.models.weights import weight_files

Weights = dict[str, Tensor]
"""Tensors by the names of a layer's `state_dict`."""

Source = Callable[[str, tuple[int, ...]], Tensor]
"""Gives the tensor of a name, such as `model.layers.3.mlp.up_proj.weight`, and a shape."""

Change = Callable[[str, Tensor], Tensor]
"""Makes another tensor of one, by its name in the checkpoint."""

LAYERS = "model.layers."
"""What the names of all layers' tensors begin with in a checkpoint."""

_Fetched = tuple[Weights, torch.cuda.Event | None]
"""A layer's weights, and what happens on their stream once they are there."""

_STREAM = "_parity_layer_stream"


class LayerStream:
    """Lends a layer its weights while it runs.

    Attributes:
        change: what is done to a tensor before it is lent, None for nothing. Set it between
            forwards.
        kept: a layer that keeps its weights when its forward ends, None for none.
    """

    def __init__(
        self, layers: nn.ModuleList, fetch: Callable[[int, Change | None], Weights], device: str
    ) -> None:
        """Hooks itself to every layer.

        Args:
            layers: modules whose parameters are on `meta`; forwards take them in turn.
            fetch: gives the weights of a layer, by its index, on the device; its second argument
                is `change`.
            device: which. On CUDA weights come on a stream of their own, beside the layer before.
        """
        self._side: torch.cuda.Stream | None = None
        self._done: torch.cuda.Event | None = None
        if device.startswith("cuda"):
            self._side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.change: Change | None = None
        self.kept: int | None = None
        self._layers = layers
        self._fetch = fetch
        self._empty = [dict(layer.named_parameters()) for layer in layers]
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="next-layer")
        self._coming: tuple[int, object, Future[_Fetched]] | None = None
        for index, layer in enumerate(layers):
            layer.register_forward_pre_hook(lambda *_, index=index: self._lend(index))
            layer.register_forward_hook(lambda *_, index=index: self._end(index), always_call=True)

    def _lend(self, index: int) -> None:
        if index == self.kept and not any(p.is_meta for p in self._layers[index].parameters()):
            return
        fetched = None
        if self._coming is not None:
            *which, future = self._coming
            self._coming = None
            if which == [index, self.change]:
                fetched = future.result()
            else:  # waited for, as two at once would be more than was planned
                future.exception()
        weights, ready = fetched or self._fetch_aside(index, self.change, self._done)
        if self._side is not None and ready is not None:
            # The layer's kernels wait for the copies, and their memory for the layer's kernels.
            user = torch.cuda.current_stream(self._side.device)
            user.wait_event(ready)
            for weight in weights.values():
                weight.record_stream(user)
        layer = self._layers[index]
        layer.load_state_dict(weights, assign=True, strict=False)
        if missing := [name for name, each in layer.named_parameters() if each.is_meta]:
            raise RuntimeError(f"layer {index} was lent no {', '.join(missing)}")
        if index + 1 < len(self._layers):
            future = self._thread.submit(self._fetch_aside, index + 1, self.change, self._done)
            self._coming = (index + 1, self.change, future)

    def _fetch_aside(
        self, index: int, change: Change | None, done: torch.cuda.Event | None
    ) -> "_Fetched":
        if self._side is None:
            return self._fetch(index, change), None
        if done is not None:
            # Else the host would run ahead, and more layers have memory than were planned.
            done.synchronize()
        with torch.cuda.stream(self._side):
            return self._fetch(index, change), self._side.record_event()

    def _end(self, index: int) -> None:
        if index != self.kept:
            self.take_back(index)

    def take_back(self, index: int) -> None:
        """Drops a layer's weights."""
        if self._side is not None:
            self._done = torch.cuda.current_stream(self._side.device).record_event()
        self._layers[index].load_state_dict(self._empty[index], assign=True, strict=False)


def stream(
    model: Any,
    layers: nn.ModuleList,
    fetch: Callable[[int, Change | None], Weights],
    device: str,
) -> None:
    """Lends `layers` of `model` their weights from now on; see `LayerStream`."""
    # Not as an attribute that torch looks into.
    object.__setattr__(model, _STREAM, LayerStream(layers, fetch, device))


@contextmanager
def changed_weights(model: Any, change: Change) -> Iterator[None]:
    """Changes the weights that are lent to a streamed model; of another it changes nothing."""
    streaming: LayerStream | None = getattr(model, _STREAM, None)
    if streaming is None:
        yield
        return
    streaming.change = change
    try:
        yield
    finally:
        streaming.change = None


@contextmanager
def kept_layer(model: Any, index: int) -> Iterator[None]:
    """Has several forwards of a streamed model's layer fetch its weights once.

    Args:
        model: if it is not streamed, nothing changes.
        index: of the layer, whose weights are dropped at last.
    """
    streaming: LayerStream | None = getattr(model, _STREAM, None)
    if streaming is None:
        yield
        return
    streaming.kept = index
    try:
        yield
    finally:
        streaming.kept = None
        streaming.take_back(index)


def open_source(
    checkpoint: Path, weights_seed: int | None, dtype: torch.dtype, device: str
) -> Source:
    """The tensors of a checkpoint, one at a time.

    Args:
        checkpoint: folder with safetensors, unless there is a seed.
        weights_seed: of weights that are in no file.
        dtype: to which they are rounded.
        device: where they are put.
    """
    if weights_seed is not None:
        return lambda name, shape: random_tensor(name, shape, weights_seed, dtype, device)
    files: dict[str, Path] = {}
    for file in weight_files(checkpoint):
        with safe_open(file, framework="pt") as tensors:
            files |= dict.fromkeys(tensors.keys(), file)

    def read(name: str, _shape: tuple[int, ...]) -> Tensor:
        with safe_open(files[name], framework="pt") as tensors:
            tensor: Tensor = tensors.get_tensor(name)
        if device.startswith("cuda"):
            # From pinned memory the host does not wait for the copy, which waits for its turn on
            # the device.
            return tensor.to(dtype).pin_memory().to(device, non_blocking=True)
        # A copy in any case: the file's own memory would be read when the layer computes.
        return tensor.to(device, dtype, copy=True)

    return read


def fill(module: nn.Module, prefix: str, source: Source, skip: str | None = None) -> None:
    """Gives every parameter of `module` its storage, from `source`.

    Args:
        module: its parameters are on `meta`; a tied one is filled once and stays tied.
        prefix: before their names in the checkpoint, such as `model.layers.3.`.
        source: of their values.
        skip: what the names begin with of those that stay on `meta`.
    """
    from accelerate.utils import set_module_tensor_to_device

    for name, parameter in list(module.named_parameters()):
        if skip is not None and name.startswith(skip):
            continue
        value = source(prefix + name, tuple(parameter.shape))
        device = str(value.device)
        # clear_cache: accelerate would empty CUDA's cache after every tensor, and wait for it.
        set_module_tensor_to_device(
            module, name, device, value=value, dtype=value.dtype, clear_cache=False
        )
