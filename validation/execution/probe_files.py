"""The files in which one side's probes leave what the stages compare, in the scratch folder."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int, Shaped
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

POSITIONS = 131_072
"""Positions at which tables are compared: all that Llama 3.1 has."""

TOKENS = 1024
"""Tokens of the prompt on which layers are compared, at most."""

ROPE = "rope"
"""`inv_freq` [pair], `angles` [pos pair], `cos`, `sin` [pos head_dim]."""

ROTATION = "rotation"
"""`q`, `k` [pos head_dim] as they go in (reference only), `rotated_q`, `rotated_k` in one go and,
of a subject, `chunked_q`, `chunked_k` at offsets."""

PARAMETER_SETS = "parameter-sets"
"""`NAME/cos`, `NAME/sin` [pos head_dim] at other RoPE parameters than the checkpoint's, by name."""

SET_POSITIONS = 4096
"""Positions of each of these tables."""

LAYER_FLOOR = "layer-floor"
"""`mean_square` [layer pos]: how far each layer of the reference moves on the same input when its
attention is summed in another order."""

FINAL = "final"
"""The reference's final hidden states after the last norm: `hidden` [pos d_model]."""

GRAFT = "graft"
"""`rotated_q`, `rotated_k` [pos head_dim] with HF's tables in place, `held` [layer]: whether the
tables were still there after the forward."""

WHOLE = "whole"
CHUNKS = ("first-chunk", "second-chunk")
"""Parts of the prompt: all in one forward, or two forwards through the cache of keys and values."""

PADDED = "padded"
"""Two rows of a batch, padded on the left."""

FLOOR = "floor"
"""`ReferenceMetrics` of the prompt."""

PLAIN = "plain"
GRAFTED = "grafted"
"""`PositionMetrics` of the subject as it is, and with HF's tables."""


@dataclass(frozen=True)
class ProbeFiles:
    """What one side wrote.

    Attributes:
        folder: the side's own.
    """

    folder: Path

    @classmethod
    def of_reference(cls, scratch: Path) -> "ProbeFiles":
        """What the reference wrote, once for all subjects."""
        return cls(scratch / "probe-reference")

    @classmethod
    def of_subject(cls, scratch: Path) -> "ProbeFiles":
        """What the subject that ran last wrote."""
        return cls(scratch / "probe-subject")

    def write(self, name: str, tensors: dict[str, Tensor], **notes: str) -> None:
        """Writes one file, replacing an earlier subject's."""
        self.folder.mkdir(exist_ok=True)
        on_cpu: dict[str, Tensor] = {}
        for key, tensor in tensors.items():
            tensor = tensor.detach().cpu().contiguous()
            # safetensors refuses tensors that share memory, as a tree's two tables may.
            shared = any(tensor.data_ptr() == other.data_ptr() for other in on_cpu.values())
            on_cpu[key] = tensor.clone() if shared else tensor
        save_file(on_cpu, self._path(name), metadata={"format": "pt", **notes})

    def shapes(self, name: str) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors in one file, by name; none if the file was not written."""
        if not self._path(name).exists():
            return {}
        with safe_open(self._path(name), framework="pt") as file:
            names = file.keys()
            return {key: tuple(file.get_slice(key).get_shape()) for key in names}

    def note(self, name: str, key: str) -> str | None:
        """What was noted in one file."""
        if not self._path(name).exists():
            return None
        with safe_open(self._path(name), framework="pt") as file:
            return (file.metadata() or {}).get(key)

    def rows(self, name: str, key: str, span: range | None = None) -> Shaped[Tensor, "rows ..."]:
        """Rows of a tensor, all by default, as far as it has them.

        Raises:
            KeyError: no such tensor was written.
        """
        if key not in self.shapes(name):
            raise KeyError(f"{self._path(name)} has no {key}")
        with safe_open(self._path(name), framework="pt") as file:
            rows: Tensor = (
                file.get_tensor(key)
                if span is None
                else file.get_slice(key)[span.start : span.stop]
            )
        return rows

    def rows_if_any(self, name: str, key: str, span: range) -> Shaped[Tensor, "rows columns"]:
        """As `rows`; without any if no such tensor was written."""
        return self.rows(name, key, span) if key in self.shapes(name) else torch.empty(0, 0)

    def clear(self) -> None:
        """Removes an earlier subject's files."""
        for path in self.folder.glob("*"):
            path.unlink()

    def metrics_path(self, who: str) -> Path:
        """The .npz file with metrics of the logits."""
        self.folder.mkdir(exist_ok=True)
        return self.folder / f"{who}.npz"

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


def hidden_name(part: str, layer: int) -> str:
    """The file with `hidden` [pos d_model] around decoder layer `layer`, on a part of the prompt.

    The reference's is what enters the layer, or leaves the last; a subject's is what leaves its
    layer when given what enters the reference's.
    """
    return f"hidden-{part}-{layer:03d}"


def initial_name(layer: int) -> str:
    """The file with a layer's first tables, `cos` and `sin`, where they are not those of `ROPE`."""
    return f"initial-{layer:03d}"


def trouble_name(layer: int) -> str:
    """The file that notes what a subject raised in a layer, if it did."""
    return f"trouble-{layer:03d}"


def chunk_edges(positions: int) -> list[int]:
    """Where to cut a long rotation: growing chunks with odd ends, the second across 2048."""
    edges = [edge for edge in (0, 1000, 2500, 5001, 16_385, 65_537) if edge < positions]
    return [*edges, positions]


def prompt_parts(tokens: int) -> dict[str, range]:
    """The parts of a prompt by name; not cut in the middle, which could hide a swap."""
    cut = tokens * 5 // 8
    chunks = (range(0, cut), range(cut, tokens))
    parts = dict(zip(CHUNKS, chunks, strict=True)) if cut else {}
    return {WHOLE: range(tokens), **parts}


@dataclass(frozen=True)
class PaddedBatch:
    """The beginning of a prompt twice, padded on the left by different numbers of tokens.

    Attributes:
        tokens: token ids; what a pad is does not matter.
        mask: 1 for tokens, 0 for pads.
        pads: of each row.
    """

    tokens: Int[Tensor, "row pos"]
    mask: Int[Tensor, "row pos"]
    pads: tuple[int, int]

    @classmethod
    def of(cls, tokens: Int[Tensor, "1 pos"]) -> "PaddedBatch":
        """Rows of at most 256 tokens, pads among them."""
        length = min(tokens.shape[1], 256)
        pads = padding(length)
        rows = [torch.cat([tokens[0, :1].expand(n), tokens[0, : length - n]]) for n in pads]
        slots = torch.arange(length, device=tokens.device)
        mask = torch.stack([(slots >= n).long() for n in pads])
        return cls(torch.stack(rows), mask, pads)

    @property
    def position_ids(self) -> Int[Tensor, "row pos"]:
        """The first token of each row is at 0, as are its pads."""
        return (self.mask.cumsum(1) - 1).clamp(min=0)


def padding(length: int) -> tuple[int, int]:
    """How many pads the rows of a `PaddedBatch` have, unlike from 3 tokens on."""
    return length // 64, length // 3


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers in the same type, -0.0 apart from 0.0.

    They may be on two devices, between which torch.equal does not compare.
    """
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.device != other.device:
        one, other = one.cpu(), other.cpu()
    kinds = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    kind = kinds[one.element_size()]
    return torch.equal(one.contiguous().view(kind), other.contiguous().view(kind))
