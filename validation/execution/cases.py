"""What is asked for, and the keys by which a case is known to be the same case again."""

import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from transformer_lens_fork.bases import REPOSITORY, Base
from transformer_lens_fork.errors import InputError
from validation.execution.arithmetic import describe_arithmetic, installed_packages
from validation.execution.jobs import AttentionName, DtypeName, ReferenceJob, SubjectJob
from validation.models.checkpoints import Checkpoint
from validation.models.hashing import files_sha256, json_sha256
from validation.models.prompts import Prompt
from validation.models.trees import STOCK, Tree

_CHUNK_LOGITS = 2**25
"""Logits held at a time, of each model: 128 MiB in fp32."""

_MAX_CHUNK = 1024

_WITHOUT_MASK_BUFFERS = Version("3.5.0")


@dataclass(frozen=True)
class Request:
    """Everything that decides which cases run and how.

    Attributes:
        checkpoint: weights and configuration.
        trees: the subjects, in the order in which they are shown.
        contexts: tokens of context, ascending.
        dtypes: of weights and activations.
        attention: of the reference, and of every tree that has it.
        device: `cpu`, `cuda` or `cuda:N`.
        base: the release that `fork` and `stock` stand for.
        prompt: at least as many tokens as the largest context.
        seed: of torch's generators and of random prompts.
        threads: of torch, on CPU.
        memory_bytes: what one process may take.
        streams_layers: a layer has its weights on the device while it runs, and no longer.
        n_devices: GPUs that each model is spread over, of which `device` is the first.
        has_lazy_floor: the floor is measured only where a subject differs from the reference.
        halvings: times that what goes through at a time is halved, as it did not fit after all.
    """

    checkpoint: Checkpoint
    trees: tuple[Tree, ...]
    contexts: tuple[int, ...]
    dtypes: tuple[DtypeName, ...]
    attention: AttentionName
    device: str
    base: Base
    prompt: Prompt
    seed: int
    threads: int
    memory_bytes: int
    streams_layers: bool = False
    n_devices: int = 1
    has_lazy_floor: bool = False
    halvings: int = 0

    @property
    def chunk(self) -> int:
        """Positions whose logits are compared at a time."""
        chunk = min(_MAX_CHUNK, _CHUNK_LOGITS // self.checkpoint.shape.vocab)
        return max(1, chunk >> self.halvings)

    def n_ctx(self, tree: Tree) -> int | None:
        """Context length for a tree that is given its configuration, if not the checkpoint's."""
        # They hold n_ctx x n_ctx bools a layer: 17 GB each for Llama 3.1's 131,072 positions.
        if tree.name == STOCK and Version(self.base.version) < _WITHOUT_MASK_BUFFERS:
            return self.contexts[-1]
        return None

    def reference_job(self, dtype: DtypeName, scratch: Path, **own: object) -> ReferenceJob:
        """What a worker with the reference is told; `own` says what else, or otherwise."""
        fields = {"attention": self.attention, "rope_theta": self.checkpoint.rope.theta}
        return ReferenceJob.model_validate(self._job_fields(dtype, scratch) | fields | own)

    def subject_job(self, tree: Tree, dtype: DtypeName, scratch: Path, **own: object) -> SubjectJob:
        """What a worker with `tree` is told; `own` says what else, or otherwise."""
        fields = {
            "attention": tree.attention(self.attention),
            "tree": tree.path,
            "loads_itself": tree.loads_itself,
            "is_stock": tree.name == STOCK,
            "n_ctx": self.n_ctx(tree),
        }
        return SubjectJob.model_validate(self._job_fields(dtype, scratch) | fields | own)

    def _job_fields(self, dtype: DtypeName, scratch: Path) -> dict[str, object]:
        return {
            "checkpoint": self.checkpoint.path,
            "weights_seed": self.checkpoint.weights_seed,
            "streams_layers": self.streams_layers,
            "n_devices": self.n_devices,
            "dtype": dtype,
            "device": self.device,
            "forwards": (),
            "chunk": self.chunk,
            "threads": self.threads,
            "seed": self.seed,
            "scratch": scratch,
        }


@dataclass(frozen=True)
class Case:
    """One subject at one dtype and context.

    Attributes:
        tree: the subject.
        dtype: of weights and activations.
        context: tokens.
        prefill: tokens a forward.
        eager_prefill: the same of the reference's eager attention, of which the floor is measured.
    """

    tree: Tree
    dtype: DtypeName
    context: int
    prefill: int
    eager_prefill: int


@dataclass(frozen=True)
class Surroundings:
    """What is the same for all cases of a run and can change their results.

    Attributes:
        harness_sha256: over the harness' code that loads, runs, compares and judges.
        packages: versions by name.
        settings: hardware and torch settings.
        git_commit: this repository's commit, "unknown" without git; no part of a case's key.
        git_dirty: whether files differ from it; no part of a case's key.
    """

    harness_sha256: str
    packages: dict[str, str]
    settings: dict[str, str]
    git_commit: str
    git_dirty: bool

    @classmethod
    def of(cls, device: str) -> "Surroundings":
        """Of this process, after its arithmetic was fixed; workers have the same."""
        package = REPOSITORY / "validation"
        parts = ("models", "execution", "judgement")
        code = [path for part in parts for path in (package / part).glob("*.py")]
        commit, is_dirty = _git_state()
        return cls(
            harness_sha256=files_sha256(package, code),
            packages=installed_packages(),
            settings=describe_arithmetic(device),
            git_commit=commit,
            git_dirty=is_dirty,
        )

    def recorded(self) -> dict[str, Any]:
        """The fields by which every kind of provenance says it, and the time."""
        return asdict(self) | {"measured_at": datetime.now(UTC).isoformat(timespec="seconds")}


def case_key(request: Request, case: Case, surroundings: Surroundings) -> str:
    """A sha256 over everything that could change the result of `case`."""
    ingredients = {
        "subject": case.tree.name,
        "tree": case.tree.sha256,
        "loads_itself": case.tree.loads_itself,
        "base": request.base.name,
        "checkpoint": request.checkpoint.sha256,
        "prompt": request.prompt.sha256(case.context),
        "dtype": case.dtype,
        "device": request.device,
        "context": case.context,
        "prefill": case.prefill,
        "eager_prefill": case.eager_prefill,
        "n_layers": request.checkpoint.shape.layers,
        "n_ctx": request.n_ctx(case.tree),
        "streams_layers": request.streams_layers,
        "n_devices": request.n_devices,
        "has_lazy_floor": request.has_lazy_floor,
        "attention": [request.attention, case.tree.attention(request.attention)],
        "chunk": request.chunk,
        "seed": request.seed,
        "harness": surroundings.harness_sha256,
        "packages": surroundings.packages,
        "settings": surroundings.settings,
    }
    return json_sha256(ingredients)


def refuse_wrong_transformers(base: Base) -> None:
    """Raises InputError unless the installed `transformers` is one that `base` runs with."""
    installed = installed_packages()["transformers"]
    if not SpecifierSet(base.transformers).contains(installed, prereleases=True):
        raise InputError(
            f"--base: {base.name} runs with transformers {base.transformers}, {installed} is "
            "installed; each base has its own tox environment (`tox list`)."
        )


def refuse_missing_positions(checkpoint: Checkpoint, contexts: tuple[int, ...]) -> None:
    """Raises InputError if a context is longer than the checkpoint's number of positions."""
    if contexts[-1] > checkpoint.positions:
        raise InputError(
            f"--contexts: {contexts[-1]} tokens are more than the {checkpoint.positions} positions "
            f"(max_position_embeddings) of {checkpoint.name!r}."
        )


def has_device(device: str) -> bool:
    """Whether anything runs here that is of the device's kind."""
    import torch

    return not device.startswith("cuda") or torch.cuda.is_available()


def refuse_missing_device(device: str, n_devices: int = 1, *, may_be_absent: bool = False) -> None:
    """Raises InputError if CUDA, or so many GPUs, are asked for and absent.

    Args:
        device: such as `cuda`.
        n_devices: GPUs, of which `device` is the first.
        may_be_absent: accept a machine without CUDA.
    """
    import torch

    if not device.startswith("cuda"):
        if n_devices > 1:
            raise InputError(f"--gpus: {n_devices} with --device {device!r}; 'cuda' is accepted.")
        return
    count = torch.cuda.device_count() if has_device(device) else 0
    if count == 0 and not may_be_absent:
        raise InputError(
            f"--device: {device!r} is asked for and torch {torch.__version__} finds no CUDA "
            "device; 'cpu' is accepted here, and 'cuda' by `plan` with --memory."
        )
    if 0 < count <= int(device.partition(":")[2] or 0):
        raise InputError(f"--device: {device!r} is asked for and there are {count} CUDA devices.")
    if n_devices > 1 and (device != "cuda" or 0 < count < n_devices):
        raise InputError(
            f"--gpus: {n_devices} with --device {device!r} are asked for and there are {count}; "
            "as many with 'cuda' are accepted (CUDA_VISIBLE_DEVICES chooses which)."
        )


def _git_state() -> tuple[str, bool]:
    """This repository's commit, and whether files differ from it; ("unknown", True) without git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(REPOSITORY), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain"))
    except (subprocess.CalledProcessError, FileNotFoundError):
        return "unknown", True
