"""How well an account did: pure figures of equity and trades, each with its formula and source in its docstring.

Fractions, never per cent; USD where said. What cannot be known (no trade, nothing lost, no deviation) is None: `definitions` says why,
and a report shows a dash with that reason. Whether a figure can be luck is the business of `domain.validation`.
"""

from trading_pipeline.domain.performance.benchmark import buy_and_hold
from trading_pipeline.domain.performance.definitions import DEFINITIONS, GROUPS, Definition, Unit
from trading_pipeline.domain.performance.equity import SESSIONS_A_YEAR, Drawdown, monthly_returns, returns_of, sharpe, underwater
from trading_pipeline.domain.performance.measures import Performance, performance_of
from trading_pipeline.domain.performance.trades import TradeFigures, trade_figures, trades_by

__all__ = [
    "DEFINITIONS",
    "Definition",
    "Drawdown",
    "GROUPS",
    "Performance",
    "SESSIONS_A_YEAR",
    "TradeFigures",
    "Unit",
    "buy_and_hold",
    "monthly_returns",
    "performance_of",
    "returns_of",
    "sharpe",
    "trade_figures",
    "trades_by",
    "underwater",
]
