"""Results made up for tests of what is said about them: a market, and somebody who is in it now and then."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np

from trading_pipeline.domain.backtests import BacktestResult, ExitReason, Trade
from trading_pipeline.domain.bars import Floats

CASH = 100_000.0


def weekdays(count: int, first: date = date(2024, 1, 2)) -> tuple[date, ...]:
    """So many of them; no test here asks whether the market was open."""
    found, day = [], first
    while len(found) < count:
        if day.weekday() < 5:
            found.append(day)
        day += timedelta(days=1)
    return tuple(found)


def trade(entered: date, left: date, result: float, reason: ExitReason = ExitReason.SIGNAL, symbol: str = "AAPL") -> Trade:
    """One of 100 shares at $100."""
    return Trade(
        "made-up", symbol, 100, datetime(entered.year, entered.month, entered.day, 14, 30, tzinfo=UTC), Decimal(100),
        datetime(left.year, left.month, left.day, 19, 30, tzinfo=UTC), Decimal(100) + Decimal(str(round(result / 100, 4))),
        Decimal(str(round(result, 2))), Decimal(2), reason, 1 + (left - entered).days,
    )


def result_of(returns: Floats, trades: tuple[Trade, ...] = ()) -> BacktestResult:
    """What an account with these returns looks like."""
    equity, nothing = CASH * np.cumprod(1 + returns), np.zeros(len(returns))
    return BacktestResult(weekdays(len(returns)), equity, nothing, nothing, nothing, trades, CASH)


def traded(market: Floats, inside: np.typing.NDArray[np.bool_], extra: Floats | float = 0.0) -> BacktestResult:
    """Who is in the market in some sessions and in cash in the others: a trade is a run of sessions inside.

    Args:
        extra: What is earned beside the market in each session inside.
    """
    returns = np.where(inside, market + extra, 0.0)
    whole = result_of(returns)
    before = np.concatenate(([CASH], whole.equity))
    edges = np.flatnonzero(np.diff(np.concatenate(([0], inside.astype(int), [0]))))
    trades = tuple(
        trade(whole.sessions[begin], whole.sessions[end - 1], float(before[end] - before[begin]))
        for begin, end in zip(edges[::2], edges[1::2], strict=True)
    )
    return result_of(returns, trades)


def at_random(seed: int, sessions: int = 504, drift: float = 0.0006) -> tuple[BacktestResult, Floats]:
    """Signals thrown by a coin in a market that rises: the result, and the market's returns."""
    random = np.random.default_rng(seed)
    market = random.normal(drift, 0.012, sessions)
    inside = np.repeat(random.random(-(-sessions // 4)) < 0.5, 4)[:sessions]
    return traded(market, inside), market


def with_an_edge(seed: int, sessions: int = 504, edge: float = 0.004) -> tuple[BacktestResult, Floats]:
    """The same, but whoever is inside earns something beside the market."""
    random = np.random.default_rng(seed)
    market = random.normal(0.0003, 0.012, sessions)
    inside = np.repeat(random.random(-(-sessions // 4)) < 0.5, 4)[:sessions]
    return traded(market, inside, edge), market
