"""Figures of one column of equity, a value a session, after `cash` at the start.

Returns are simple, from close to close; the first is from the cash that the account began with. Ratios are annual at 252 sessions
and take a riskless rate of nothing unless told. A deviation that only rounding made counts as none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from trading_pipeline.domain.bars import Floats
from trading_pipeline.errors import InputError

SESSIONS_A_YEAR = 252
"""The convention for US equities; a year of the NYSE has 250 to 253 sessions."""
FEWEST_FOR_A_YEAR = 250
"""Below so many sessions a return is not annualised. Source: GIPS 2020, returns of less than a year are not annualised."""
_NO_DEVIATION = 1e-12
"""A standard deviation below it comes from rounding: a cent in 100,000 USD is 1e-7."""


def returns_of(equity: Floats, cash: float) -> Floats:
    """The simple return of each session.

    Raises:
        InputError: The account began with nothing, or was worth nothing before its last session.
    """
    before = np.concatenate(([cash], equity[:-1])) if len(equity) else equity
    if (before <= 0).any():
        raise InputError(
            "An account without money has no return.", value=float(before.min()), rule="equity is above zero before each session",
            remedy="begin with cash, and end the backtest where it is lost",
        )
    return np.asarray(equity / before - 1, np.float64)


def total_return(equity: Floats, cash: float) -> float | None:
    """Last equity / cash - 1."""
    return float(equity[-1] / cash - 1) if len(equity) else None


def cagr(equity: Floats, cash: float) -> float | None:
    """(last equity / cash) ^ (252 / sessions) - 1: the compound annual growth rate."""
    if len(equity) < FEWEST_FOR_A_YEAR:
        return None
    return float((equity[-1] / cash) ** (SESSIONS_A_YEAR / len(equity)) - 1)


def volatility(returns: Floats) -> float | None:
    """Sample standard deviation of the returns x sqrt(252)."""
    return None if len(returns) < 2 else float(np.std(returns, ddof=1)) * math.sqrt(SESSIONS_A_YEAR)


def sharpe(returns: Floats, riskless: float = 0.0) -> float | None:
    """Mean excess return / its sample standard deviation x sqrt(252).

    Args:
        riskless: A year, as a fraction.

    Source: Sharpe, "The Sharpe Ratio", Journal of Portfolio Management 21 (1994).
    """
    excess = returns - riskless / SESSIONS_A_YEAR
    if len(excess) < 2:
        return None
    deviation = float(np.std(excess, ddof=1))
    return None if deviation < _NO_DEVIATION else float(excess.mean()) / deviation * math.sqrt(SESSIONS_A_YEAR)


def sortino(returns: Floats, riskless: float = 0.0) -> float | None:
    """Mean excess return / root mean square of the negative ones, taken over all sessions, x sqrt(252).

    Source: Sortino and Price, "Performance Measurement in a Downside Risk Framework", Journal of Investing 3 (1994).
    """
    excess = returns - riskless / SESSIONS_A_YEAR
    if len(excess) < 2:
        return None
    deviation = math.sqrt(float(np.mean(np.minimum(excess, 0) ** 2)))
    return None if deviation < _NO_DEVIATION else float(excess.mean()) / deviation * math.sqrt(SESSIONS_A_YEAR)


@dataclass(frozen=True, slots=True)
class Drawdown:
    """From a peak of the equity until it is reached again. Places count sessions from 0; -1 is the start, before the first."""

    depth: float
    """How far below the peak the trough lies, as a fraction, above 0."""
    peak: int
    trough: int
    recovered: int | None
    """The session whose close reached the peak again; None: not yet."""
    sessions: int
    """From the peak to there, or to the last session."""


def underwater(equity: Floats, cash: float) -> Floats:
    """How far each close lies below the highest equity so far, the start included: 0 or negative fractions."""
    high = np.maximum(np.maximum.accumulate(equity), cash) if len(equity) else equity
    return np.asarray(equity / high - 1, np.float64)


def drawdowns(equity: Floats, cash: float) -> tuple[Drawdown, ...]:
    """Every one, in order."""
    below = underwater(equity, cash)
    found: list[Drawdown] = []
    start: int | None = None
    for place in [*np.flatnonzero(np.diff((below < 0).astype(np.int8), prepend=0)).tolist(), len(below)]:
        if start is not None:
            depths = below[start:place]
            recovered = place if place < len(below) else None
            last = place if recovered is not None else place - 1
            found.append(Drawdown(-float(depths.min()), start - 1, start + int(depths.argmin()), recovered, last - start + 1))
            start = None
        elif place < len(below):
            start = place
    return tuple(found)


def deepest(found: Sequence[Drawdown]) -> Drawdown | None:
    """The maximum drawdown, the first of equals; None where equity never fell below a peak."""
    return max(found, key=lambda each: each.depth, default=None)


def calmar(yearly: float | None, depth: float) -> float | None:
    """CAGR / maximum drawdown.

    Source: Young, "Calmar Ratio: A Smoother Tool", Futures 20 (1991); over the whole run instead of 36 months.
    """
    return None if yearly is None or depth == 0 else yearly / depth


def monthly_returns(sessions: Sequence[date], equity: Floats, cash: float) -> dict[tuple[int, int], float]:
    """(year, month) to last equity of the month / last equity before it - 1, in order."""
    found: dict[tuple[int, int], float] = {}
    before = cash
    for place, day in enumerate(sessions):
        if place + 1 == len(sessions) or (sessions[place + 1].year, sessions[place + 1].month) != (day.year, day.month):
            found[day.year, day.month] = float(equity[place]) / before - 1
            before = float(equity[place])
    return found
