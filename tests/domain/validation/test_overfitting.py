"""What a search does to its best setting, against the papers' examples and a plain enumeration of all halvings."""

import math
from itertools import combinations
from statistics import mean, median, stdev

import numpy as np
import pytest

from trading_pipeline.domain.validation.overfitting import deflated_sharpe, expected_best, overfitting, ratios_of, walk_forward_efficiency
from trading_pipeline.domain.validation.significance import Moments

PAPER = Moments(1_250, 2.5 / math.sqrt(250), -3.0, 10.0)
"""Five years of 250 sessions at an annual 2.5."""


def spread_of(variance: float, many: int) -> np.ndarray:
    """So many ratios with this sample variance."""
    values = np.linspace(-1, 1, many)
    return values * math.sqrt(variance) / values.std(ddof=1)


def test_the_best_of_a_hundred_worthless_settings_looks_as_good_as_in_the_paper():
    """Source: Bailey and Lopez de Prado 2014, "A numerical example": a yearly variance of 1/2 over 100 trials gives 0.1132 a session."""
    assert expected_best(spread_of(0.5 / 250, 100)) == pytest.approx(0.1132, abs=0.00005)


def test_the_deflated_sharpe_ratio_of_the_papers_example():
    """Source: the same place: 0.9004 with 100 trials; with 46 it would have been 0.9505; if returns were normal, 88 trials give 0.9505."""
    assert deflated_sharpe(PAPER, spread_of(0.5 / 250, 100)) == pytest.approx(0.9004, abs=0.0001)
    assert deflated_sharpe(PAPER, spread_of(0.5 / 250, 46)) == pytest.approx(0.9505, abs=0.0001)
    normal = Moments(1_250, 2.5 / math.sqrt(250), 0.0, 3.0)
    assert deflated_sharpe(normal, spread_of(0.5 / 250, 88)) == pytest.approx(0.9505, abs=0.0001)


def test_the_expected_best_is_that_of_simulated_searches():
    random = np.random.default_rng(8)
    assert expected_best(spread_of(1.0, 50)) == pytest.approx(float(random.normal(size=(20_000, 50)).max(axis=1).mean()), rel=0.02)


def test_one_setting_was_not_searched_for():
    assert expected_best(np.array([0.2])) == 0
    assert expected_best(np.empty(0)) == 0


def enumerated(returns: np.ndarray, blocks: int) -> tuple[float, float, float]:
    """The paper's procedure in plain Python: probability, share of losses, mean ratio where it was chosen."""
    rows, many = returns.shape
    size = rows // blocks
    parts = [returns[place * size : (place + 1) * size].tolist() for place in range(blocks)]
    logits, losses, inside = [], [], []

    def ratios(chosen: tuple[int, ...]) -> list[float]:
        lines = [line for place in chosen for line in parts[place]]
        return [mean(column) / stdev(column) for column in zip(*lines, strict=True)]

    for chosen in combinations(range(blocks), blocks // 2):
        ours = ratios(chosen)
        theirs = ratios(tuple(place for place in range(blocks) if place not in chosen))
        best = ours.index(max(ours))
        rank = 1 + sum(each < theirs[best] for each in theirs)
        weight = rank / (many + 1)
        logits.append(math.log(weight / (1 - weight)))
        losses.append(theirs[best] <= 0)
        inside.append(ours[best])
    return mean(each <= 0 for each in logits), mean(losses), mean(inside)


@pytest.mark.parametrize("seed", range(4))
def test_the_probability_of_overfitting_is_that_of_a_plain_enumeration(seed):
    returns = np.random.default_rng(seed).normal(0.0003, 0.01, (80, 7)) + np.linspace(0, 0.002, 7) * (seed % 2)
    found = overfitting(returns, blocks=8)
    probability, loses, inside = enumerated(returns, 8)
    assert (found.blocks, found.splits, found.settings) == (8, 70, 7)
    assert found.probability == pytest.approx(probability)
    assert found.loses == pytest.approx(loses)
    assert found.in_sample == pytest.approx(inside)


def test_among_worthless_settings_the_best_is_as_often_below_the_median_as_above():
    random = np.random.default_rng(3)
    found = [overfitting(random.normal(0, 0.01, (252, 20)), blocks=10).probability for _ in range(60)]
    assert median(found) == pytest.approx(0.5, abs=0.12)


def test_a_setting_that_is_better_throughout_is_not_fitted():
    returns = np.random.default_rng(3).normal(0, 0.01, (252, 20))
    returns[:, 7] += 0.004
    found = overfitting(returns)
    assert found.probability < 0.01
    assert found.splits == 12_870
    assert found.loses < 0.01


def test_a_setting_that_shone_in_one_stretch_only_is_fitted():
    """Each setting is lucky in one sixteenth of the sessions and loses in all others, so whoever shone cannot shine again."""
    random = np.random.default_rng(6)
    returns = random.normal(-0.0005, 0.002, (320, 16))
    for place in range(16):
        returns[place * 20 : (place + 1) * 20, place] += 0.02
    found = overfitting(returns)
    assert found.probability > 0.9
    assert found.loses > 0.9


def test_settings_that_never_traded_are_no_trials():
    returns = np.random.default_rng(3).normal(0, 0.01, (252, 5))
    padded = np.column_stack([returns, np.zeros((252, 3))])
    assert overfitting(padded) == overfitting(returns)
    assert len(ratios_of(padded)) == 5


def test_too_few_settings_or_sessions_say_nothing():
    random = np.random.default_rng(3)
    assert overfitting(random.normal(size=(252, 1))) is None
    assert overfitting(random.normal(size=(19, 5))) is None
    assert overfitting(random.normal(size=(20, 5))).blocks == 4


def test_sessions_that_do_not_divide_evenly_are_all_used():
    assert overfitting(np.random.default_rng(3).normal(size=(253, 5))).blocks == 16


def test_walk_forward_efficiency_worked_by_hand():
    assert walk_forward_efficiency(np.array([0.02, 0.00]), np.array([0.01, 0.005, 0.0])) == pytest.approx(0.5)
    assert walk_forward_efficiency(np.array([-0.02, 0.00]), np.array([0.01])) is None
    assert walk_forward_efficiency(np.empty(0), np.array([0.01])) is None
