"""Imports during which nothing looks for garbage."""

import gc

import pytest

from validation.imports import import_uncollected, uncollected


@pytest.fixture(autouse=True)
def thawed() -> None:
    """Nothing is exempt yet, and garbage is looked for."""
    gc.unfreeze()
    gc.enable()


def test_what_is_made_within_is_not_looked_through() -> None:
    """Neither then nor later."""
    with uncollected():
        assert not gc.isenabled()
        made = [object(), []]
    assert gc.isenabled()
    assert not any(one is made for one in gc.get_objects())


def test_garbage_is_looked_for_again_after_an_import_that_fails() -> None:
    """What it raises is raised."""
    with pytest.raises(ModuleNotFoundError), uncollected():
        raise ModuleNotFoundError
    assert gc.isenabled()


def test_whoever_looks_for_none_goes_on_so() -> None:
    """Also one within another."""
    with uncollected():
        with uncollected():
            pass
        assert not gc.isenabled()


def test_what_is_imported_already_exempts_nothing() -> None:
    """A model that is garbage by then is found."""
    made: list[object] = []
    import_uncollected("pytest")
    assert any(one is made for one in gc.get_objects())
