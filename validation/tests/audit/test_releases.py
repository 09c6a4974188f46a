"""Releases are chosen by name and by range, and each is run as the table says."""

from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from transformer_lens_fork.errors import InputError, VerificationError
from validation.audit.releases import choose_releases, generation_of, load_generations
from validation.tests.audit.conftest import make_wheel

RELEASES = ("2.6.0", "2.7.0", "2.8.0", "2.10.0", "2.9.1", "3.0.0", "4.3.0")


@pytest.fixture
def listed(index: Path) -> None:
    """An index with these releases."""
    for release in RELEASES:
        make_wheel(index, "transformer-lens", release)


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        (None, ("2.7.0", "2.8.0", "2.9.1", "2.10.0", "3.0.0", "4.3.0")),
        ("2.8.0:3", ("2.8.0", "2.9.1", "2.10.0", "3.0.0")),
        ("4.3.0,2.8.0:2.9.99", ("2.8.0", "2.9.1", "4.3.0")),
        ("2.12.0", ("2.12.0",)),
    ],
)
def test_releases_are_chosen(text: str | None, chosen: tuple[str, ...]) -> None:
    """As versions are ordered, each once; one that is named need not be listed."""
    assert choose_releases(text) == chosen


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("two", "'two' is not accepted; a release such as 2.9.0"),
        ("2.8.0:", "'2.8.0:' is not accepted"),
        ("2.6.0", "'2.6.0' is not accepted; 2.7.0 and later are"),
        ("2.11.0:2.14.0", "no release on PyPI is in '2.11.0:2.14.0'"),
        ("3.0.0:2.8.0", "no release on PyPI is in '3.0.0:2.8.0'"),
        ("2.8.0,,3.0.0", "has an empty item"),
    ],
)
def test_words_that_name_no_release_are_refused(text: str, says: str) -> None:
    """One sentence each."""
    with pytest.raises(InputError, match=f"--releases: .*{says}"):
        choose_releases(text)


@pytest.mark.usefixtures("index")
def test_a_missing_index_is_told() -> None:
    """Only ranges need one."""
    assert choose_releases("2.9.0") == ("2.9.0",)
    with pytest.raises(VerificationError, match="pip cannot list the releases"):
        choose_releases("2.8.0:3.0.0")


def test_every_release_is_run_in_one_way() -> None:
    """No two tables cover a release; the first and the last of each major are covered."""
    generations = load_generations()
    for release in ("2.7.0", "2.18.0", "3.0.0", "3.8.1", "3.9.0", "4.0.0", "4.99.0"):
        assert sum(SpecifierSet(g.releases).contains(release) for g in generations) == 1
    old, new = generation_of("2.15.4"), generation_of("4.3.0")
    assert old is not None
    assert new is not None
    assert (old.model, old.attentions) == ("HookedTransformer", ("eager",))
    assert (new.model, new.attentions) == ("TransformerBridge", ("eager", "sdpa"))
    assert Version(old.transformers) < Version("5")
    assert generation_of("1.19.0") is None
