"""Benches for tests: bars written out by hand in a home of their own, read by the code that reads a home."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.desks import bars, strategy
from trading_pipeline.adapters.market_data.stored import store_market
from trading_pipeline.bootstrap_backtests import open_bench
from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.backtests import BacktestPlan
from trading_pipeline.domain.bars import BarTable, Interval
from trading_pipeline.domain.events import text_of
from trading_pipeline.domain.shadow import FillCosts
from trading_pipeline.domain.strategies import ExpressionAgent, StrategySpec
from trading_pipeline.service.backtests import columnar
from trading_pipeline.service.backtests.bench import Bench
from trading_pipeline.service.backtests.engines import Engine, run
from trading_pipeline.settings import Settings

FREE = FillCosts(Decimal(0), Decimal(0), Decimal(0), Decimal(0))
"""Fills at the open itself."""
FIRST, LAST = date(2024, 8, 26), date(2024, 8, 30)
"""A week of five sessions."""


def home(folder: Path, *tables: BarTable, splits: Sequence[Split] = ()) -> Settings:
    """The settings of a home that has these bars."""
    store_market(folder / "market", tables, splits)
    return Settings(home=folder, market={"source": "files"})


def plan(*specs: StrategySpec, first: date = FIRST, last: date = LAST, **changes: Any) -> BacktestPlan:
    """A plan over the week, without costs."""
    return BacktestPlan(specs or (strategy(),), first, last, **{"costs": FREE, **changes})


@contextmanager
def bench_of(folder: Path, wanted: BacktestPlan, *tables: BarTable, splits: Sequence[Split] = ()) -> Iterator[Bench]:
    """A bench on these bars; on flat daily bars of AAPL from June on when there are none."""
    with open_bench(home(folder, *(tables or (bars(),)), splits=splits), wanted) as bench:
        yield bench


def crossing(name: str = "crosser", **changes: Any) -> StrategySpec:
    """Buys below 100 and sells above it."""
    return strategy(name, **{"agent": ExpressionAgent("close < 100", "close > 100"), "interval": Interval.MIN5, **changes})


def other_close(table: BarTable, index: int, close: float) -> BarTable:
    """The table with another close, and a range that holds it, in one bar."""
    columns = {name: getattr(table, name).copy() for name in ("high", "low", "close")}
    columns["close"][index] = close
    columns["high"][index], columns["low"][index] = max(columns["high"][index], close), min(columns["low"][index], close)
    return replace(table, **columns)


class NoLedger:
    """In the place of `columnar.Quick`: what no ledger is, so that the scribe writes everything."""


def texts(bench: Bench, wanted: BacktestPlan) -> list[str]:
    """Every fact of a plan that the columnar engine runs."""
    return [text_of(event) for event in run(bench, wanted, engine=Engine.COLUMNAR).ledger.events()]


def texts_of_the_scribe(bench: Bench, wanted: BacktestPlan, patch: pytest.MonkeyPatch) -> list[str]:
    """The same as it writes them, one by one."""
    with patch.context() as scope:
        scope.setattr(columnar, "Quick", NoLedger)
        return texts(bench, wanted)
