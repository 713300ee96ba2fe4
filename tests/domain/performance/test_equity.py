"""Figures of an equity column, by hand and against independent formulas of pandas and numpy."""

import math
import statistics
from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading_pipeline.domain.performance import equity as column
from trading_pipeline.errors import InputError

CASH = 100.0
CURVE = np.array([110.0, 99.0, 121.0, 120.0, 110.0, 115.0])
"""+10 %, -10 %, +22.2 %, -0.83 %, -8.33 %, +4.55 %."""

curves = st.lists(st.floats(0.5, 2.0), min_size=2, max_size=60).map(lambda steps: CASH * np.cumprod(steps))


def test_the_first_return_is_from_the_cash_at_the_start() -> None:
    assert column.returns_of(np.array([110.0, 99.0]), CASH) == pytest.approx([0.10, -0.10])
    assert column.total_return(np.array([110.0, 99.0]), CASH) == pytest.approx(-0.01)


def test_an_account_without_money_has_no_return() -> None:
    with pytest.raises(InputError, match="without money"):
        column.returns_of(np.array([50.0, 0.0, 10.0]), CASH)


def test_doubling_in_two_years_is_41_per_cent_a_year() -> None:
    """sqrt(2) = 1.41421."""
    assert column.cagr(np.linspace(CASH, 200.0, 504), CASH) == pytest.approx(0.41421356)


def test_less_than_a_year_is_not_annualised() -> None:
    assert column.cagr(np.linspace(CASH, 120.0, 249), CASH) is None
    assert column.cagr(np.linspace(CASH, 120.0, 250), CASH) == pytest.approx(1.2 ** (252 / 250) - 1)


def test_sharpe_by_hand() -> None:
    """1 %, 3 %: mean 2 %, deviation 1.41421 %, x sqrt(252) = 22.4499."""
    assert column.sharpe(np.array([0.01, 0.03])) == pytest.approx(22.4499443)
    assert column.volatility(np.array([0.01, 0.03])) == pytest.approx(0.0141421356 * 15.8745079)


def test_a_riskless_rate_lowers_it() -> None:
    """2.52 % a year is 0.01 % a session: 1.99 % / 1.41421 % x sqrt(252)."""
    assert column.sharpe(np.array([0.01, 0.03]), riskless=0.0252) == pytest.approx(22.4499443 * 0.0199 / 0.02)


def test_sortino_by_hand() -> None:
    """4 %, -3 %, 2 %, -1 %: mean 0.5 %, squares of the losses 9 + 1 over four sessions, root 1.5811 %."""
    assert column.sortino(np.array([0.04, -0.03, 0.02, -0.01])) == pytest.approx(0.005 / 0.0158113883 * 15.8745079)


def test_what_cannot_be_known_is_none_and_never_zero_or_infinite() -> None:
    flat, rising = np.zeros(9), np.full(9, 0.001)
    assert column.sharpe(flat) is column.sharpe(rising) is column.sharpe(np.array([0.5])) is None
    assert column.sortino(flat) is column.sortino(rising) is column.sortino(np.array([])) is None
    assert column.volatility(np.array([0.5])) is None and column.volatility(flat) == 0
    assert column.calmar(0.1, 0.0) is None and column.calmar(None, 0.2) is None
    assert column.total_return(np.array([]), CASH) is None and column.cagr(np.array([]), CASH) is None


def test_returns_that_differ_by_rounding_alone_do_not_vary() -> None:
    grown = CASH * 1.001 ** np.arange(1, 300)
    assert np.std(column.returns_of(grown, CASH)) > 0
    assert column.sharpe(column.returns_of(grown, CASH)) is None


def test_one_dollar_of_commission_in_a_year_does() -> None:
    assert column.sharpe(column.returns_of(np.array([100_000.0] * 100 + [99_999.0] * 152), 100_000.0)) is not None


def test_each_drawdown_from_its_peak_to_its_recovery() -> None:
    """110 falls to 99 and is passed two sessions later; 121 falls to 110 and is not seen again."""
    first, second = column.drawdowns(CURVE, CASH)
    assert (first.depth, first.peak, first.trough, first.recovered, first.sessions) == (pytest.approx(0.1), 0, 1, 2, 2)
    assert (second.depth, second.peak, second.trough, second.recovered, second.sessions) == (pytest.approx(11 / 121), 2, 4, None, 3)
    assert column.deepest([first, second]) is first


def test_the_start_is_a_peak_too() -> None:
    [only] = column.drawdowns(np.array([95.0, 90.0, 100.0, 101.0]), CASH)
    assert (only.depth, only.peak, only.trough, only.recovered, only.sessions) == (pytest.approx(0.1), -1, 1, 2, 3)


def test_a_rising_account_has_none() -> None:
    assert column.drawdowns(np.array([100.0, 101.0, 101.0]), CASH) == () and column.deepest(()) is None


def test_months_compound_to_the_whole() -> None:
    days = [date(2024, 1, 30), date(2024, 1, 31), date(2024, 2, 1), date(2024, 2, 29), date(2025, 2, 3), date(2025, 2, 4)]
    months = column.monthly_returns(days, CURVE, CASH)
    assert list(months) == [(2024, 1), (2024, 2), (2025, 2)]
    assert list(months.values()) == pytest.approx([-0.01, 120 / 99 - 1, 115 / 120 - 1])
    assert math.prod(1 + each for each in months.values()) == pytest.approx(1.15)


@given(curves)
def test_pandas_and_the_standard_library_say_the_same(curve: np.ndarray) -> None:
    returns = column.returns_of(curve, CASH)
    series = pd.Series([CASH, *curve])
    assert returns == pytest.approx(series.pct_change().dropna().to_numpy())
    deviation = statistics.stdev(returns)
    if deviation > 1e-9:
        assert column.sharpe(returns) == pytest.approx(statistics.fmean(returns) / deviation * math.sqrt(252), rel=1e-6)
    below = series / series.cummax() - 1
    assert column.underwater(curve, CASH) == pytest.approx(below[1:].to_numpy())
    worst = column.deepest(column.drawdowns(curve, CASH))
    assert (worst.depth if worst else 0.0) == pytest.approx(-below.min())


@given(curves)
def test_drawdowns_cover_exactly_the_sessions_under_water(curve: np.ndarray) -> None:
    found = column.drawdowns(curve, CASH)
    last = [each.recovered if each.recovered is not None else len(curve) for each in found]
    covered = [place for each, end in zip(found, last, strict=True) for place in range(each.peak + 1, end)]
    assert covered == np.flatnonzero(column.underwater(curve, CASH) < 0).tolist()
    assert all(each.peak < each.trough < end for each, end in zip(found, last, strict=True))
