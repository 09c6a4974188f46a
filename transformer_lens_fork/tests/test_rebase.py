"""A series goes to another release: as it is, by a merge, or to where it conflicts."""

import hashlib
import tomllib
from pathlib import Path

import pytest

from transformer_lens_fork.bases import REPOSITORY, Base, get_base
from transformer_lens_fork.errors import InputError, VerificationError
from transformer_lens_fork.git import Repository
from transformer_lens_fork.rebase import Fit, as_table, find_release, rebase, try_on
from transformer_lens_fork.series import export
from transformer_lens_fork.tests import synthetic


@pytest.fixture
def other(base: Base, tmp_path: Path, request: pytest.FixtureRequest) -> Base:
    """The next tiny release, in which some lines of the source are others."""
    changes: tuple[tuple[int, str], ...] = request.param
    same = {name: text.replace("9.9.9", "9.9.10") for name, text in synthetic.FILES.items()}
    files = same | {synthetic.ROPE: synthetic.rope(*changes)}
    path = tmp_path / "index" / "transformer_lens-9.9.10.tar.gz"
    tarball = synthetic.make_tarball(path, files, "transformer_lens-9.9.10/")
    release = base.model_copy(update={"name": "v9.9.10", "version": "9.9.10"})
    return synthetic.pin(release, tarball, tmp_path / "pin")


@pytest.mark.parametrize(
    ("other", "fits"),
    [
        (((1, "LINE_1 = 'new'"),), [Fit.AS_IT_IS, Fit.AS_IT_IS]),
        # In the context of the first patch's hunk; git merges it nevertheless.
        (((18, "LINE_18 = 'new'"),), [Fit.MERGED, Fit.AS_IT_IS]),
    ],
    indirect=["other"],
)
def test_a_series_is_rebased_and_exported(
    other: Base, fits: list[Fit], base: Base, project: Path, patches: Path
) -> None:
    """The fork of the other release is there, with the series as commits."""
    assert [step.fit for step in try_on(base, other, project)] == fits
    steps = rebase(base, other, project)
    assert [step.fit for step in steps] == fits
    written = export(other, project)
    assert written == sorted(path.name for path in patches.glob("*.patch"))
    fork = project / "transformer_lens_fork" / other.name
    assert "A = 1" in (fork / synthetic.ROPE).read_text(encoding="utf-8")
    assert "'new'" in (fork / synthetic.ROPE).read_text(encoding="utf-8")
    with pytest.raises(InputError, match="is there already; move it away first"):
        rebase(base, other, project)


@pytest.mark.parametrize("other", [((20, "LINE_20 = 'new'"),)], indirect=True)
def test_a_conflict_waits_to_be_resolved(
    other: Base, base: Base, project: Path, patches: Path
) -> None:
    """`git am` goes on in the fork; a trial leaves the patch out and looks at the next."""
    tried = try_on(base, other, project)
    assert [step.fit for step in tried] == [Fit.CONFLICT, Fit.MERGED]
    (step,) = rebase(base, other, project)
    assert step.files == (synthetic.ROPE,)
    assert str(step).endswith(f".patch conflicts in {synthetic.ROPE}")
    fork = project / "transformer_lens_fork" / other.name
    assert (fork / ".git" / "rebase-apply").is_dir()
    tree = Repository.at(fork)
    (fork / synthetic.ROPE).write_text(synthetic.rope((20, "LINE_20 = 'both'")), encoding="utf-8")
    tree.run("add", synthetic.ROPE)
    identity = {"GIT_COMMITTER_NAME": "me", "GIT_COMMITTER_EMAIL": "me@example.org"}
    tree.run("am", "--continue", variables=identity)
    assert len(export(other, project)) == 1


@pytest.mark.parametrize("other", [()], indirect=True)
def test_a_release_that_is_not_pinned_is_found(
    other: Base, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through pip, with the table that pins it."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    found = find_release(base, "9.9.10")
    tarball = tmp_path / "index" / "transformer_lens-9.9.10.tar.gz"
    assert found.sdist_sha256 == hashlib.sha256(tarball.read_bytes()).hexdigest()
    (table,) = tomllib.loads(as_table(found)).values()
    assert Base.model_validate({"name": found.name} | table) == found
    odd = found.model_copy(update={"has_hooked_transformer": False, "type_checked": ("a", "a.b")})
    (table,) = tomllib.loads(as_table(odd)).values()
    assert Base.model_validate({"name": odd.name} | table) == odd
    with pytest.raises(VerificationError, match=r"^pip cannot download transformer-lens 9\.9\.11"):
        find_release(base, "9.9.11")
    with pytest.raises(InputError, match=r"^VERSION is 'newest'; a release such as 3\.8\.1"):
        find_release(base, "newest")


def test_our_series_applies_to_the_release_before(tmp_path: Path) -> None:
    """That of 3.9.0 to 3.8.1, every patch as it is."""
    base = get_base("v3.9.0")
    steps = rebase(base, find_release(base, "3.8.1"), _with_patches(base, tmp_path))
    assert [step.fit for step in steps] == [Fit.AS_IT_IS] * len(steps)
    assert len(steps) >= 9


def _with_patches(base: Base, folder: Path) -> Path:
    (folder / "patches").mkdir()
    (folder / "patches" / base.name).symlink_to(REPOSITORY / "patches" / base.name)
    return folder
