"""The source trees that are put to the test: the fork, the pristine release, or any folder."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from transformer_lens_fork.bases import Base
from transformer_lens_fork.errors import InputError
from transformer_lens_fork.sdist import pristine_tree
from transformer_lens_fork.series import ensure_checkout, series_sha256
from validation.execution.jobs import AttentionName
from validation.models.refusals import reason, shown
from validation.models.sources import PACKAGE, source_sha256

FORK = "fork"
STOCK = "stock"

ATTENTION_FIELD = "attn_implementation"
"""The field of `HookedTransformerConfig` that chooses the attention, where a tree has one."""

_CONFIGURATIONS = (
    "config/hooked_transformer_config.py",
    "config/transformer_lens_config.py",  # what it inherits from
    "HookedTransformerConfig.py",
)


@dataclass(frozen=True)
class Tree:
    """One subject's source.

    Attributes:
        name: `fork`, `stock`, or the folder as the user gave it.
        path: folder that contains `transformer_lens/`.
        sha256: over what can be imported from it (`sources.source_sha256`).
        series_sha256: of the patches a fork is made of, else None.
        loads_itself: it must load a local checkpoint without being given its configuration.
        warning: what people should know about this tree.
    """

    name: str
    path: Path
    sha256: str
    series_sha256: str | None
    loads_itself: bool
    warning: str | None = None

    @property
    def is_judged(self) -> bool:
        """Whether its verdict changes the exit status; the stock release is for comparison."""
        return self.name != STOCK

    def attention(self, wanted: AttentionName) -> AttentionName:
        """The attention it is run with: `wanted`, or eager if its models have no other."""
        return wanted if self.has_choice_of_attention else "eager"

    @cached_property
    def has_choice_of_attention(self) -> bool:
        """Whether its models have fused attention, too."""
        files = (self.path / PACKAGE / name for name in _CONFIGURATIONS)
        return any(ATTENTION_FIELD in file.read_text() for file in files if file.is_file())


def resolve_tree(spec: str, base: Base, report: Callable[[str], None]) -> Tree:
    """The tree that `spec` names: `fork`, `stock` or a folder.

    Raises:
        InputError: the folder has no `transformer_lens` package, or a file of it cannot be read.
    """
    series, warning = None, None
    if spec == FORK:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            path = ensure_checkout(base, report=report)
        series = series_sha256(base)
        warning = "; ".join(str(item.message) for item in caught) or None
    elif spec == STOCK:
        report(f"unpacking TransformerLens {base.version}")
        path = pristine_tree(base)
    else:
        path = _folder(spec, "--subjects")
    _refuse_no_package(spec, path, "--subjects")
    try:
        sha256 = source_sha256(path)
    except OSError as error:
        raise InputError(
            f"--subjects: {shown(error.filename or spec)} cannot be read ({reason(error)}); a "
            "readable file is accepted."
        ) from None
    return Tree(
        name=spec,
        path=path,
        sha256=sha256,
        series_sha256=series,
        loads_itself=spec == FORK and base.loads_checkpoints,
        warning=warning,
    )


def refuse_bad_folders(specs: Iterable[str], option: str = "--subjects") -> None:
    """Raises InputError if one of the folders among `specs` is no tree; makes and fetches none."""
    for spec in specs:
        if spec not in (FORK, STOCK):
            _refuse_no_package(spec, _folder(spec, option), option)


def _folder(spec: str, option: str) -> Path:
    try:
        return Path(spec).expanduser().absolute()
    except RuntimeError as error:  # ~ of nobody
        raise InputError(
            f"{option}: {shown(spec)} is no folder ({reason(error)}); 'fork', 'stock' or a "
            "folder that contains transformer_lens/ is accepted."
        ) from None


def _refuse_no_package(spec: str, tree: Path, option: str) -> None:
    try:
        is_package = (tree / PACKAGE / "__init__.py").is_file()
    except (OSError, ValueError):  # a name too long, or with NUL
        is_package = False
    if not is_package:
        raise InputError(
            f"{option}: {shown(spec)} has no transformer_lens package; 'fork', 'stock' or a "
            "folder that contains transformer_lens/ is accepted."
        )
