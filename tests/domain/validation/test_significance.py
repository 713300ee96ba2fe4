"""p-values, intervals and Sharpe ratios against published examples, exact enumeration, and what is known of simulated series."""

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from trading_pipeline.domain.validation.resampling import (
    block_length,
    drawdown,
    drawn,
    estimate,
    indices,
    mean,
    profit_factor,
    share_won,
    sharpe,
)
from trading_pipeline.domain.validation.significance import Moments, moments, p_above_zero, probabilistic_sharpe, shortest_record

# Sharpe ratios


def test_the_probabilistic_sharpe_ratio_of_the_papers_hedge_fund():
    """Source: Bailey and Lopez de Prado 2012, section 5: 24 months at 0.458, 0.982 if normal, 0.913 with its skewness and kurtosis."""
    assert probabilistic_sharpe(Moments(24, 0.458, 0.0, 3.0)) == pytest.approx(0.982, abs=0.0005)
    assert probabilistic_sharpe(Moments(24, 0.458, -2.448, 10.164)) == pytest.approx(0.913, abs=0.0005)


@pytest.mark.parametrize(("a_year", "years"), [(250, 2.73), (52, 2.83), (12, 3.24)])
def test_the_shortest_record_of_the_papers_normal_returns(a_year, years):
    """Source: the same paper, section 6: years until an annual 2 is told from 1 at 95 %, daily, weekly and monthly."""
    found = Moments(100, 2 / math.sqrt(a_year), 0.0, 3.0)
    assert shortest_record(found, 1 / math.sqrt(a_year)) / a_year == pytest.approx(years, abs=0.005)


def test_the_shortest_record_of_the_papers_hedge_fund_index():
    """Source: the same place: skewness -0.72 and kurtosis 5.78 make the 3.24 years 4.99."""
    found = Moments(100, 2 / math.sqrt(12), -0.72, 5.78)
    assert shortest_record(found, 1 / math.sqrt(12)) / 12 == pytest.approx(4.99, abs=0.005)


def test_a_ratio_below_its_benchmark_is_told_from_it_by_no_record():
    assert shortest_record(Moments(100, -0.1, 0.0, 3.0)) is None


def test_moments_worked_by_hand():
    """1, 2, 3, 6: mean 3, deviations -2, -1, 0, 3; squares 14, cubes 18, fourths 98; sample variance 14 / 3."""
    found = moments(np.array([1.0, 2.0, 3.0, 6.0]))
    assert found.n == 4
    assert found.sharpe == pytest.approx(3 / math.sqrt(14 / 3))
    assert found.skewness == pytest.approx((18 / 4) / (14 / 4) ** 1.5)
    assert found.kurtosis == pytest.approx((98 / 4) / (14 / 4) ** 2)


def test_returns_that_do_not_vary_have_no_ratio():
    assert moments(np.full(100, 0.001)) is None
    assert moments(np.array([0.01])) is None


def test_the_standard_error_behind_it_is_that_of_simulated_ratios():
    """Skewed returns, independent: one minus an exponential. Its skewness is -2 and its kurtosis 9."""
    random = np.random.default_rng(7)
    returns = 0.01 * (1.5 - random.exponential(1.0, (4_000, 250)))
    measured = sharpe(returns)
    truth = 0.5
    spread = math.sqrt((1 + 2 * truth + (9 - 1) / 4 * truth**2) / 249)
    assert float(measured.std()) == pytest.approx(spread, rel=0.05)


# The p-value of a mean


def exact_p(series: list[int]) -> float:
    """All n^n resamples of a short series, with exact fractions: t by its sign and square."""
    n = len(series)

    def t(values: list[Fraction]) -> tuple[int, Fraction | None]:
        middle = sum(values, Fraction(0)) / n
        off = sum(((value - middle) ** 2 for value in values), Fraction(0))
        sign = (middle > 0) - (middle < 0)
        return (sign, None if off == 0 else middle**2 / off)

    def at_least(one: tuple[int, Fraction | None], other: tuple[int, Fraction | None]) -> bool:
        def key(found: tuple[int, Fraction | None]) -> tuple[int, Fraction]:
            sign, square = found
            large = Fraction(10**12)
            return sign, sign * (large if square is None else square)

        return key(one) >= key(other)

    values = [Fraction(value) for value in series]
    observed, middle = t(values), sum(values, Fraction(0)) / n
    moved = [value - middle for value in values]
    return sum(at_least(t(list(each)), observed) for each in product(moved, repeat=n)) / n**n


@pytest.mark.parametrize("series", [[3, -1, 4, 1, -2], [10, 2, -3, 5, 1], [-4, -1, 2, -3, 1], [8, 7, 9, 1, 6, -2]])
def test_the_p_value_is_the_share_of_all_resamples(series):
    exact = exact_p(series)
    found = p_above_zero(np.array(series, np.float64), draws=40_000, block=1)
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 40_000) + 1e-4)


