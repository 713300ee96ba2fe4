"""Lanes: one strategy in one symbol, with every bar's prices and the bars at which its rules say something.

The rules are evaluated over whole columns by the code that evaluates them live, bar by bar; so are the volatility breaker and
the average volume, at the bars that are asked about. What depends on the bars alone is the ground, on which any number of plans are
played; it is laid once. What keeps a plan from being run by columns is said by `Unfit`: then the stepped engine does it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import assert_never

import numpy as np
import numpy.typing as npt

from trading_pipeline.domain import analyzer, indicators
from trading_pipeline.domain.adjustments import Split, split_adjusted
from trading_pipeline.domain.agents import required_indicators
from trading_pipeline.domain.backtests import BacktestPlan
from trading_pipeline.domain.bar_quality import VOLUME_SESSIONS, VOLUME_SESSIONS_LEAST, average_day_volume, faults, grid, spikes
from trading_pipeline.domain.bars import BarTable, Floats, Interval
from trading_pipeline.domain.expressions import evaluate, names, parse
from trading_pipeline.domain.indicators import IndicatorSpec
from trading_pipeline.domain.limits import AccountLimits
from trading_pipeline.domain.sessions import TradingCalendar
from trading_pipeline.domain.strategies import AnalyzerAgent, Entry, ExpressionAgent, Mode, ModelAgent, StrategySpec
from trading_pipeline.domain.volatility import BARS_NEEDED, Volatility, breaker
from trading_pipeline.service.market import HISTORY

Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]

SIZED_BY = tuple(indicators.indicator(name) for name in ("atr_14", "sma_20"))
NOWHERE = 1 << 40
"""Beyond every bar."""
_VOLUME_SESSIONS = 26
"""Sessions of bars that the average volume may look at, as live reads them."""


class Unfit(Exception):
    """What columns do not tell: the stepped engine has to run the plan."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The bars of the calendar that are decided on, and that fill; one index for all symbols.

    A decision at bar `i` is carried out at the open of bar `i + 1`. Daily bars begin with the session before the first. Sessions of
    which nobody has a bar are left out.
    """

    start: Numbers
    end: Numbers
    session_of: Numbers
    """Of each bar, the number of its session in `days`."""
    days: tuple[date, ...]
    decides: Flags
    """Bars whose close is decided at: not the last of an intraday session (D27), nor the last of all."""
    daily: bool
    last_of: Numbers
    """Of each session, its last bar."""

    def __len__(self) -> int:
        return len(self.start)


class Prices:
    """One symbol's bars on the grid, the history before them, and what was computed from them so far."""

    def __init__(self, table: BarTable, places: Grid) -> None:
        first = int(np.searchsorted(table.start, places.start[0])) if len(table) else 0
        if not np.array_equal(table.start[first:], places.start):
            raise Unfit(f"{table.symbol} lacks bars")
        if any(mask.any() for mask in faults(table).values()) or spikes(table.close[max(0, first - HISTORY) :]).any():
            raise Unfit(f"some bars of {table.symbol} make no sense")
        if not table.volume[max(0, first - 1) :].all():
            raise Unfit(f"nothing of {table.symbol} was traded in some bars")
        self.symbol, self.table, self.first, self.grid = table.symbol, table, first, places
        self.open, self.high, self.low = table.open[first:], table.high[first:], table.low[first:]
        self.close, self.volume = table.close[first:], table.volume[first:]
        self._columns: dict[IndicatorSpec, dict[str, Floats]] = {}
        self._holds: dict[str, Numbers] = {}
        self._most: dict[tuple[int, Decimal], int] = {}
        self._capacity: dict[Decimal, list[int]] = {}
        self._breaker: tuple[int, AccountLimits, Volatility | None] | None = None
        """The newest: an order is judged at its proposal and at the gate."""

    @cached_property
    def lows(self) -> list[float]:
        """Lows as plain numbers: looking at a few of them one by one is quicker than asking numpy."""
        found: list[float] = self.low.tolist()
        return found

    @cached_property
    def highs(self) -> list[float]:
        """The same of highs."""
        found: list[float] = self.high.tolist()
        return found

    def widest_step(self, history: int) -> float:
        """The widest move from one price to the next within and between bars, so many before the grid included, of the lower price."""
        rows = slice(max(0, self.first - history), None)
        prices = np.column_stack((self.table.open[rows], self.table.high[rows], self.table.low[rows], self.table.close[rows])).ravel()
        steps = prices[1:] / prices[:-1]
        return float(max(steps.max(), 1 / steps.min())) - 1

    @cached_property
    def widest_range(self) -> float:
        """The widest true range in USD."""
        before = np.concatenate((self.table.open[:1], self.table.close[:-1]))
        return float((np.maximum(self.table.high, before) - np.minimum(self.table.low, before)).max())

    @cached_property
    def widest_swing(self) -> float:
        """How far apart the prices of two sessions in a row lie at most, of the lower one."""
        first = self.grid.session_of.searchsorted(np.arange(len(self.grid.days)))
        highs, lows = np.maximum.reduceat(self.high, first), np.minimum.reduceat(self.low, first)
        highs, lows = np.maximum(highs, np.append(highs[1:], 0)), np.minimum(lows, np.append(lows[1:], np.inf))
        return float((highs / lows).max()) - 1

    @cached_property
    def priced(self) -> dict[str, Floats]:
        """Price columns with their history."""
        return indicators.price_columns(self.table)

    def columns(self, specs: Sequence[IndicatorSpec]) -> dict[str, Floats]:
        """Columns of indicators with their history."""
        missing = [spec for spec in specs if spec not in self._columns]
        for spec in missing:
            self._columns[spec] = indicators.compute((spec,), self.table)
        return {name: values for spec in specs for name, values in self._columns[spec].items()}

    def holds(self, text: str, columns: Mapping[str, Floats]) -> Numbers:
        """For each bar the next one, itself included, that is decided at and where an expression holds; see `next_true`."""
        if text not in self._holds:
            self._holds[text] = next_true(_holds(text, {**columns, **self.priced})[self.first :] & self.grid.decides)
        return self._holds[text]

    @cached_property
    def _averages(self) -> Numbers:
        """By session of the grid, the mean volume of up to 20 sessions before it; 0 where fewer than 5 are known."""
        days, first = np.unique(self.table.session_days, return_index=True)
        total = np.append(0, np.cumsum(np.add.reduceat(self.table.volume, first)))
        own = np.searchsorted(days, np.array(self.grid.days, "datetime64[D]")) + self.grid.daily
        known = np.minimum(own, VOLUME_SESSIONS)
        sums = total[own] - total[own - known]
        found: Numbers = np.where(known >= VOLUME_SESSIONS_LEAST, np.rint(sums / np.maximum(known, 1)), 0).astype(np.int64)
        return found

    def average_volume(self, at: int) -> tuple[Decimal, bool] | None:
        """Shares a session as of the decision at a bar, see `bar_quality.average_day_volume`."""
        session = self.grid.session_of.item(at)
        average = self._averages.item(session)
        if average:
            return Decimal(average), False
        # Of a short history the session's own bars count as well: that is another at every bar.
        row = self.first + at + 1
        bars = _VOLUME_SESSIONS * -(-390 // self.table.interval.minutes)
        return average_day_volume(self.table.rows(max(0, row - bars), row), self.grid.days[session + self.grid.daily])

    def most_shares(self, at: int, share: Decimal) -> int | None:
        """So many shares are the given share of the average volume; None when nothing is known of it."""
        place = self.grid.session_of.item(at), share
        if place not in self._most:
            average = self._averages.item(place[0])
            if not average:
                short = self.average_volume(at)
                return None if short is None else int(short[0] * share)
            self._most[place] = int(average * share)
        return self._most[place]

    def capacity(self, share: Decimal) -> list[int]:
        """By bar of the grid, how many shares one order may take in it: of the volume of the bar before, and one at least."""
        if share not in self._capacity:
            numerator, denominator = share.as_integer_ratio()
            before = np.append(self.table.volume[self.first - 1] if self.first else 0, self.volume[:-1]).astype(np.int64)
            exact = before * numerator // denominator if numerator < 1 << 20 else [int(share * each) for each in before.tolist()]
            self._capacity[share] = np.maximum(exact, 1).tolist()
        return self._capacity[share]

    def may_trip(self, limits: AccountLimits) -> bool:
        """Whether the volatility breaker could trip at all: it never measures a range by less than a cent."""
        return self.widest_range / 0.01 >= float(limits.volatility_trip)

    def volatility(self, at: int, limits: AccountLimits) -> Volatility | None:
        """The breaker as of the decision at a bar."""
        if self._breaker is None or self._breaker[:2] != (at, limits):
            row = self.first + at + 1
            table = self.table.rows(max(0, row - BARS_NEEDED[self.table.interval]), row)
            self._breaker = at, limits, breaker(table, limits.volatility_trip, limits.volatility_clear)
        return self._breaker[2]


@dataclass(frozen=True, slots=True)
class Ground:
    """Bars on which plans are played."""

    grid: Grid
    prices: Mapping[str, Prices]
    decides: Numbers
    """For each bar the next one, itself included, that is decided at."""


@dataclass(slots=True)
class Lane:
    """One strategy in one symbol."""

    spec: StrategySpec
    prices: Prices
    columns: Mapping[str, Floats]
    """What sizing reads, on the grid."""
    enter: Numbers
    """For each bar the next one, itself included, at which a flat lane wants to buy; NOWHERE where there is none."""
    leave: Numbers
    """The same of one that is held, apart from its `max_bars`."""
    decides: Numbers
    confidence: Callable[[int, bool], Decimal]
    """(bar, held) to how sure the rules are."""
    max_bars: int = 0
    symbol: str = field(init=False)

    def __post_init__(self) -> None:
        self.symbol = self.prices.symbol


def ground_of(
    tables: Mapping[str, BarTable], splits: Mapping[str, tuple[Split, ...]], calendar: TradingCalendar, first: date, last: date,
) -> Ground:
    """The ground of some symbols' bars from one session to another.

    Args:
        tables: Of one interval, with the history before the first session.

    Raises:
        Unfit: Columns do not tell what happens on these bars.
    """
    for symbol in tables:
        if any(first < split.session <= last for split in splits.get(symbol, ())):
            raise Unfit(f"{symbol} splits on the way")
    tables = {symbol: split_adjusted(table, splits.get(symbol, ()), first) for symbol, table in tables.items()}
    places = _grid(tables, calendar, first, last)
    if not len(places):
        raise Unfit("there are no bars")
    return Ground(places, {symbol: Prices(table, places) for symbol, table in tables.items()}, next_true(places.decides))


def _grid(tables: Mapping[str, BarTable], calendar: TradingCalendar, first: date, last: date) -> Grid:
    interval: Interval = next(iter(tables.values())).interval
    opening = calendar.between(first, last)[0].day
    if interval.daily and opening > calendar.first.day:
        opening = calendar.previous(opening).day
    start, end = grid(calendar, interval, opening, last)
    day_of = start.astype("datetime64[ns]").astype("datetime64[D]")
    known = np.isin(day_of, np.concatenate([np.unique(table.session_days) for table in tables.values()]))
    if interval.daily and not known.all():
        raise Unfit("bars of whole sessions are missing")
    if not known.all():
        start, end, day_of = start[known], end[known], day_of[known]
    begins = np.append(True, day_of[1:] != day_of[:-1]) if len(day_of) else np.zeros(0, np.bool_)
    numbers = np.cumsum(begins) - 1
    decides = np.ones(len(start), np.bool_)
    if not interval.daily:
        decides[:-1] = ~begins[1:]
    decides[-1:] = False
    last_of = np.append(np.flatnonzero(begins)[1:] - 1, len(start) - 1)
    return Grid(start, end, numbers.astype(np.int64), tuple(day_of[begins].tolist()), decides, interval.daily, last_of.astype(np.int64))


def lanes_of(plan: BacktestPlan, ground: Ground) -> list[Lane]:
    """Every lane of a plan, in the order in which a cycle asks: by the strategy's name, then its symbols.

    Raises:
        Unfit: Columns do not tell what the plan does.
    """
    if len(plan.symbols) < sum(len(spec.symbols) for spec in plan.strategies):
        raise Unfit("two strategies trade the same symbol")
    if plan.limits.max_day_risk is not None:
        raise Unfit("the account has a limit on the day's risk")
    needed = {spec for each in plan.strategies for spec in (*required_indicators(each.agent), *each.indicators, *SIZED_BY)}
    seen = max(HISTORY, indicators.history(needed))
    for symbol in plan.symbols:
        if ground.prices[symbol].widest_step(seen) >= float(plan.limits.max_bar_gap) * (1 - 1e-9):
            raise Unfit(f"a price of {symbol} lies far from the one before it")
    strategies = sorted(plan.strategies, key=lambda spec: spec.name)
    return [_lane(spec, ground.prices[symbol], ground) for spec in strategies for symbol in spec.symbols]


def _lane(spec: StrategySpec, prices: Prices, ground: Ground) -> Lane:
    reason = _why_not(spec)
    if reason:
        raise Unfit(f"{spec.name}: {reason}")
    agent, max_bars = spec.agent, 0
    columns = prices.columns(tuple(dict.fromkeys((*required_indicators(agent), *SIZED_BY))))
    confidence: Callable[[int, bool], Decimal] = _certain
    match agent:
        case ExpressionAgent():
            enter, leave = prices.holds(agent.enter_when, columns), prices.holds(agent.exit_when, columns)
            max_bars = agent.max_bars
        case AnalyzerAgent():
            scores = analyzer.score_columns({**columns, **prices.priced})[prices.first :]
            enter = next_true((scores >= analyzer.BUY_FROM) & ground.grid.decides)
            leave = next_true((scores >= 0) & (scores < analyzer.EXIT_BELOW) & ground.grid.decides)
            confidence = _scored(scores)
        case ModelAgent():
            raise Unfit("a model decides")
        case _:
            assert_never(agent)
    sized_by = {name: columns[name][prices.first :] for name in ("atr_14", "sma_20")}
    return Lane(spec, prices, sized_by, enter, leave, ground.decides, confidence, max_bars)


def _why_not(spec: StrategySpec) -> str:
    if isinstance(spec.agent, ModelAgent):
        return "a model decides"
    if spec.mode is not Mode.AUTONOMOUS:
        return "a person approves its orders"
    if spec.sizing.entry is not Entry.NOW:
        return "its entries rest at a limit"
    if spec.limits.max_day_risk is not None:
        return "it has a limit on the day's risk"
    return ""


def _holds(text: str, columns: Mapping[str, Floats]) -> Flags:
    """Where it holds; nowhere where one of its columns has no value, as the rules agent abstains there."""
    if not text.strip():
        return np.zeros(len(columns["close"]), np.bool_)
    expression = parse(text)
    found = evaluate(expression, columns)
    for name in names(expression):
        found &= np.isfinite(columns[name])
    return found


def _certain(_at: int, _held: bool) -> Decimal:
    return _ONE


_ONE = Decimal(1)


def _scored(scores: Numbers) -> Callable[[int, bool], Decimal]:
    def confidence(at: int, held: bool) -> Decimal:
        score = Decimal(int(scores[at])) / 100
        return 1 - score if held else score

    return confidence


def next_true(flags: Flags) -> Numbers:
    """For each place the next one that is True, itself included; NOWHERE where there is none, and one place beyond the last."""
    places = np.flatnonzero(flags)
    found: Numbers = np.append(places, NOWHERE)[np.searchsorted(places, np.arange(len(flags) + 1))]
    return found
