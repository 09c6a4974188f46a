"""The matrix of sizes as data; `python -m validation.gpu_parity.matrix` prints it for CI."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from transformer_lens_fork.errors import InputError
from validation.execution.asked import Asked, parse_contexts, split_words
from validation.execution.jobs import DtypeName
from validation.models.refusals import reason, shown

MATRIX = Path(__file__).with_name("matrix.toml")


class Size(BaseModel):
    """One checkpoint, and what it is run with.

    Attributes:
        name: what `--sizes` calls it.
        checkpoint: as `--checkpoint` takes it.
        dtypes: in this order.
        contexts: as `--contexts` takes them.
        streams_layers: a layer has its weights on the device while it runs, and no longer. Then the
            fork is run alone, unless subjects are named, with a floor where a logit differs: every
            further forward fetches all weights again, and stock's eager attention one a chunk.
        gpus: how many its models are spread over.
        runner: label of the machine that runs its job.
        timeout_minutes: of that job.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    checkpoint: str
    dtypes: Annotated[tuple[DtypeName, ...], Field(min_length=1)]
    contexts: str
    streams_layers: bool = False
    gpus: Annotated[int, Field(ge=1)] = 1
    runner: str
    timeout_minutes: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        try:
            parse_contexts(self.contexts)
        except InputError as error:
            raise ValueError(str(error).replace("--contexts", "contexts").rstrip(".")) from None
        if self.gpus > 1 and self.streams_layers:
            raise ValueError(
                f"gpus is {self.gpus} and streams_layers true; one of them is accepted"
            )
        return self

    def asked(self, device: str, subjects: str | None, memory_bytes: int | None) -> Asked:
        """The arguments of a run of this size: fused attention, all tokens at once.

        Args:
            device: `cuda` or `cpu`.
            subjects: as `--subjects` takes them; the size's own if None.
            memory_bytes: what one process may take; None for most of the device's.
        """
        if subjects is None:
            subjects = "fork" if self.streams_layers else "fork,stock"
        return Asked(
            checkpoint=self.checkpoint,
            contexts=parse_contexts(self.contexts),
            subjects=split_words("--subjects", subjects),
            dtypes=self.dtypes,
            attention="sdpa",
            device=device,
            base="v3.9.0",
            layers=None,
            streams_layers=self.streams_layers,
            n_devices=self.gpus,
            memory_bytes=memory_bytes,
            seed=0,
            threads=None,
            has_lazy_floor=self.streams_layers,
        )


class _Matrix(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    size: Annotated[tuple[Size, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _refuse_repetitions(self) -> Self:
        names = [size.name for size in self.size]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"several sizes are called {', '.join(repeated)}")
        return self


def read_matrix(path: Path = MATRIX) -> dict[str, Size]:
    """The sizes by name.

    Raises:
        InputError: the file cannot be read, or does not say what it should.
    """
    try:
        sizes = _Matrix.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).size
    except (OSError, ValueError) as error:
        says = _first(error) if isinstance(error, ValidationError) else reason(error)
        raise InputError(
            f"--matrix: {shown(str(path))} is not accepted ({says}); a file such as "
            f"validation/gpu_parity/{MATRIX.name} is."
        ) from None
    return {size.name: size for size in sizes}


def choose(matrix: dict[str, Size], names: str) -> list[Size]:
    """The sizes that `--sizes` names, in the order of the matrix.

    Raises:
        InputError: there is none of that name.
    """
    words = split_words("--sizes", names)
    for word in words:
        if word not in matrix:
            raise InputError(f"--sizes: {word!r} is not accepted; {', '.join(matrix)} are.")
    return [size for name, size in matrix.items() if name in words]


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    where = ".".join(map(str, problem["loc"]))
    says = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {says}" if where else says


if __name__ == "__main__":
    fields = {"name", "runner", "gpus", "timeout_minutes"}
    print(json.dumps({"include": [s.model_dump(include=fields) for s in read_matrix().values()]}))
