"""Figures of trades and of a whole result, by hand."""

from dataclasses import fields, replace
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pytest

from trading_pipeline.domain.backtests import BacktestResult, ExitReason, Trade
from trading_pipeline.domain.bars import BarTable, Interval, instant_ns
from trading_pipeline.domain.performance import DEFINITIONS, Performance, buy_and_hold, performance_of, trade_figures, trades_by
from trading_pipeline.domain.performance.trades import TradeFigures, month_of
from trading_pipeline.domain.shadow import FillCosts

D = Decimal
DAYS = tuple(date(2024, 8, day) for day in (26, 27, 28, 29, 30))


def trade(result: str, *, symbol: str = "AAPL", first: int = 26, last: int = 27, reason: ExitReason = ExitReason.SIGNAL) -> Trade:
    """10 shares bought at $100."""
    return Trade(
        "s", symbol, 10, datetime(2024, 8, first, 14, tzinfo=UTC), D(100), datetime(2024, 8, last, 15, tzinfo=UTC), D(101), D(result),
        D(2), reason, last - first + 1,
    )


TRADES = (
    trade("60"), trade("-20", symbol="TSLA", reason=ExitReason.STOP), trade("0"), trade("40", first=28, last=30, reason=ExitReason.TARGET),
    trade("-30", symbol="TSLA", first=29, last=29, reason=ExitReason.STOP), trade("7", first=30, last=30, reason=ExitReason.OPEN),
)


def result(trades: tuple[Trade, ...] = TRADES, **changes: object) -> BacktestResult:
    made = BacktestResult(
        sessions=DAYS, equity=np.array([1010.0, 990, 1000, 1020, 1010]), invested=np.array([505.0, 0, 250, 0, 0]),
        traded=np.array([1000.0, 1000, 500, 0, 0]), commissions=np.array([2.0, 2, 1, 0, 0]), trades=trades, cash=1000.0,
    )
    return replace(made, **changes)


def test_trades_by_hand() -> None:
    """Two of five won $100, two lost $50, one made nothing; the open one counts in none of it."""
    found = trade_figures(TRADES)
    assert (found.closed, found.open, found.wins, found.losses) == (5, 1, 2, 2)
    assert (found.win_rate, found.profit_factor, found.expectancy, found.payoff) == (0.4, 2.0, 10.0, 2.0)
    assert (found.gross_profit, found.gross_loss, found.average_win, found.average_loss) == (100, 50, 50, -25)
    assert (found.best, found.worst, found.result, found.unrealised, found.commissions) == (60, -30, 50, 7, 12)
    assert found.average_gain == pytest.approx((0.06 - 0.02 + 0 + 0.04 - 0.03) / 5)
    assert found.sessions_held == pytest.approx((2 + 2 + 2 + 3 + 1) / 5)


def test_without_a_trade_nothing_is_known() -> None:
    found = trade_figures([TRADES[-1]])
    undefined = ("win_rate", "profit_factor", "expectancy", "average_gain", "average_win", "average_loss", "payoff", "best", "worst",
                 "sessions_held")
    assert {getattr(found, name) for name in undefined} == {None}


def test_without_a_loss_there_is_no_profit_factor() -> None:
    found = trade_figures([trade("5")])
    assert (found.win_rate, found.profit_factor, found.payoff, found.average_loss) == (1.0, None, None, None)


def test_groups_add_up_to_the_whole() -> None:
    by_symbol = trades_by(TRADES, lambda each: each.symbol)
    assert list(by_symbol) == ["AAPL", "TSLA"]
    assert (by_symbol["TSLA"].closed, by_symbol["TSLA"].win_rate, by_symbol["TSLA"].result) == (2, 0.0, -50)
    for key in (lambda each: each.symbol, lambda each: each.exit_reason.value, month_of):
        assert sum(each.result for each in trades_by(TRADES, key).values()) == 50


def test_a_whole_result_by_hand() -> None:
    """From 1,000 to 1,010; from 1,010 to 990 is 1.98 %, over two sessions; half of 2,500 traded over a mean of 1,006."""
    found = performance_of(result())
    assert (found.equity, found.profit, found.total_return) == (1010, 10, pytest.approx(0.01))
    assert (found.max_drawdown, found.longest_drawdown) == (pytest.approx(20 / 1010), 3)
    assert (found.deepest.peak, found.deepest.trough, found.deepest.recovered) == (0, 1, 3)
    assert (found.best_session, found.worst_session) == (pytest.approx(0.02), pytest.approx(-20 / 1010))
    assert found.exposure == pytest.approx((0.5 + 0.25) / 5)
    assert found.turnover == pytest.approx(1250 / 1006)
    assert (found.commissions, found.cost_rate) == (5, 0.002)
    assert (found.cagr, found.calmar) == (None, None)


