"""What the parent process and its workers say to each other: JSON files and lines of JSON."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

DtypeName = Literal["float32", "bfloat16", "float16"]
AttentionName = Literal["eager", "sdpa"]
DeviceName = Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")]


class Message(BaseModel):
    """What crosses a pipe: frozen, and refusing what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Forward(Message):
    """How one context is run.

    Attributes:
        context: tokens.
        prefill: tokens a forward; fewer than `context` go through the KV cache in turn.
        eager_prefill: queries at a time of the reference's eager attention, where that is not what
            is compared but what the floor is measured with; all in one forward.
    """

    context: int
    prefill: int
    eager_prefill: int


class Job(Message):
    """What both kinds of worker need.

    Attributes:
        checkpoint: folder with `config.json`, and safetensors unless there is a seed.
        weights_seed: of weights that are in no file, else None.
        streams_layers: a layer has its weights on the device while it runs, and no longer.
        n_devices: GPUs that a model is spread over, of which `device` is the first.
        dtype: of weights and activations.
        attention: the implementation that runs: the reference's, and a tree's own of that name.
        device: where the model runs.
        forwards: the contexts, in this order.
        chunk: positions whose logits are compared at a time.
        threads: of torch, on CPU.
        seed: of torch's generators.
        scratch: folder for hidden states and metrics; `tokens.npy` is in it.
        probe_tokens: tokens of the prompt on which the stages are probed before the contexts; None
            for no probes.
    """

    checkpoint: Path
    weights_seed: int | None = None
    streams_layers: bool = False
    n_devices: int = 1
    dtype: DtypeName
    attention: AttentionName
    device: DeviceName
    forwards: tuple[Forward, ...]
    chunk: int
    threads: int
    seed: int
    scratch: Path
    probe_tokens: int | None = None

    @property
    def devices(self) -> tuple[str, ...]:
        """All that the model is on."""
        if self.n_devices == 1:
            return (self.device,)
        return tuple(f"cuda:{number}" for number in range(self.n_devices))


class ReferenceJob(Job):
    """Run `transformers`, and measure its floor.

    Attributes:
        rope_theta: base of the frequencies, for RoPE without scaling.
        has_floors: whether contexts have a floor, or the bits of their logits alone.
    """

    kind: Literal["reference"] = "reference"
    rope_theta: float
    has_floors: bool = True


class SubjectJob(Job):
    """Run a TransformerLens tree against the reference's hidden states.

    Attributes:
        tree: folder that contains `transformer_lens/`.
        loads_itself: the tree must load the checkpoint by itself, without being given the
            configuration.
        is_stock: a pristine release: if it loads the checkpoint but with another configuration, it
            is given the right one.
        n_ctx: context length for a configuration that is given; the checkpoint's own if None.
    """

    kind: Literal["subject"] = "subject"
    tree: Path
    loads_itself: bool
    is_stock: bool
    n_ctx: int | None


class Progress(Message):
    """Layers done of the forward that is running."""

    event: Literal["progress"] = "progress"
    what: str
    done: int
    total: int


class Measured(Message):
    """One context is finished; its metrics are in the scratch folder.

    Attributes:
        parts: seconds by what was done: `load` (once, for all contexts of this worker), `forward`,
            `floor` (the reference's other forwards), `compare`, and `files`.
        peak_memory_bytes: of the process (CPU) or of the allocator on the fullest GPU (CUDA),
            comparison included.
        notes: sentences for the report: how the model was loaded, what was left out.
    """

    event: Literal["measured"] = "measured"
    context: int
    parts: dict[str, float]
    peak_memory_bytes: int
    notes: tuple[str, ...] = ()


class Refused(Message):
    """The tree could not load or run the checkpoint; nothing more comes from this worker."""

    event: Literal["refused"] = "refused"
    reason: str


class Exhausted(Message):
    """The machine ran out of memory or of room on the disk; nothing more comes from this worker."""

    event: Literal["exhausted"] = "exhausted"
    resource: Literal["memory", "disk"]
    reason: str


Event = Annotated[Progress | Measured | Refused | Exhausted, Field(discriminator="event")]
AnyJob = Annotated[ReferenceJob | SubjectJob, Field(discriminator="kind")]


def read_job(file: str) -> ReferenceJob | SubjectJob:
    """The job that a worker's command line names."""
    return TypeAdapter[ReferenceJob | SubjectJob](AnyJob).validate_json(Path(file).read_bytes())


def tokens_path(scratch: Path) -> Path:
    """The prompt's ids, of which each context takes a prefix."""
    return scratch / "tokens.npy"


def reference_hidden_path(scratch: Path, context: int) -> Path:
    """The reference's final hidden states after the last norm, `hidden` [pos d_model]."""
    return scratch / f"reference-{context}.safetensors"


def head_path(scratch: Path) -> Path:
    """The reference's unembedding, `weight` [vocab d_model], in the dtype of the run."""
    return scratch / "head.safetensors"


def reference_metrics_path(scratch: Path, context: int) -> Path:
    """`ReferenceMetrics` of one context."""
    return scratch / f"reference-{context}.npz"


def subject_metrics_path(scratch: Path, context: int) -> Path:
    """`PositionMetrics` of the subject that ran last."""
    return scratch / f"subject-{context}.npz"
