"""The figures of a backtest that a verdict rests on, each with what it may as well have been."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from trading_pipeline.domain.backtests import BacktestResult, ExitReason
from trading_pipeline.domain.bars import Floats
from trading_pipeline.domain.judgement import Estimate
from trading_pipeline.domain.performance import SESSIONS_A_YEAR, returns_of
from trading_pipeline.domain.validation import resampling
from trading_pipeline.domain.validation.significance import moments, p_above_zero, probabilistic_sharpe, shortest_record

_YEAR: Final = math.sqrt(SESSIONS_A_YEAR)


@dataclass(frozen=True, slots=True)
class Evidence:
    """The figures of some sessions, with 95 % intervals from 30 cases on; None where there is nothing to reckon from.

    Trades are the closed ones, as in every figure of trades; what is still held is in the equity and so in the Sharpe ratios, so that
    nobody looks good by never selling what lost.
    """

    sessions: int
    closed: int
    total_return: float
    sharpe: Estimate | None
    """Annualised."""
    sharpe_p: float | None
    """1 less the probabilistic Sharpe ratio."""
    record: float | None
    """Sessions that it takes to tell this Sharpe ratio from 0; None where it is not above 0."""
    drawdown: Estimate | None
    """The interval: how deep the same returns fall in other orders."""
    mean_trade: Estimate | None
    """USD."""
    trade_p: float | None
    win_rate: Estimate | None
    profit_factor: Estimate | None
    """Infinite without a loss."""
    beta: float | None
    """How much of each move of the market it takes part in; None: no market to compare with."""
    beyond_market: Estimate | None
    """Mean return beyond `beta` times the market's, a year."""
    beyond_market_p: float | None


def evidence_of(result: BacktestResult, market: Floats | None = None) -> Evidence:
    """The figures of a whole result.

    Args:
        market: Aligned returns of buying and holding.
    """
    returns = returns_of(result.equity, result.cash)
    closed = np.array([float(trade.result) for trade in result.trades if trade.exit_reason is not ExitReason.OPEN], np.float64)
    found, block = moments(returns), resampling.block_length(returns)
    runs = resampling.block_length(closed)
    beta = left = None
    if market is not None and len(returns) > 1:
        varies = float(np.var(market))
        beta = float(np.cov(returns, market, ddof=0)[0, 1]) / varies if varies > 1e-24 else 0.0
        left = returns - beta * market
    return Evidence(
        sessions=len(returns), closed=len(closed), total_return=float(np.prod(1 + returns) - 1),
        sharpe=_yearly(resampling.estimate(returns, resampling.sharpe, block), _YEAR) if len(returns) > 1 else None,
        sharpe_p=None if found is None else 1 - probabilistic_sharpe(found), record=None if found is None else shortest_record(found),
        drawdown=resampling.estimate(returns, resampling.drawdown, block), mean_trade=resampling.estimate(closed, resampling.mean, runs),
        trade_p=p_above_zero(closed, block=runs), win_rate=resampling.estimate(closed, resampling.share_won, runs),
        profit_factor=resampling.estimate(closed, resampling.profit_factor, runs), beta=beta,
        beyond_market=None if left is None else _yearly(resampling.estimate(left, resampling.mean), SESSIONS_A_YEAR),
        beyond_market_p=None if left is None else _p_of_rest(left, returns),
    )


def _p_of_rest(left: Floats, returns: Floats) -> float | None:
    """Of what buying and holding leaves only rounding remains, which proves nothing."""
    return 1.0 if float(left.std()) <= 1e-9 * float(returns.std()) else p_above_zero(left)


def _yearly(found: Estimate | None, times: float) -> Estimate | None:
    if found is None:
        return None
    low, high = (None if bound is None else bound * times for bound in (found.low, found.high))
    return Estimate(found.value * times, low, high, found.n)
