"""The verdict of an architecture, and what counts as narrower than before."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from validation.architectures.comparison import (
    Sides,
    differing_fields,
    grown_signatures,
    judge,
    narrowed_signatures,
)
from validation.architectures.records import Errors, Observed, Parameter, Surface
from validation.architectures.verdict import Outcome

SAME = Errors(
    total=8,
    differing=0,
    before=0.5,
    after=0.5,
    before_max=1.0,
    after_max=1.0,
    before_by_seed=(0.25, 0.75),
    after_by_seed=(0.25, 0.75),
)


def errors(before: float | None, *after: float) -> Errors:
    """Of tensors that differ, and of the fork these errors by seed; None where nobody knows."""
    if before is None:
        unknown = {"before": None, "before_by_seed": (), "after_by_seed": ()}
        return SAME.model_copy(update={"differing": 1, **unknown})
    known = {"before": before, "before_by_seed": (before,) * len(after)}
    mean = {"after": sum(after) / len(after), "after_by_seed": after}
    return SAME.model_copy(update={"differing": 1, **known, **mean})


def surface(*parameters: Parameter) -> Surface:
    """With one function of these parameters, and no configuration."""
    return Surface(signatures={"f": parameters}, unimportable=(), configurations={})


def parameter(name: str, default: str | None = None, **own: Any) -> Parameter:
    """One that can be given by position or by name."""
    fields = {"name": name, "kind": "POSITIONAL_OR_KEYWORD", "default": default}
    return Parameter.model_validate(fields | own)


REST = parameter("rest", kind="VAR_KEYWORD")


def test_nothing_differs_is_same() -> None:
    """The same bits are SAME, however far they are from HF."""
    assert judge({"logits": SAME, "gradients": SAME}, {}, ())[0] is Outcome.SAME


def test_nearer_is_said_of_what_differs() -> None:
    """A smaller error is NEARER, and the reason names what moved, with its interval."""
    kinds = {"logits": errors(2e-5, 1.0e-5, 1.01e-5, 1.02e-5), "gradients": SAME}
    said = "nearer in logits (0.5050 [0.4926, 0.5174] times)"
    assert judge(kinds, {}, ()) == (Outcome.NEARER, said)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (errors(2e-5, 3.0e-5, 3.02e-5), "further in logits (1.5050 [1.4415, 1.5685] times)"),
        (errors(0.0, 0.0, 1e-9), "further in logits (inf [inf, inf] times)"),
        (errors(None), "further in logits"),
    ],
)
def test_further_fails(found: Errors, said: str) -> None:
    """So does what nobody knows the error of; gradients that are nearer do not excuse it."""
    kinds = {"logits": found, "gradients": errors(2e-5, 1e-5, 1e-5)}
    assert judge(kinds, {}, ()) == (Outcome.FURTHER, said)


@pytest.mark.parametrize(
    "after", [(2e-5, 2e-5), (1.9e-5, 2.0e-5), (2.1e-5, 2.0e-5), (1e-5,), (3e-5,)]
)
def test_what_seeds_cannot_tell_is_level_and_fails(after: tuple[float, ...]) -> None:
    """A mean that is nearer by less than seeds vary by, or of a single seed, is not NEARER."""
    kinds = {"logits": errors(2e-5, 1e-5, 1e-5), "gradients": errors(2e-5, *after)}
    outcome, reason = judge(kinds, {}, ())
    assert outcome is Outcome.LEVEL
    assert outcome.is_failure
    assert reason.startswith("neither nearer nor further in gradients")


def test_a_seed_with_large_errors_decides_nothing() -> None:
    """Each seed's quotient counts alike, whatever its errors: here 0.02 times in all three."""
    found = SAME.model_copy(
        update={
            "differing": 1,
            "before_by_seed": (1.0, 1e-3, 1e-3),
            "after_by_seed": (0.02, 0.02e-3, 0.0201e-3),
        }
    )
    assert found.outcome is Outcome.NEARER
    assert found.times is not None
    assert found.times[0] == pytest.approx(0.02, rel=0.01)