def test_time_in_the_market_counts_sessions_in_which_anything_was_held() -> None:
    """26 and 27, 28 to 30; without the long one the 28th is empty."""
    assert performance_of(result()).time_in_market == 1.0
    assert performance_of(result((TRADES[0], TRADES[4]))).time_in_market == pytest.approx(3 / 5)
    assert performance_of(result(())).time_in_market == 0


def test_an_idle_account_has_figures_where_there_are_any() -> None:
    idle = result((), equity=np.full(5, 1000.0), invested=np.zeros(5), traded=np.zeros(5), commissions=np.zeros(5))
    found = performance_of(idle)
    assert (found.total_return, found.volatility, found.max_drawdown, found.exposure, found.turnover) == (0, 0, 0, 0, 0)
    assert found.sharpe is found.sortino is found.cost_rate is found.deepest is found.trades.win_rate is None


def test_every_figure_is_defined_once_and_says_when_there_is_none() -> None:
    names = [each.name for each in DEFINITIONS]
    assert len(set(names)) == len(names) == len({each.title for each in DEFINITIONS})
    known = {field.name for field in fields(Performance)} | {field.name for field in fields(TradeFigures)}
    assert set(names) <= known
    without = performance_of(result((), equity=np.full(5, 1000.0), traded=np.zeros(5), commissions=np.zeros(5)))
    assert [each.name for each in DEFINITIONS if each.of(without) is None and not each.undefined] == []
    full = performance_of(result())
    for each in DEFINITIONS:
        expected = getattr(full, each.name, None) if hasattr(full, each.name) else getattr(full.trades, each.name)
        assert each.of(full) == expected


def closes(symbol: str, prices: list[tuple[int, float, float]]) -> BarTable:
    """Daily bars: (day of August, open, close)."""
    start = np.array([instant_ns(datetime(2024, 8, day, 13, 30, tzinfo=UTC)) for day, _, _ in prices])
    end = np.array([instant_ns(datetime(2024, 8, day, 20, tzinfo=UTC)) for day, _, _ in prices])
    opens, ends = np.array([each[1] for each in prices]), np.array([each[2] for each in prices])
    high, low, volume = np.maximum(opens, ends), np.minimum(opens, ends), np.full(len(prices), 1e6)
    return BarTable(symbol, Interval.DAY1, start, end, opens, high, low, ends, volume)


def test_buy_and_hold_by_hand() -> None:
    """$500 each: 4 at 100.03 cost 400.12 + 1; 9 at 50.02 (rounded up) cost 450.135 + 1; the second one begins a session later."""
    tables = {
        "A": closes("A", [(23, 1, 1), (26, 100, 110), (27, 110, 90), (28, 90, 95), (29, 95, 100), (30, 100, 120)]),
        "B": closes("B", [(27, 50, 50), (28, 50, 60), (30, 60, 55)]),
    }
    found = buy_and_hold(tables, DAYS, D(1000), FillCosts())
    one, two = found.trades
    assert (one.symbol, one.shares, one.entry_price, one.commissions) == ("A", 4, D("100.03"), D(1))
    assert (two.symbol, two.shares, two.entry_price, two.sessions) == ("B", 9, D("50.015"), 4)
    rest = 1000 - 400.12 - 1 - 9 * 50.015 - 1
    assert found.equity == pytest.approx([
        1000 - 401.12 + 440, rest + 360 + 450, rest + 380 + 540, rest + 400 + 540, rest + 480 + 495,
    ])
    assert found.invested == pytest.approx([440, 810, 920, 940, 975])
    assert found.traded == pytest.approx([400.12, 9 * 50.015, 0, 0, 0])
    assert (one.result, one.exit_price, one.exit_reason) == (D("78.88"), D(120), ExitReason.OPEN)
    assert found.equity[-1] == pytest.approx(1000 + float(one.result + two.result), abs=0.01)


def test_what_has_no_bar_stays_cash_and_is_said() -> None:
    found = buy_and_hold({"A": closes("A", [(26, 100, 110)]), "B": closes("B", [(1, 9, 9)])}, DAYS, D(1000), FillCosts())
    assert [each.symbol for each in found.trades] == ["A"]
    assert found.equity[-1] == pytest.approx(1000 - 401.12 + 440)
    assert "B: no bar" in found.assumptions[1]
