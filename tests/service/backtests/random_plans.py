"""Random markets and random strategies on them, by seed: what the two engines are held together with."""

from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from random import Random
from typing import NamedTuple

import numpy as np

from tests.desks import calendar
from trading_pipeline.domain.backtests import BacktestPlan
from trading_pipeline.domain.bar_quality import grid
from trading_pipeline.domain.bars import BarTable, Interval
from trading_pipeline.domain.limits import AccountLimits, StrategyLimits
from trading_pipeline.domain.shadow import FillCosts
from trading_pipeline.domain.strategies import (
    AnalyzerAgent,
    ExpressionAgent,
    FractionSizing,
    Lifetime,
    Mode,
    RiskSizing,
    StrategySpec,
)
from trading_pipeline.service.backtests.columnar.units import Flags

D = Decimal
SYMBOLS = ("AAPL", "IBM", "MSFT", "TQQQ", "XOM")
_SWING = {Interval.DAY1: 0.02, Interval.HOUR1: 0.006, Interval.MIN15: 0.004, Interval.MIN5: 0.003}
_SPANS = {
    Interval.DAY1: ((date(2023, 9, 1), date(2024, 3, 1), date(2024, 4, 30)), (date(2024, 1, 2), date(2024, 5, 1), date(2024, 8, 16))),
    Interval.HOUR1: ((date(2024, 2, 12), date(2024, 3, 1), date(2024, 3, 14)), (date(2024, 6, 10), date(2024, 7, 1), date(2024, 7, 8))),
    Interval.MIN15: ((date(2024, 2, 12), date(2024, 3, 7), date(2024, 3, 12)), (date(2024, 6, 20), date(2024, 7, 2), date(2024, 7, 5))),
    Interval.MIN5: (
        (date(2024, 2, 12), date(2024, 3, 1), date(2024, 3, 1)), (date(2024, 2, 28), date(2024, 3, 1), date(2024, 3, 4)),
        (date(2024, 6, 20), date(2024, 7, 3), date(2024, 7, 5)),
    ),
}
"""History from, first session, last: some over the change to summer time, some over a half day and the holiday after it."""
_AGENTS = (
    ExpressionAgent("rsi_14 < 45", "rsi_14 > 55", 5), ExpressionAgent("rsi_14 < 45", "rsi_14 > 55"), AnalyzerAgent(),
    ExpressionAgent("rsi_14 crossed_below 45", "close > sma_20", 15), ExpressionAgent("close > open", "close < open"),
    ExpressionAgent("close > 0", "close < 0", 3), ExpressionAgent("close > sma_20", "", 0), ExpressionAgent("close > 0", "close > 0", 1),
)
_SIZINGS = (
    FractionSizing(D("0.05"), atr_stop=D(2)), FractionSizing(D("0.08"), stop=D("0.01"), target=D("0.015")), RiskSizing(),
    FractionSizing(D("0.04")), RiskSizing(risk_per_trade=D("0.002"), max_stop=D("0.01")), FractionSizing(D("0.4"), atr_stop=D("0.7")),
    FractionSizing(D("0.15"), atr_stop=D(1), target=D("0.01")), FractionSizing(D("0.09"), stop=D("0.003"), target=D("0.004")),
)
_LIMITS = (
    StrategyLimits(), StrategyLimits(max_orders_per_hour=4), StrategyLimits(max_day_loss=D(150), revenge_wait=None),
    StrategyLimits(cool_off=None, recovery_size=None, revenge_wait=None, max_orders_per_hour=1_000), StrategyLimits(max_day_loss=D(60)),
    StrategyLimits(max_order_value=D(100_000), max_position_value=D(60_000), losing_streak=1),
    StrategyLimits(max_order_value=D(100_000), max_position_value=D(1_000_000), cool_off=None, max_orders_per_hour=1),
    StrategyLimits(max_day_loss=D(400), recovery_size=D("0.1"), losing_streak=2, cool_off=timedelta(minutes=5)),
)
_ACCOUNTS = (
    AccountLimits(), AccountLimits(volatility_trip=D(100_000), max_day_loss=D(80)), AccountLimits(volatility_trip=D(100_000)),
    AccountLimits(volatility_trip=D(2), volatility_clear=D(1)), AccountLimits(forbidden_symbols=frozenset({"IBM"})),
    AccountLimits(max_concentration=D(1), max_position_value=D(1_000_000), volatility_trip=D(100_000), max_volume_share=D(1)),
    AccountLimits(max_concentration=D("0.06"), max_day_notional=D(30_000)), AccountLimits(min_order_gap=timedelta(seconds=45)),
    AccountLimits(max_volume_share=D("0.0001"), max_day_loss=D(300)),
)
_COSTS = (
    FillCosts(), FillCosts(D(0), D(0), D(0), D(0), D("0.0005"), D(1)),
    FillCosts(D("0.001"), D("0.0005"), D("0.01"), D(2), D("0.0001"), D("0.2")), FillCosts(D("0.005"), D("0.01"), D(0), D(9)),
)


_NAMES = ("one", "two", "a-third")


class Scenario(NamedTuple):
    """A plan and the bars it is played on, with the history before them."""

    plan: BacktestPlan
    tables: Mapping[str, BarTable]