def test_the_p_value_of_many_normal_values_is_students():
    """Source: t = 2.0 at 199 degrees of freedom has an upper tail of 0.0234 (tables of Student's t)."""
    random = np.random.default_rng(5)
    values = random.normal(0, 1, 200)
    values = (values - values.mean()) / values.std(ddof=1) + 2 / math.sqrt(200)
    assert p_above_zero(values, draws=40_000, block=1) == pytest.approx(0.0234, abs=0.004)


@pytest.mark.parametrize(("name", "kept"), [("independent", 0.0), ("moving together", 0.5)])
@pytest.mark.parametrize("count", [30, 120])
def test_luck_alone_passes_about_as_often_as_the_level_says(count, name, kept):
    """Trades with a stop and a target further away, at no profit: 60 % lose 2, 40 % win 3; half of them as the one before."""
    random = np.random.default_rng(11)
    passed = 0
    for _ in range(400):
        own = np.where(random.random(count) < 0.6, -2.0, 3.0)
        copied = random.random(count) < kept
        for place in range(1, count):
            own[place] = own[place - 1] if copied[place] else own[place]
        passed += p_above_zero(own, draws=400) < 0.05
    # 95 % of 400 tosses at 5 % lie in 12..29; short series that move together are the hard case of every block bootstrap.
    assert passed <= (29 if not kept else 60)


def test_what_never_varied_is_luck_unless_it_is_a_gain():
    assert p_above_zero(np.zeros(50)) == 1.0
    assert p_above_zero(np.full(50, -1.0)) == 1.0
    assert p_above_zero(np.full(50, 2.0)) < 0.001
    assert p_above_zero(np.array([1.0])) is None


def test_the_same_series_has_the_same_p_value():
    values = np.random.default_rng(3).normal(0.1, 1, 60)
    assert p_above_zero(values) == p_above_zero(values.copy())


# Resampling


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_the_length_of_runs_is_near_the_best_one_of_an_autoregression(kept):
    """With R(k) = s^2 a^|k| the sum of |k| R(k) is 2 s^2 a / (1 - a)^2, the density at 0 is 1 / (1 - a)^2 (Politis and White 2004)."""
    random, n = np.random.default_rng(2), 5_000
    series, shocks = np.zeros(n), random.normal(size=n)
    for place in range(1, n):
        series[place] = kept * series[place - 1] + shocks[place]
    slope = 2 * kept / (1 - kept) ** 2 / (1 - kept**2)
    best = (slope**2 * (1 - kept) ** 4 * n) ** (1 / 3)
    assert block_length(series) == pytest.approx(best, rel=0.25)


def test_values_that_tell_nothing_of_each_other_are_drawn_one_by_one():
    assert block_length(np.random.default_rng(1).normal(size=1_000)) < 3
    assert block_length(np.zeros(100)) == 1
    assert block_length(np.array([1.0, 2.0])) == 1


def test_runs_are_as_long_as_they_should_be_and_go_round_the_end():
    places = np.concatenate(list(indices(50, 8.0, draws=2_000)))
    steps = np.diff(places, axis=1) % 50
    assert float((steps != 1).mean()) == pytest.approx((1 / 8) * (49 / 50), rel=0.05)
    assert (np.bincount(places.ravel(), minlength=50) > 0).all()


def test_long_series_are_drawn_in_parts_and_all_of_them():
    parts = list(indices(40_000, 3.0, draws=12))
    assert len(parts) > 1
    assert sum(len(part) for part in parts) == 12


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution():
    values = np.random.default_rng(9).normal(5, 2, 400)
    found = estimate(values, mean, block=1)
    half = 1.96 * float(values.std(ddof=1)) / 20
    assert found.value == pytest.approx(float(values.mean()))
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.08)


def test_runs_make_the_interval_of_a_dependent_series_as_wide_as_it_is():
    random, n = np.random.default_rng(4), 2_000
    series, shocks = np.zeros(n), random.normal(size=n)
    for place in range(1, n):
        series[place] = 0.6 * series[place - 1] + shocks[place]
    found = estimate(series, mean)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 / (1 - 0.6) / math.sqrt(n), rel=0.25)


def test_below_thirty_cases_a_figure_has_no_interval():
    found = estimate(np.arange(29.0), mean)
    assert (found.value, found.low, found.high, found.n) == (14.0, None, None, 29)
    assert estimate(np.empty(0), mean) is None


def test_figures_worked_by_hand():
    results = np.array([[30.0, -10.0, 0.0, -20.0, 60.0]])
    assert share_won(results)[0] == 0.4
    assert profit_factor(results)[0] == 3.0
    assert drawdown(np.array([[0.10, -0.50, 0.20, 0.50]]))[0] == pytest.approx(0.5)
    assert drawdown(np.array([[-0.10, 0.05]]))[0] == pytest.approx(0.1)
    assert drawdown(np.array([[0.1, 0.1]]))[0] == 0
    assert np.isinf(drawn(np.array([1.0, 2.0]), profit_factor, 1)).all()
