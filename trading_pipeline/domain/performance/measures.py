"""All figures of one result."""

import math
from dataclasses import dataclass

import numpy as np

from trading_pipeline.domain.backtests import BacktestResult
from trading_pipeline.domain.bars import Floats
from trading_pipeline.domain.performance import equity as column
from trading_pipeline.domain.performance.equity import Drawdown
from trading_pipeline.domain.performance.trades import TradeFigures, sessions_held_in, trade_figures


@dataclass(frozen=True, slots=True)
class Performance:
    """What `DEFINITIONS` explains, as numbers; None where undefined."""

    sessions: int
    cash: float
    """USD at the start."""
    equity: float
    """USD at the last close."""
    profit: float
    """USD made, open positions at their last close."""
    total_return: float | None
    cagr: float | None
    volatility: float | None
    sharpe: float | None
    sortino: float | None
    calmar: float | None
    max_drawdown: float
    """0 where equity never fell below a peak."""
    deepest: Drawdown | None
    longest_drawdown: int
    """Sessions from a peak until it was reached again, or the end."""
    best_session: float | None
    worst_session: float | None
    exposure: float | None
    """Mean over the closes of market value / equity."""
    time_in_market: float | None
    """Sessions in which anything was held / sessions."""
    turnover: float | None
    """Half of the value of all fills / mean equity, over the whole run."""
    traded: float
    """USD of all fills, both sides."""
    commissions: float
    cost_rate: float | None
    """Commissions / value of all fills."""
    trades: TradeFigures


def performance_of(result: BacktestResult) -> Performance:
    """The figures of a result.

    Raises:
        InputError: The account began with nothing, or lost everything before the end.
    """
    equity, cash, sessions = result.equity, result.cash, len(result.sessions)
    returns = column.returns_of(equity, cash)
    found = column.drawdowns(equity, cash)
    worst = column.deepest(found)
    depth, yearly = worst.depth if worst else 0.0, column.cagr(equity, cash)
    traded, commissions = _total(result.traded), _total(result.commissions)
    last = float(equity[-1]) if sessions else cash
    return Performance(
        sessions=sessions, cash=cash, equity=last, profit=last - cash, total_return=column.total_return(equity, cash), cagr=yearly,
        volatility=column.volatility(returns), sharpe=column.sharpe(returns), sortino=column.sortino(returns),
        calmar=column.calmar(yearly, depth), max_drawdown=depth, deepest=worst,
        longest_drawdown=max((each.sessions for each in found), default=0),
        best_session=float(returns.max()) if sessions else None, worst_session=float(returns.min()) if sessions else None,
        exposure=float(np.mean(result.invested / equity)) if sessions and (equity > 0).all() else None,
        time_in_market=sessions_held_in(result.trades, result.sessions) / sessions if sessions else None,
        turnover=traded / 2 / float(np.mean(equity)) if sessions and float(np.mean(equity)) > 0 else None,
        traded=traded, commissions=commissions, cost_rate=commissions / traded if traded else None, trades=trade_figures(result.trades),
    )


def _total(amounts: Floats) -> float:
    """USD to the hundredth of a cent, in which fills are counted: the same in whatever order they were added up."""
    return round(math.fsum(amounts), 4)
