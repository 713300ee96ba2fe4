"""A report on four hand-written trades in two symbols over six sessions, one of them split while nobody held it."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np

from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.backtests import BacktestResult, ExitReason, Trade
from trading_pipeline.domain.bars import BarTable, Interval, instant_ns
from trading_pipeline.domain.performance.report import BacktestReport
from trading_pipeline.domain.shadow import FillCosts
from trading_pipeline.service.backtests.report import About, report_of

D = Decimal
DAYS = tuple(date(2024, 7, day) for day in (29, 30, 31)) + tuple(date(2024, 8, day) for day in (1, 2, 5))
SPLITS = {"HI<b>": (Split("HI<b>", date(2024, 8, 2), D(2)),)}
ABOUT = About(
    title="up & down on AAPL", bars="daily bars", command="trading backtest <up> --from 2024-07-29",
    made_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC), source="written by hand", commit="abc1234", name="bt-0123456789",
)


@dataclass
class Passed:
    """A validation that was passed, with a table and a picture."""

    headline: str = "Validated: by hand."
    passed: bool = True
    sections: tuple[tuple[str, str, bytes | None], ...] = (
        ("Checks", "| CHECK | FOUND |\n|---|---|\n| a\\|b \\<i\\> | 0.04 |\n\nAfter **all** of it.\n\n- one\n- two", b"\x89PNG"),
    )


def bars(symbol: str, closes: list[float]) -> BarTable:
    start = np.array([instant_ns(datetime(day.year, day.month, day.day, 13, 30, tzinfo=UTC)) for day in DAYS])
    prices = np.array(closes)
    return BarTable(symbol, Interval.DAY1, start, start + 390 * 60 * 10**9, prices, prices + 1, prices - 1, prices, np.full(6, 1e6))


def at(place: int) -> datetime:
    day = DAYS[place]
    return datetime(day.year, day.month, day.day, 15, tzinfo=UTC)


def trade(symbol: str, first: int, last: int, entry: str, exit_: str, result: str, reason: ExitReason) -> Trade:
    return Trade("up", symbol, 10, at(first), D(entry), at(last), D(exit_), D(result), D(2), reason, last - first + 1)


TRADES = (
    trade("AAPL", 0, 1, "100", "110", "98", ExitReason.TARGET), trade("HI<b>", 0, 2, "50", "47", "-32", ExitReason.STOP),
    trade("AAPL", 2, 3, "108", "105", "-32", ExitReason.SIGNAL), trade("AAPL", 4, 5, "104", "106", "19", ExitReason.OPEN),
)
RESULT = BacktestResult(
    sessions=DAYS, equity=np.array([1010.0, 1098, 1060, 1034, 1040, 1053]), invested=np.array([500.0, 0, 500, 0, 520, 530]),
    traded=np.array([1500.0, 1100, 1500, 1050, 1040, 0]), commissions=np.array([2.0, 1, 2, 1, 1, 0]), trades=TRADES, cash=1000.0,
    decisions={"hold": 12, "buy": 4}, denials={"cooldown": 3}, assumptions=("Bars were written by hand.",),
)
TABLES = {"AAPL": bars("AAPL", [100, 110, 108, 105, 104, 106]), "HI<b>": bars("HI<b>", [50, 49, 47, 48, 24, 25])}


def report(result: BacktestResult = RESULT, **more: Any) -> BacktestReport:
    return report_of(ABOUT, result, TABLES, SPLITS, FillCosts(), **more)