def test_a_small_change_is_not_rounded_away() -> None:
    """One in a million, of every seed."""
    kinds = {"logits": errors(1.0, 1 - 1.0e-6, 1 - 1.1e-6, 1 - 1.2e-6)}
    said = "nearer in logits (0.9999989 [0.9999987, 0.9999991] times)"
    assert judge(kinds, {}, ()) == (Outcome.NEARER, said)


def test_one_kind_does_not_pay_for_another() -> None:
    """Logits that are nearer do not excuse gradients that are not."""
    kinds = {"logits": errors(2e-5, 1e-5, 1e-5), "gradients": errors(1e-5, 2e-5, 2e-5)}
    assert judge(kinds, {}, ())[0] is Outcome.FURTHER


def test_another_configuration_or_state_is_broken() -> None:
    """A field with another value, or a problem with what was saved, fails whatever the bits are."""
    changed = judge({"logits": SAME}, {"eps": ("1e-05", "1e-06")}, ())
    assert changed == (Outcome.BROKEN, "the configuration has another eps")
    assert judge({"logits": SAME}, {}, ("no key",)) == (Outcome.BROKEN, "no key")


def test_new_fields_are_no_other_fields() -> None:
    """What only the fork has does not count; what it lost or changed does."""
    before = {"eps": "1", "act_fn": "'silu'"}
    assert differing_fields(before, before | {"attn_implementation": "'eager'"}) == {}
    assert differing_fields(before, {"eps": "2"}) == {
        "eps": ("1", "2"),
        "act_fn": ("'silu'", "absent"),
    }


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ((), "f has other parameters"),
        ((parameter("a"), parameter("c"), REST), "f has other parameters"),
        ((parameter("b", "1"), parameter("a"), REST), "f has other parameters"),
        ((parameter("a"), parameter("b", "2"), REST), "f has other parameters"),
        ((parameter("a"), parameter("b", "1")), "f takes no more of any number"),
        (
            (parameter("a"), parameter("b", "1"), parameter("c"), REST),
            "f has a new parameter without a default",
        ),
    ],
)
def test_narrower_signatures_are_named(after: tuple[Parameter, ...], said: str) -> None:
    """Every way in which a call of before may fail, or do something else, is found."""
    before = surface(parameter("a"), parameter("b", "1"), REST)
    assert narrowed_signatures(before, surface(*after)) == [said]


def test_appended_parameters_grow() -> None:
    """A parameter with a default after all others is no narrowing, and is listed."""
    before = surface(parameter("a"), REST)
    after = surface(parameter("a"), parameter("b", "1"), REST)
    assert narrowed_signatures(before, after) == []
    assert grown_signatures(before, after) == {"f": ("b",)}


def test_a_missing_function_is_named() -> None:
    """A public name that is gone is said to be."""
    gone = Surface(signatures={}, unimportable=(), configurations={})
    assert narrowed_signatures(surface(REST), gone) == ["f is gone"]


LEFT = {
    "theirs/logits/0": torch.tensor([[1.0, 2.0]]),
    "theirs/processed/0": torch.tensor([[1.0, 2.0]]),
    "theirs/gradient/0/w": torch.tensor([0.5]),
    "logits/0": torch.tensor([[1.0, 2.25]]),
    "processed/0": torch.tensor([[5.0, 6.5]]),
    "own-gradient/0/W": torch.tensor([0.0, 0.25]),
    "gradient/0/w": torch.tensor([0.25]),
}


def leave(folder: Path, changes: dict[str, torch.Tensor], **own: Any) -> Path:
    """A folder as a worker leaves it."""
    fields: dict[str, Any] = {
        "way": "somehow",
        "configuration": {},
        "shapes": {},
        "loaded_saved": None,
    }
    folder.mkdir()
    save_file({**LEFT, **changes}, folder / "observed.safetensors")
    observed = Observed.model_validate(fields | own)
    (folder / "observed.json").write_text(observed.model_dump_json(), encoding="utf-8")
    return folder