def scenario(seed: int) -> Scenario:
    """The same for the same seed."""
    dice = Random(seed)
    interval = dice.choice((Interval.MIN5, Interval.MIN15, Interval.HOUR1, Interval.DAY1))
    began, first, last = dice.choice(_SPANS[interval])
    most = 3 if interval is Interval.MIN5 else 5
    symbols = tuple(dice.sample(SYMBOLS, dice.randint(1, most)))
    tables = {symbol: random_bars(symbol, 10 * seed + number, interval, began, last) for number, symbol in enumerate(symbols)}
    cut = sorted(dice.sample(range(1, len(symbols)), min(dice.choice((0, 0, 1, 2)), len(symbols) - 1)))
    shares = [symbols[begin:end] for begin, end in zip([0, *cut], [*cut, len(symbols)], strict=True)]
    specs = tuple(_spec(name, share, interval, dice) for name, share in zip(_NAMES, shares, strict=False))
    cash = dice.choice((D(100_000), D(100_000), D(7_000), D(1_000_000)))
    return Scenario(BacktestPlan(specs, first, last, cash, dice.choice(_ACCOUNTS), dice.choice(_COSTS)), tables)


def busy(seed: int) -> Scenario:
    """One symbol, or two that seldom act at once, over more sessions: much is plain, and written by form."""
    dice = Random(f"busy {seed}")
    interval = dice.choice((Interval.MIN5, Interval.MIN15))
    symbols = tuple(dice.sample(SYMBOLS[:3], dice.choice((1, 1, 2))))
    began, first, last = date(2024, 2, 1), date(2024, 3, 1), date(2024, 3, 14)
    tables = {symbol: random_bars(symbol, 1_000 * seed + number, interval, began, last) for number, symbol in enumerate(symbols)}
    agent = ExpressionAgent("rsi_14 crossed_below 40", "rsi_14 > 55", dice.choice((0, 15)))
    spec = StrategySpec(
        name="busy", symbols=symbols, mode=Mode.AUTONOMOUS, interval=interval, agent=dice.choice((agent, agent, AnalyzerAgent())),
        lifetime=Lifetime.OPEN, sizing=dice.choice(_SIZINGS), limits=dice.choice((_LIMITS[0], _LIMITS[3], _LIMITS[3], _LIMITS[7])),
        min_confidence=D(0),
    )
    account = AccountLimits(max_concentration=D(1), max_position_value=D(1_000_000), volatility_trip=D(dice.choice((4, 100_000))))
    return Scenario(BacktestPlan((spec,), first, last, D(100_000), account, dice.choice(_COSTS[:3])), tables)


def with_holes(tables: Mapping[str, BarTable], seed: int) -> dict[str, BarTable]:
    """Without some bars between the first and the last of a session, the same of every symbol, as a feed has outages."""
    starts = np.unique(np.concatenate([table.start for table in tables.values()]))
    gone = starts[np.random.default_rng(seed).random(len(starts)) < (0.03, 0.1, 0.3)[seed % 3]]
    return {symbol: table.where(_at_an_edge(table) | ~np.isin(table.start, gone)) for symbol, table in tables.items()}


def _at_an_edge(table: BarTable) -> Flags:
    """Whether a bar is the first or the last of its session."""
    other = table.session_days[1:] != table.session_days[:-1]
    edges: Flags = np.append(True, other) | np.append(other, True)
    return edges


def _spec(name: str, symbols: tuple[str, ...], interval: Interval, dice: Random) -> StrategySpec:
    return StrategySpec(
        name=name, symbols=symbols, mode=Mode.AUTONOMOUS, interval=interval, agent=dice.choice(_AGENTS),
        lifetime=dice.choice((Lifetime.OPEN, Lifetime.SESSION)), sizing=dice.choice(_SIZINGS), limits=dice.choice(_LIMITS),
        min_confidence=D(dice.choice(("0", "0.8"))),
    )


def random_bars(symbol: str, seed: int, interval: Interval, first: date, last: date) -> BarTable:
    """Gaps over night and within the day, fat tails, prices in cents or finer: stops are reached in a bar, at an open, and to the cent."""
    start, end = grid(calendar(), interval, first, last)
    draw, count, swing = np.random.default_rng(seed), len(start), _SWING[interval]
    opens = np.concatenate(([True], start[1:] != end[:-1]))
    gap = np.where(opens, 3 * swing, np.where(draw.random(count) < 0.1, swing, swing / 20)) * draw.standard_normal(count)
    steps = draw.standard_t(4, (count, 4)) * swing / 2
    began_at = draw.choice((2.0, 8.0, 40.0, 100.0, 300.0, 900.0))
    before = np.log(began_at) + np.concatenate(([0.0], np.cumsum(gap + steps.sum(axis=1))[:-1]))
    path = np.exp((before + gap)[:, None] + np.concatenate((np.zeros((count, 1)), np.cumsum(steps, axis=1)), axis=1))
    prices = np.maximum(np.round(path, draw.choice((2, 2, 4))), 0.5)
    columns = map(np.ascontiguousarray, (prices[:, 0], prices.max(axis=1), prices.min(axis=1), prices[:, -1]))
    return BarTable(symbol, interval, start, end, *columns, np.round(draw.uniform(2e5, 2e6, count) * draw.choice((1, 1, 0.01))))
