"""Figures of several texts: their intervals hold the mean of all such texts."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from transformer_lens_fork.errors import InputError
from validation.reporting.readme import EVIDENCE
from validation.reporting.records import RecordFile
from validation.studies.catalogue import STUDIES, load_study
from validation.studies.estimates import Estimate, mean
from validation.studies.records import STUDY, StudyRecord
from validation.studies.study import choose_seeds, seeds_of, window_start
from validation.studies.texts import foreseen, found_again, over_texts, say_agreement


def drawn(rng: np.random.Generator, texts: int, spread: float) -> list[Estimate]:
    """Texts whose own means lie `spread` apart, each read at 100 positions; all have mean 0."""
    return [mean(rng.normal(rng.normal(0, spread), 1, 100)) for _ in range(texts)]


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_intervals_cover_the_mean_of_all_texts(spread: float) -> None:
    """Also where texts lie ten times further apart than positions say."""
    rng = np.random.default_rng(0)
    found = [over_texts(drawn(rng, 4, spread)) for _ in range(200)]
    held = sum(each.low <= 0 <= each.high for each in found)
    # The normal distribution's 1.96 would hold it in 86 % where texts lie apart.
    assert held >= 0.91 * 200


def test_of_two_texts_the_interval_holds_less_than_it_says() -> None:
    """As the pages say: in some 70 % where they lie far apart."""
    rng = np.random.default_rng(0)
    found = [over_texts(drawn(rng, 2, 1.0)) for _ in range(400)]
    assert 0.64 <= sum(each.low <= 0 <= each.high for each in found) / 400 <= 0.78


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_another_text_is_where_others_foresee_it(spread: float) -> None:
    """In some 95 %, whether positions or texts make them differ; an odd text is not."""
    rng = np.random.default_rng(1)
    held = sum(foreseen(drawn(rng, 3, spread), *drawn(rng, 1, spread)) for _ in range(200))
    assert held >= 0.91 * 200
    assert not foreseen([Estimate(v, v - 0.1, v + 0.1) for v in (1, 1.1, 0.9)], Estimate(2, 1, 3))


def test_positions_alone_would_be_too_sure() -> None:
    """Pooled, the same texts' positions miss the mean of all texts nearly always."""
    rng = np.random.default_rng(0)
    texts = [rng.normal(rng.normal(0, 1), 1, 100) for _ in range(8)]
    pooled, found = mean(np.concatenate(texts)), over_texts(map(mean, texts))
    assert found.value == pytest.approx(pooled.value)
    assert found.high - found.low > 4 * (pooled.high - pooled.low)


def test_texts_that_agree_share_their_uncertainty() -> None:
    """The interval of two is narrower by the root of two, and one text keeps its own."""
    one = Estimate(1.0, 0.8, 1.4)
    both = over_texts([one, one])
    assert both.value == 1.0
    assert both.low == pytest.approx(1 - 0.2 / np.sqrt(2))
    assert both.high == pytest.approx(1 + 0.4 / np.sqrt(2))
    assert over_texts([one]) == one


def test_what_is_not_known_stays_unknown() -> None:
    """A text of one sample has no interval, and neither has a mean with it."""
    found = over_texts([Estimate(1.0, -np.inf, np.inf), Estimate(2.0, 1.9, 2.1)])
    assert (found.value, found.low, found.high) == (1.5, -np.inf, np.inf)


def test_four_texts_are_held_against_each_other() -> None:
    """The one that is elsewhere is named; fewer texts are compared pair by pair."""
    texts = [Estimate(value, value - 0.1, value + 0.1) for value in (1.0, 1.1, 1.2, 3.0)]
    assert not found_again(texts)
    assert found_again([*texts[:3], Estimate(1.4, 1.3, 1.5)])
    assert not found_again([texts[0], texts[2]])
    said = say_agreement("figures", {"a": texts, "b": [*texts[:3], texts[1]]})
    assert said == (
        "Each of the 4 seeds' texts is where the others' 95 % prediction interval has it on 1 of 2 "
        "figures; not on a (+1, +1.1, +1.2, +3). By chance that many intervals of 95 % leave out "
        "up to 20% of the figures."
    )


def test_two_texts_agree_or_are_said_not_to() -> None:
    """A figure of one seed is no check."""
    near, far = Estimate(1.0, 0.9, 1.1), Estimate(2.0, 1.9, 2.1)
    said = say_agreement("figures", {"a": [near, far], "b": [near, near], "c": [far]})
    assert said.startswith("By the uncertainty of positions alone the 2 seeds' texts agree on 1 of")
    assert "1 of 2 figures; not on a (+1, +2). The intervals above take in" in said
    assert say_agreement("figures", {"c": [far]}).startswith("One seed was measured")


def test_figures_of_four_texts_and_of_two_are_told_apart() -> None:
    """As a study that was stopped has them: what holds of four is not said of two."""
    near = Estimate(1.0, 0.9, 1.1)
    said = say_agreement("figures", {"a": [near] * 4, "b": [near] * 2, "c": [near] * 4})
    assert said == (
        "Each of the 4 seeds' texts is where the others' 95 % prediction interval has it on 2 of 2 "
        "figures. By chance that many intervals of 95 % leave out up to 20% of the figures. "
        "By the uncertainty of positions alone the 2 seeds' texts agree on 1 of 1 figures."
    )


def test_seeds_whose_windows_overlap_are_passed_over() -> None:
    """Of windows of ten tokens; one that only touches another is another text."""
    starts = [50, 55, 41, 40, 60, 0]
    assert choose_seeds(starts.__getitem__, 10, 0, 4) == [0, 3, 4, 5]
    assert choose_seeds(starts.__getitem__, 10, 1, 2) == [1, 2]
    with pytest.raises(InputError, match=r"--seeds: 4 .* from seed 0 on .* room for 3 windows of"):
        choose_seeds(lambda seed: 10 * (seed % 3), 10, 0, 4)


@pytest.mark.parametrize("name", STUDIES)
def test_texts_of_the_evidence_have_nothing_in_common(name: str) -> None:
    """Windows of the longest context, in the text as the study cuts it."""
    file = RecordFile(EVIDENCE / f"study-{name}" / STUDY, StudyRecord, "record")
    longest = load_study(name).contexts[-1]
    request: Any = SimpleNamespace(
        prompt=SimpleNamespace(tokens=range(98_304)), contexts=(longest,)
    )
    starts = sorted(map(window_start(request), seeds_of(file.records)))
    assert len(starts) >= 2
    assert min(np.diff(starts)) >= longest, starts
