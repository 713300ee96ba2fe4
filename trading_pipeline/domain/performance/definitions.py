"""What each figure of a report is called, how it is reckoned, where that comes from, and when there is none: one table for every face."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from trading_pipeline.domain.performance.measures import Performance


class Unit(StrEnum):
    """How a figure is written."""

    FRACTION = "fraction"
    USD = "usd"
    RATIO = "ratio"
    COUNT = "count"
    SESSIONS = "sessions"
    TIMES = "times"
    BASIS_POINTS = "basis_points"


@dataclass(frozen=True, slots=True)
class Definition:
    """One figure."""

    name: str
    title: str
    unit: Unit
    of: Callable[[Performance], float | None]
    formula: str
    source: str = ""
    undefined: str = ""
    """When there is none; empty where there always is."""
    signed: bool = False
    """Whether a plus is written."""


_NO_TRADE = "no trade has closed"
_NO_SESSION = "no session has closed"
_FEW = "fewer than two sessions, or returns that do not vary"
_UNDER_YEAR = "less than a year (250 sessions) is not annualised"

_RETURN: tuple[Definition, ...] = (
    Definition("total_return", "Return", Unit.FRACTION, lambda p: p.total_return, "last equity / first cash - 1", "", _NO_SESSION, True),
    Definition("profit", "Profit", Unit.USD, lambda p: p.profit, "last equity - first cash; what is held at its last close", signed=True),
    Definition(
        "cagr", "CAGR", Unit.FRACTION, lambda p: p.cagr, "(last equity / first cash) ^ (252 / sessions) - 1",
        "GIPS 2020 on less than a year", _UNDER_YEAR, True,
    ),
    Definition(
        "volatility", "Volatility", Unit.FRACTION, lambda p: p.volatility, "standard deviation of session returns x sqrt(252)", "",
        "fewer than two sessions",
    ),
    Definition(
        "sharpe", "Sharpe ratio", Unit.RATIO, lambda p: p.sharpe,
        "mean session return / its standard deviation x sqrt(252), riskless rate 0", "Sharpe 1994", _FEW,
    ),
    Definition(
        "sortino", "Sortino ratio", Unit.RATIO, lambda p: p.sortino,
        "mean session return / root mean square of the negative ones x sqrt(252)", "Sortino and Price 1994",
        "fewer than two sessions, or none that lost",
    ),
    Definition(
        "calmar", "Calmar ratio", Unit.RATIO, lambda p: p.calmar, "CAGR / maximum drawdown", "Young 1991", f"{_UNDER_YEAR}; or no drawdown",
    ),
    Definition(
        "max_drawdown", "Maximum drawdown", Unit.FRACTION, lambda p: p.max_drawdown,
        "largest fall of a close below the highest equity before",
    ),
    Definition(
        "longest_drawdown", "Longest drawdown", Unit.SESSIONS, lambda p: float(p.longest_drawdown),
        "sessions from a peak until it is reached again, or until the end",
    ),
    Definition("best_session", "Best session", Unit.FRACTION, lambda p: p.best_session, "largest session return", "", _NO_SESSION, True),
    Definition("worst_session", "Worst session", Unit.FRACTION, lambda p: p.worst_session, "least session return", "", _NO_SESSION, True),
)
_TRADES: tuple[Definition, ...] = (
    Definition("closed", "Trades closed", Unit.COUNT, lambda p: float(p.trades.closed), "round trips from flat to flat in one symbol"),
    Definition("open", "Still open", Unit.COUNT, lambda p: float(p.trades.open), "held at the last close, in no figure of trades"),
    Definition(
        "win_rate", "Win rate", Unit.FRACTION, lambda p: p.trades.win_rate, "trades that made more than 0 USD after costs / closed trades",
        "Tharp 1998", _NO_TRADE,
    ),
    Definition(
        "profit_factor", "Profit factor", Unit.RATIO, lambda p: p.trades.profit_factor, "sum of wins / sum of losses", "Pardo 2008",
        "no trade has lost",
    ),
    Definition(
        "expectancy", "Expectancy", Unit.USD, lambda p: p.trades.expectancy, "mean result of a closed trade", "Tharp 1998", _NO_TRADE, True,
    ),
    Definition(
        "average_gain", "Mean result of a trade", Unit.FRACTION, lambda p: p.trades.average_gain,
        "mean of result / what the trade invested", "", _NO_TRADE, True,
    ),
    Definition("average_win", "Average win", Unit.USD, lambda p: p.trades.average_win, "mean of the wins", "", "no trade has won", True),
    Definition(
        "average_loss", "Average loss", Unit.USD, lambda p: p.trades.average_loss, "mean of the losses", "", "no trade has lost", True,
    ),
    Definition(
        "payoff", "Payoff ratio", Unit.RATIO, lambda p: p.trades.payoff, "average win / average loss", "Tharp 1998",
        "no trade has won, or none has lost",
    ),
    Definition("best", "Best trade", Unit.USD, lambda p: p.trades.best, "largest result of a closed trade", "", _NO_TRADE, True),
    Definition("worst", "Worst trade", Unit.USD, lambda p: p.trades.worst, "smallest result of a closed trade", "", _NO_TRADE, True),
    Definition(
        "sessions_held", "Mean time held", Unit.SESSIONS, lambda p: p.trades.sessions_held, "sessions from entry to exit, both counted", "",
        _NO_TRADE,
    ),
)
_ACTIVITY: tuple[Definition, ...] = (
    Definition(
        "exposure", "Exposure", Unit.FRACTION, lambda p: p.exposure, "mean over the closes of market value / equity", "", _NO_SESSION,
    ),
    Definition(
        "time_in_market", "Time in the market", Unit.FRACTION, lambda p: p.time_in_market,
        "sessions in which anything was held / sessions", "", _NO_SESSION,
    ),
    Definition(
        "turnover", "Turnover", Unit.TIMES, lambda p: p.turnover, "half the value of all fills / mean equity, over the whole run", "",
        _NO_SESSION,
    ),
    Definition("commissions", "Commissions", Unit.USD, lambda p: p.commissions, "of all fills; spread and slippage are in the prices"),
    Definition(
        "cost_rate", "Commissions of value", Unit.BASIS_POINTS, lambda p: p.cost_rate, "commissions / value of all fills", "",
        "nothing was traded",
    ),
)

GROUPS: Mapping[str, tuple[Definition, ...]] = MappingProxyType({
    "Return and risk": _RETURN, "Trades": _TRADES, "Activity and costs": _ACTIVITY,
})
DEFINITIONS: tuple[Definition, ...] = tuple(each for group in GROUPS.values() for each in group)
