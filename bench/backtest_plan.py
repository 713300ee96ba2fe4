"""The harness's bars as tables on our calendar, and what `bench/backtest.toml` and `bench/backtest_account.toml` make of them: plans.

The bars are 252 full sessions of real XNYS days. Half days are not among them, so a plan's range has sessions without a bar.
"""

import tomllib
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np

from trading_pipeline.adapters.strategy_files import read_strategy
from trading_pipeline.domain.backtests import BacktestPlan
from trading_pipeline.domain.bar_quality import faults, grid
from trading_pipeline.domain.bars import BarTable, Floats, Instants, Interval
from trading_pipeline.domain.sessions import TradingCalendar
from trading_pipeline.domain.shadow import FillCosts
from trading_pipeline.errors import BarsError
from trading_pipeline.settings import LimitSettings, PaperBrokerSettings

STRATEGY = Path(__file__).with_name("backtest.toml")
ACCOUNT = Path(__file__).with_name("backtest_account.toml")
MINUTE_NS = 60_000_000_000
SESSION_BARS = 390


def table(symbol: str, start: Instants, columns: Floats, calendar: TradingCalendar) -> BarTable:
    """One-minute bars, each on the calendar's grid.

    Args:
        start: Of each bar, ns.
        columns: open, high, low, close, volume; one row a bar.

    Raises:
        BarsError: A bar is none of the calendar's, or breaks a rule of bars.
    """
    opened, high, low, close, volume = (np.ascontiguousarray(columns[:, number]) for number in range(5))
    made = BarTable(symbol, Interval.MIN1, start, start + MINUTE_NS, opened, high, low, close, volume)
    days = made.session_days
    starts, ends = grid(calendar, Interval.MIN1, days[0].item(), days[-1].item())
    place = np.searchsorted(starts, made.start)
    place[place == len(starts)] = 0
    strange = (starts[place] != made.start) | (ends[place] != made.end)
    broken = {rule: int(mask.sum()) for rule, mask in faults(made).items() if mask.any()}
    if strange.any() or broken:
        raise BarsError(
            f"Bars of {symbol} are none: {int(strange.sum())} off the calendar, {broken}.", value=symbol,
            rule="every bar is one of a session of XNYS and sane", remedy="make the data anew, or correct the generator",
        )
    return made


def load(root: Path, symbols: tuple[str, ...], calendar: TradingCalendar) -> list[BarTable]:
    """The harness's bars of its first so many symbols; raises like `table`."""
    start = np.load(root / "data" / "ts.npy")
    return [table(symbol, start, np.load(root / "data" / f"sym{number}.npy"), calendar) for number, symbol in enumerate(symbols)]


def plan(bars: BarTable) -> BacktestPlan:
    """The benchmark's strategy on one symbol in an account of its own, over all its bars."""
    with ACCOUNT.open("rb") as file:
        account = tomllib.load(file, parse_float=Decimal)
    paper = PaperBrokerSettings(**account["paper"])
    costs = FillCosts(
        paper.spread, paper.slippage, paper.commission_per_share, paper.commission_minimum, paper.commission_rate, paper.volume_share,
    )
    days = bars.session_days
    first, last = (days[end].astype(date) for end in (0, -1))
    strategy = replace(read_strategy(STRATEGY), symbols=(bars.symbol,))
    return BacktestPlan((strategy,), first, last, paper.cash, LimitSettings(**account["limits"]).limits(), costs)
