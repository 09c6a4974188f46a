"""The fork, imported into this process, and one checkpoint for both models."""

import logging
import sys
import warnings
from pathlib import Path

import pytest
import torch

from validation.models.subject import import_from
from validation.tests.properties.pair import Pair, save_pair


@pytest.fixture(scope="session")
def tree(fork: Path) -> Path:
    """The fork's source; `transformer_lens` in this process is it."""
    if "transformer_lens" not in sys.modules:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # upstream's, on import
            import_from(fork)
    logging.getLogger().setLevel(logging.ERROR)
    origin = sys.modules["transformer_lens"].__file__
    assert origin is not None
    assert Path(origin).is_relative_to(fork), "another tree was imported in this process"
    return fork


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint that both models load."""
    return save_pair(tmp_path_factory.mktemp("pair") / "checkpoint")


@pytest.fixture(params=[torch.float32, torch.bfloat16, torch.float16], ids=str)
def pair(request: pytest.FixtureRequest, tree: Path, saved: Path) -> Pair:
    """Both models, with tables as they are after loading."""
    return Pair.load(saved, request.param)
