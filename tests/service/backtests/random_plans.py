"""Random markets and random strategies on them, by seed: what the two engines are held together with."""

from collections.abc import Mapping
from datetime import date
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

D = Decimal
SYMBOLS = ("AAPL", "IBM", "MSFT")
_SWING = {Interval.DAY1: 0.02, Interval.HOUR1: 0.006, Interval.MIN5: 0.003}
_AGENTS = (
    ExpressionAgent("rsi_14 < 45", "rsi_14 > 55", 5), ExpressionAgent("rsi_14 < 45", "rsi_14 > 55"), AnalyzerAgent(),
    ExpressionAgent("rsi_14 crossed_below 45", "close > sma_20", 15), ExpressionAgent("close > open", "close < open"),
)
_SIZINGS = (
    FractionSizing(D("0.05"), atr_stop=D(2)), FractionSizing(D("0.08"), stop=D("0.01"), target=D("0.015")), RiskSizing(),
    FractionSizing(D("0.04")), RiskSizing(risk_per_trade=D("0.002"), max_stop=D("0.01")),
)
_LIMITS = (
    StrategyLimits(), StrategyLimits(max_orders_per_hour=4), StrategyLimits(max_day_loss=D(150), revenge_wait=None),
    StrategyLimits(cool_off=None, recovery_size=None, revenge_wait=None, max_orders_per_hour=1_000), StrategyLimits(max_day_loss=D(60)),
)
_ACCOUNTS = (
    AccountLimits(), AccountLimits(volatility_trip=D(100_000), max_day_loss=D(80)), AccountLimits(volatility_trip=D(100_000)),
    AccountLimits(volatility_trip=D(2), volatility_clear=D(1)), AccountLimits(forbidden_symbols=frozenset({"IBM"})),
)
_COSTS = (
    FillCosts(), FillCosts(D(0), D(0), D(0), D(0), D("0.0005"), D(1)),
    FillCosts(D("0.001"), D("0.0005"), D("0.01"), D(2), D("0.0001"), D("0.2")),
)


class Scenario(NamedTuple):
    """A plan and the bars it is played on, with the history before them."""

    plan: BacktestPlan
    tables: Mapping[str, BarTable]


def scenario(seed: int) -> Scenario:
    """The same for the same seed."""
    dice = Random(seed)
    interval = dice.choice((Interval.MIN5, Interval.HOUR1, Interval.DAY1, Interval.MIN5))
    began, first = (date(2023, 9, 1), date(2024, 3, 1)) if interval.daily else (date(2024, 2, 12), date(2024, 3, 1))
    last = date(2024, 4, 30) if interval.daily else date(2024, 3, dice.choice((1, 4)))
    symbols = SYMBOLS[: dice.choice((1, 1, 2, 3))]
    tables = {symbol: _bars(symbol, 10 * seed + number, interval, began, last) for number, symbol in enumerate(symbols)}
    if len(symbols) > 1 and dice.random() < 0.4:
        specs = (_spec("one", symbols[:1], interval, dice), _spec("two", symbols[1:], interval, dice))
    else:
        specs = (_spec("one", symbols, interval, dice),)
    return Scenario(BacktestPlan(specs, first, last, D(100_000), dice.choice(_ACCOUNTS), dice.choice(_COSTS)), tables)


def _spec(name: str, symbols: tuple[str, ...], interval: Interval, dice: Random) -> StrategySpec:
    return StrategySpec(
        name=name, symbols=symbols, mode=Mode.AUTONOMOUS, interval=interval, agent=dice.choice(_AGENTS), lifetime=Lifetime.OPEN,
        sizing=dice.choice(_SIZINGS), limits=dice.choice(_LIMITS), min_confidence=D(dice.choice(("0", "0.8"))),
    )


def _bars(symbol: str, seed: int, interval: Interval, first: date, last: date) -> BarTable:
    """Gaps over night and within the day, fat tails, prices in cents: stops are reached in a bar, at an open, and to the cent."""
    start, end = grid(calendar(), interval, first, last)
    draw, count, swing = np.random.default_rng(seed), len(start), _SWING[interval]
    opens = np.concatenate(([True], start[1:] != end[:-1]))
    gap = np.where(opens, 3 * swing, np.where(draw.random(count) < 0.1, swing, swing / 20)) * draw.standard_normal(count)
    steps = draw.standard_t(4, (count, 4)) * swing / 2
    before = np.log(draw.choice((8.0, 40.0, 100.0, 300.0))) + np.concatenate(([0.0], np.cumsum(gap + steps.sum(axis=1))[:-1]))
    path = np.exp((before + gap)[:, None] + np.concatenate((np.zeros((count, 1)), np.cumsum(steps, axis=1)), axis=1))
    cents = np.maximum(np.round(path, 2), 1.5)
    columns = map(np.ascontiguousarray, (cents[:, 0], cents.max(axis=1), cents.min(axis=1), cents[:, -1]))
    return BarTable(symbol, interval, start, end, *columns, np.round(draw.uniform(2e5, 2e6, count)))
