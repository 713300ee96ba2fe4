"""Lanes: one strategy in one symbol, with every bar's prices and the bars at which its rules say something.

The rules are evaluated over whole columns by the code that evaluates them live, bar by bar; so are the volatility breaker and
the average volume, at the bars that are asked about. What keeps a plan from being run by columns is said by `why_not`: then
the stepped engine does it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import assert_never

import numpy as np
import numpy.typing as npt

from trading_pipeline.domain import analyzer, indicators
from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.agents import required_indicators
from trading_pipeline.domain.backtests import BacktestPlan
from trading_pipeline.domain.bar_quality import average_day_volume, faults, grid, spikes
from trading_pipeline.domain.bars import BarTable, Floats
from trading_pipeline.domain.expressions import evaluate, names, parse
from trading_pipeline.domain.limits import AccountLimits
from trading_pipeline.domain.sessions import TradingCalendar
from trading_pipeline.domain.strategies import AnalyzerAgent, Entry, ExpressionAgent, Mode, ModelAgent, StrategySpec
from trading_pipeline.domain.volatility import BARS_NEEDED, Volatility, breaker

Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]
Places = Numbers

_SIZED_BY = tuple(indicators.indicator(name) for name in ("atr_14", "sma_20"))
_ENDLESS = 1 << 20


@dataclass(frozen=True, slots=True)
class Grid:
    """The bars of the calendar that a plan decides on, and of which it fills; one index for all symbols.

    A decision at bar `i` is carried out at the open of bar `i + 1`. Daily bars begin with the session before the first.
    """

    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    session_of: npt.NDArray[np.int64]
    """Of each bar, the number of its session in `days`."""
    days: tuple[date, ...]
    decides: Flags
    """Bars whose close is decided at: not the last of an intraday session (D27), nor the last of all."""
    daily: bool
    last_of: npt.NDArray[np.int64]
    """Of each session, its last bar."""

    def __len__(self) -> int:
        return len(self.start)


@dataclass
class Prices:
    """One symbol's bars on the grid, and the history before them."""

    symbol: str
    table: BarTable
    """With its history."""
    first: int
    """Row of the grid's first bar."""
    grid: Grid
    limits: AccountLimits
    _volumes: dict[int, tuple[Decimal, bool] | None] = field(default_factory=dict)

    @cached_property
    def open(self) -> Floats:
        """Opens on the grid."""
        return self.table.open[self.first :]

    @cached_property
    def high(self) -> Floats:
        """Highs on the grid."""
        return self.table.high[self.first :]

    @cached_property
    def low(self) -> Floats:
        """Lows on the grid."""
        return self.table.low[self.first :]

    @cached_property
    def close(self) -> Floats:
        """Closes on the grid."""
        return self.table.close[self.first :]

    @cached_property
    def volume(self) -> Floats:
        """Volumes on the grid."""
        return self.table.volume[self.first :]

    def average_volume(self, at: int) -> tuple[Decimal, bool] | None:
        """Shares a session as of the decision at a bar, see `bar_quality.average_day_volume`."""
        session = int(self.grid.session_of[at]) + self.grid.daily
        if session not in self._volumes:
            found = average_day_volume(self._until(at), self.grid.days[session])
            if found is not None and found[1]:
                # Of a short history the session's own bars count: another at every bar.
                return found
            self._volumes[session] = found
        return self._volumes[session]

    @cached_property
    def may_trip(self) -> bool:
        """Whether the volatility breaker could trip at all: a range measured by less than a cent is measured by a cent."""
        before = np.concatenate((self.table.open[:1], self.table.close[:-1]))
        widest = np.maximum(self.table.high, before) - np.minimum(self.table.low, before)
        return bool(len(widest)) and float(widest.max()) / 0.01 >= float(self.limits.volatility_trip)

    def volatility(self, at: int) -> Volatility | None:
        """The breaker as of the decision at a bar."""
        row = self.first + at + 1
        table = self.table.rows(max(0, row - BARS_NEEDED[self.table.interval]), row)
        return breaker(table, self.limits.volatility_trip, self.limits.volatility_clear)

    def _until(self, at: int) -> BarTable:
        row = self.first + at + 1
        sessions = 26 * -(-390 // self.table.interval.minutes)
        return self.table.rows(max(0, row - sessions), row)


@dataclass
class Lane:
    """One strategy in one symbol."""

    spec: StrategySpec
    prices: Prices
    columns: Mapping[str, Floats]
    """Indicator columns on the grid."""
    enter: Places
    """For each bar the next one, itself included, at which a flat lane wants to buy; far beyond the last where there is none."""
    leave: Places
    """The same of one that is held, apart from its `max_bars`."""
    confidence: Callable[[int, bool], Decimal]
    """(bar, held) to how sure the rules are."""
    max_bars: int
    decides: Places
    """For each bar the next one, itself included, that is decided at."""

    @property
    def symbol(self) -> str:
        """Whose bars."""
        return self.prices.symbol


def grid_of(plan: BacktestPlan, tables: Mapping[str, BarTable], calendar: TradingCalendar) -> Grid:
    """The bars of the plan's sessions, and of the one before them where bars are daily; sessions of which nobody has a bar are left out."""
    interval = plan.interval
    sessions = calendar.between(plan.first, plan.last)
    first = sessions[0].day
    if interval.daily and first > calendar.first.day:
        first = calendar.previous(first).day
    start, end = grid(calendar, interval, first, sessions[-1].day)
    day_of = start.astype("datetime64[ns]").astype("datetime64[D]")
    known = np.isin(day_of, np.concatenate([np.unique(table.session_days) for table in tables.values()]))
    start, end = start[known], end[known]
    days, numbers = np.unique(day_of[known], return_inverse=True)
    decides = np.ones(len(start), np.bool_)
    if not interval.daily:
        decides[:-1] = numbers[:-1] == numbers[1:]
    decides[-1:] = False
    last_of = np.searchsorted(numbers, np.arange(len(days)), side="right") - 1
    return Grid(start, end, numbers.astype(np.int64), tuple(days.tolist()), decides, interval.daily, last_of)


def why_not(plan: BacktestPlan, tables: Mapping[str, BarTable], splits: Mapping[str, tuple[Split, ...]], calendar: TradingCalendar) -> str:
    """Why the plan is not one for columns; empty when it is. Whoever reads it is told which engine runs, and why."""
    if len({spec.interval for spec in plan.strategies}) > 1:
        return "its strategies decide on different intervals"
    if len(plan.symbols) < sum(len(spec.symbols) for spec in plan.strategies):
        return "two strategies trade the same symbol"
    if plan.limits.max_day_risk is not None:
        return "the account has a limit on the day's risk"
    for spec in plan.strategies:
        reason = _of_strategy(spec)
        if reason:
            return f"{spec.name}: {reason}"
    places = grid_of(plan, tables, calendar)
    if not len(places):
        return "there are no bars"
    for symbol in plan.symbols:
        reason = _of_bars(tables[symbol], places, plan, splits.get(symbol, ()))
        if reason:
            return f"{symbol}: {reason}"
    return ""


def _of_strategy(spec: StrategySpec) -> str:
    if isinstance(spec.agent, ModelAgent):
        return "a model decides"
    if spec.mode is not Mode.AUTONOMOUS:
        return "a person approves its orders"
    if spec.sizing.entry is not Entry.NOW:
        return "its entries rest at a limit"
    if spec.limits.max_day_risk is not None:
        return "it has a limit on the day's risk"
    return ""


def _of_bars(table: BarTable, places: Grid, plan: BacktestPlan, splits: tuple[Split, ...]) -> str:
    if any(plan.first <= split.session <= plan.last for split in splits):
        return "a split lies in between"
    if splits and len(table) and any(split.session > table.session_days[0].astype(object) for split in splits):
        return "a split lies in its history"
    first = int(np.searchsorted(table.start, places.start[0])) if len(table) else 0
    if not np.array_equal(table.start[first:], places.start):
        return "bars are missing"
    if any(mask.any() for mask in faults(table).values()) or spikes(table.close).any():
        return "some bars make no sense"
    if not table.volume[max(0, first - 1) :].all():
        return "nothing was traded in some bars"
    prices = np.column_stack((table.open, table.high, table.low, table.close)).ravel() if len(table) else np.ones(1)
    steps = prices[1:] / prices[:-1]
    most = 1 + float(plan.limits.max_bar_gap)
    if len(steps) and (steps.max() >= most * (1 - 1e-9) or steps.min() <= (1 / most) * (1 + 1e-9)):
        return "a price lies far from the one before it"
    return ""


def lanes_of(plan: BacktestPlan, tables: Mapping[str, BarTable], places: Grid) -> list[Lane]:
    """Every lane, in the order of strategies and symbols."""
    prices = {
        symbol: Prices(symbol, table, int(np.searchsorted(table.start, places.start[0])), places, plan.limits)
        for symbol, table in tables.items()
    }
    return [_lane(spec, prices[symbol], places) for spec in plan.strategies for symbol in spec.symbols]


def _lane(spec: StrategySpec, prices: Prices, places: Grid) -> Lane:
    needed = {*required_indicators(spec.agent), *_SIZED_BY}
    whole = indicators.compute(tuple(sorted(needed)), prices.table)
    table = {**whole, **indicators.price_columns(prices.table)}
    first = prices.first
    agent, max_bars = spec.agent, 0
    confidence: Callable[[int, bool], Decimal] = _certain
    match agent:
        case ExpressionAgent():
            enter, leave = _holds(agent.enter_when, table), _holds(agent.exit_when, table)
            max_bars = agent.max_bars
        case AnalyzerAgent():
            scores = analyzer.score_columns(table)
            enter, leave = scores >= analyzer.BUY_FROM, (scores >= 0) & (scores < analyzer.EXIT_BELOW)
            confidence = _scored(scores[first:])
        case ModelAgent():
            raise TypeError("a model has no columns")
        case _:
            assert_never(agent)
    return Lane(
        spec, prices, {name: values[first:] for name, values in whole.items()}, next_true(enter[first:] & places.decides),
        next_true(leave[first:] & places.decides), confidence, max_bars, next_true(places.decides),
    )


def _holds(text: str, columns: Mapping[str, Floats]) -> Flags:
    if not text.strip():
        return np.zeros(len(columns["close"]), np.bool_)
    expression = parse(text)
    known = np.logical_and.reduce([np.isfinite(columns[name]) for name in names(expression)]) if names(expression) else True
    found: Flags = evaluate(expression, columns) & known
    return found


def _certain(_at: int, _held: bool) -> Decimal:
    return Decimal(1)


def _scored(scores: npt.NDArray[np.int64]) -> Callable[[int, bool], Decimal]:
    def confidence(at: int, held: bool) -> Decimal:
        score = Decimal(int(scores[at])) / 100
        return 1 - score if held else score

    return confidence


def next_true(flags: Flags) -> Places:
    """For each place the next one that is True, itself included; `_ENDLESS` where there is none."""
    places = np.where(flags, np.arange(len(flags)), _ENDLESS)
    found: Places = np.minimum.accumulate(places[::-1])[::-1]
    return np.append(found, _ENDLESS)