def sides(tmp_path: Path, changes: dict[str, torch.Tensor], **own: Any) -> Sides:
    """The release as it is, and a fork with these changes."""
    return Sides(leave(tmp_path / "before", {}), leave(tmp_path / "after", changes, **own))


def test_errors_are_of_both_sides(tmp_path: Path) -> None:
    """Counted between the trees, measured to HF, in mean and in the largest."""
    found = sides(tmp_path, {"logits/0": torch.tensor([[1.0, 2.125]])}).logits()
    assert (found.total, found.differing) == (2, 1)
    assert (found.before, found.after) == (0.125, 0.0625)
    assert (found.before_max, found.after_max) == (0.25, 0.125)


def test_errors_are_kept_by_seed(tmp_path: Path) -> None:
    """In order of the seeds; their means are those of all."""
    second = {
        "theirs/logits/1": torch.tensor([[0.0, 0.0]]),
        "logits/1": torch.tensor([[0.25, 0.25]]),
    }
    fork = {"logits/0": torch.tensor([[1.0, 2.125]]), "logits/1": torch.tensor([[0.0, 0.125]])}
    before, after = tmp_path / "before", tmp_path / "after"
    found = Sides(leave(before, second), leave(after, {**second, **fork})).logits()
    assert (found.before_by_seed, found.before) == ((0.125, 0.25), 0.1875)
    assert (found.after_by_seed, found.after) == ((0.0625, 0.0625), 0.0625)
    # 12.706 is Student's 97.5 % quantile of one degree of freedom; 1/2 and 1/4 are 1/8 from 3/8.
    expected = (0.375, 0.375 - 12.706 / 8, 0.375 + 12.706 / 8)
    assert found.times == pytest.approx(expected, rel=1e-4)
    assert found.outcome is Outcome.LEVEL


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    """However near it is."""
    found = sides(tmp_path, {"logits/0": torch.tensor([[1.0, 2.0]])}).logits()
    assert (found.after, found.times, found.outcome) == (0.0, None, Outcome.LEVEL)


def test_processed_logits_have_no_mean(tmp_path: Path) -> None:
    """Centring the unembedding moves all logits of a position alike, which changes nothing."""
    found = sides(tmp_path, {"processed/0": torch.tensor([[7.0, 8.0]])}).processed()
    assert (found.differing, found.before, found.after) == (2, 0.25, 0.0)


def test_gradients_are_compared_as_the_tree_has_them(tmp_path: Path) -> None:
    """The same distance to HF does not hide that a parameter's gradient is another."""
    found = sides(tmp_path, {"own-gradient/0/W": torch.tensor([-0.0, 0.25])}).gradients()
    assert (found.total, found.differing) == (2, 1)  # a zero has a sign
    assert found.before == found.after == 0.25


def test_not_a_number_is_no_distance(tmp_path: Path) -> None:
    """It is not nearer than anything."""
    found = sides(tmp_path, {"logits/0": torch.tensor([[float("nan"), 2.0]])}).logits()
    assert found.after is None
    assert found.after_max is None
    assert judge({"logits": found}, {}, ())[0] is Outcome.FURTHER


@pytest.mark.parametrize(
    ("changes", "own", "said"),
    [
        ({"more/0": torch.zeros(1)}, {}, "one of the two has no more/0"),
        ({}, {"shapes": {"embed.W_E": (2, 3)}}, "the state dict is another: embed.W_E"),
        ({}, {"loaded_saved": ("no such key",)}, "no such key"),
        (
            {"theirs/logits/0": torch.tensor([[1.0, 2.5]])},
            {},
            "importing the tree changed what HF computes",
        ),
    ],
)
def test_problems_are_told(
    changes: dict[str, torch.Tensor], own: dict[str, Any], said: str, tmp_path: Path
) -> None:
    """Whatever else is not as it was has a sentence of its own."""
    assert sides(tmp_path, changes, **own).problems() == (said,)
