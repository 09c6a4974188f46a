"""A cache, a tiny release, and a project folder for each test."""

import os
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from transformer_lens_fork import bases
from transformer_lens_fork.bases import Base, load_bases
from transformer_lens_fork.sdist import CACHE_VARIABLE, fetch
from transformer_lens_fork.series import checkout, export
from transformer_lens_fork.tests import synthetic

_FOLDER = pytest.StashKey[Path]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Points this folder's tests, and no others of the session, at the cache of their own.

    A session fixture alone would leave it set for whatever runs next in the same process.
    """
    with pytest.MonkeyPatch.context() as patch:
        if _FOLDER in item.session.stash:
            patch.setenv(CACHE_VARIABLE, str(item.session.stash[_FOLDER]))
        else:
            # So that the context puts back what the fixture below sets.
            patch.setenv(CACHE_VARIABLE, os.environ.get(CACHE_VARIABLE, ""))
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A cache of this session's own, with the real sdists out of the user's cache."""
    real = [(base, fetch(base)) for base in load_bases().values()]
    folder = tmp_path_factory.mktemp("cache")
    request.session.stash[_FOLDER] = folder
    os.environ[CACHE_VARIABLE] = str(folder)
    for base, tarball in real:
        synthetic.cache_sdist(tarball, base.sdist_sha256)
    return folder


@pytest.fixture(scope="session")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist of the tiny release."""
    path = tmp_path_factory.mktemp("index") / "transformer_lens-9.9.9.tar.gz"
    return synthetic.make_tarball(path, synthetic.FILES)


@pytest.fixture(scope="session")
def base(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """The tiny release, pinned, its sdist in the cache."""
    release = Base(
        name="v9.9.9",
        version="9.9.9",
        sdist_sha256="0" * 64,
        base_commit="0" * 40,
        commit_date=datetime(2024, 1, 1, tzinfo=UTC),
        transformers=">=4",
        why="it is small",
        loads_checkpoints=False,
        allowed=("transformer_lens/*.py", "tests/**"),
    )
    return synthetic.pin(release, tarball, tmp_path_factory.mktemp("pin"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty project folder, with a space in its path."""
    folder = tmp_path / "a project"
    folder.mkdir()
    return folder


@pytest.fixture
def fork(base: Base, project: Path) -> Path:
    """The tiny release checked out in `project`, without patches."""
    return checkout(base, project)


@pytest.fixture
def patches(base: Base, project: Path, fork: Path) -> Path:
    """The folder of a series of two patches, which `fork` holds as commits."""
    synthetic.commit(fork, {synthetic.ROPE: synthetic.rope((20, "LINE_20 = 'first'"))})
    second = synthetic.message("rope: the second ✓ with a long subject that the header has to fold")
    synthetic.commit(
        fork, {synthetic.ROPE: synthetic.rope((20, "LINE_20 = 'first'"), (22, "A = 1"))}, second
    )
    export(base, project)
    return project / "patches" / base.name


@pytest.fixture
def edit(patches: Path) -> Callable[[str, str], int]:
    """Replaces text in the first patch; returns the line on which it stood."""

    def replace(old: str, new: str) -> int:
        patch = min(patches.glob("*.patch"))
        text = patch.read_text(encoding="utf-8")
        assert text.count(old) == 1
        patch.write_text(text.replace(old, new), encoding="utf-8")
        return text[: text.index(old)].count("\n") + 1

    return replace


@pytest.fixture
def only_base(base: Base, project: Path, monkeypatch: pytest.MonkeyPatch) -> Base:
    """The command line works in `project` and knows the tiny release alone."""
    pins = project / "bases.toml"
    pins.write_text(
        f"""
        ["v9.9.9"]
        version = "9.9.9"
        sdist_sha256 = "{base.sdist_sha256}"
        base_commit = "{base.base_commit}"
        commit_date = 2024-01-01T00:00:00Z
        transformers = ">=4"
        why = "it is small"
        loads_checkpoints = false
        allowed = ["transformer_lens/*.py", "tests/**"]
        """,
        encoding="utf-8",
    )
    monkeypatch.setattr(bases, "PINS", pins)
    monkeypatch.setattr(bases, "REPOSITORY", project)
    return base
