"""The ground: every bar's prices on one grid, what is computed from them, and what cannot be told of them.

It depends on the bars alone, and is laid once for any number of plans. Indicators, expressions, average volume and the volatility breaker
are those that live computes bar by bar. What keeps a plan from being run by columns is said by `Unfit`: then the stepped engine does it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt

from trading_pipeline.domain import indicators
from trading_pipeline.domain.adjustments import Split, split_adjusted
from trading_pipeline.domain.bar_quality import SPIKE, VOLUME_SESSIONS, VOLUME_SESSIONS_LEAST, average_day_volume, faults, grid, spikes
from trading_pipeline.domain.bars import BarTable, Floats, Interval
from trading_pipeline.domain.expressions import evaluate, names, parse
from trading_pipeline.domain.indicator_standard import STANDARD
from trading_pipeline.domain.indicators import IndicatorSpec
from trading_pipeline.domain.limits import AccountLimits
from trading_pipeline.domain.sessions import TradingCalendar
from trading_pipeline.domain.volatility import BARS_NEEDED, HALF_STEP, Volatility, breaker, calm, folded, ratios_at
from trading_pipeline.service.backtests.columnar.asking import NOWHERE
from trading_pipeline.service.backtests.columnar.units import Flags, Numbers, blocks, peek, steps_of
from trading_pipeline.service.judging.causes import MOST_BEHIND
from trading_pipeline.service.market import HISTORY

_VOLUME_SESSIONS = 26
"""Sessions of bars that the average volume may look at, as live reads them."""
_MINUTE = 60_000_000_000


class Unfit(Exception):
    """What columns do not tell: the stepped engine has to run the plan."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The bars of the calendar that are decided on, and that fill; one index for all symbols.

    A decision at bar `i` is carried out at the open of bar `i + 1`. Daily bars begin with the session before the first. Sessions, and
    minutes within them, of which nobody has a bar are left out.
    """

    start: Numbers
    end: Numbers
    session_of: Numbers
    """Of each bar, the number of its session in `days`."""
    days: tuple[date, ...]
    decides: Flags
    """Bars whose close is decided at: not the last of all, nor the last of an intraday session (D27), nor one before a gap."""
    gapped: Flags
    """Bars after which a minute of their session has none: there is no quote at their close, so nobody decides."""
    daily: bool
    last_of: Numbers
    """Of each session, its last bar."""

    def __len__(self) -> int:
        return len(self.start)


class Prices:
    """One symbol's bars on the grid, the history before them, and what was computed from them so far."""

    def __init__(self, table: BarTable, places: Grid) -> None:
        first = int(np.searchsorted(table.start, places.start[0])) if len(table) else 0
        self.symbol, self.table, self.first, self.grid = table.symbol, table, first, places
        if not np.array_equal(table.start[first:], places.start):
            raise Unfit(f"{table.symbol} lacks bars that others have")
        if any(mask.any() for mask in faults(table).values()):
            raise Unfit(f"some bars of {table.symbol} make no sense")
        if self.widest_step(HISTORY) >= SPIKE - 1 and spikes(table.close[max(0, first - HISTORY) :]).any():
            raise Unfit(f"some closes of {table.symbol} lie far from both neighbours")
        if not table.volume[max(0, first - 1) :].all():
            raise Unfit(f"nothing of {table.symbol} was traded in some bars")
        self.open, self.high, self.low = table.open[first:], table.high[first:], table.low[first:]
        self.close, self.volume = table.close[first:], table.volume[first:]
        self._columns: dict[str, Floats] = {}
        self._computed: set[IndicatorSpec] = set()
        self._begun_by: dict[tuple[IndicatorSpec, int], bool] = {}
        self._holds: dict[str, Numbers] = {}
        self._shares_of_volume: dict[Decimal, Callable[[int], int]] = {}
        self._ratios: dict[int, tuple[int, Floats]] = {}
        self._breakers: dict[tuple[int, Decimal, Decimal], Volatility | None] = {}
        self._foreseen: dict[int, float] = {}
        self._calm_until: dict[Decimal, Callable[[int], int]] = {}

    @cached_property
    def opens(self) -> Sequence[int]:
        """Opens in steps."""
        return peek(steps_of(self.open))

    @cached_property
    def lows(self) -> Sequence[int]:
        """Lows in steps."""
        return peek(steps_of(self.low))

    @cached_property
    def highs(self) -> Sequence[int]:
        """Highs in steps."""
        return peek(steps_of(self.high))

    def widest_step(self, history: int) -> float:
        """The widest move from one price to the next within and between bars, so many before the grid included, of the lower price."""
        table = self.table.rows(max(0, self.first - history), len(self.table))
        widest = 1.0
        for rows in blocks(len(table)):
            between = table.open[rows.start + 1 : rows.stop + 1] / table.close[rows][: len(table) - rows.start - 1]
            widest = max(widest, (table.high[rows] / table.low[rows]).max(), between.max(initial=1), 1 / between.min(initial=1))
        return float(widest) - 1

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
        self._columns |= indicators.compute([spec for spec in specs if spec not in self._computed], self.table)
        self._computed.update(specs)
        return {name: self._columns[name] for spec in specs for name in indicators.columns_of(spec)}

    @cached_property
    def _longest_standstill(self) -> int:
        """Over how many bars the price did not move."""
        close = self.table.close
        moved = np.concatenate(([-1], np.flatnonzero(close[1:] != close[:-1]), [len(close) - 1]))
        return int(np.diff(moved).max())

    def begun_by(self, spec: IndicatorSpec, window: int) -> bool:
        """Whether an indicator's values hang on where the reading of bars begins, as running totals do: live reads so many."""
        if spec.name in STANDARD:
            # What is averaged over a standstill is nothing, and over all bars what was left of the moves before.
            averaged = STANDARD[spec.name].memory > 1
            return spec.name in indicators.RUNNING_TOTALS or (averaged and 2 * self._longest_standstill > window)
        if (spec, window) not in self._begun_by:
            whole, length = self.columns((spec,)), len(self.table)
            rows = [row for row in (length, length - 1, (length + window) // 2) if row > window]
            # Of too few bars some say nothing at all, and of more they say something from their first bar on.
            begun = [np.isfinite(each[self.first :]) for each in whole.values()]
            rows += [self.first + int(each.argmax()) + 1 for each in begun if each.any()]
            live = [indicators.compute((spec,), self.table.rows(max(0, row - window), row)) for row in rows]
            self._begun_by[spec, window] = not all(
                _newest_is(each[name], whole[name].item(row - 1)) for row, each in zip(rows, live, strict=True) for name in whole
            )
        return self._begun_by[spec, window]

    def holds(self, text: str, columns: Mapping[str, Floats]) -> Numbers:
        """For each bar the next one, itself included, that is decided at and where an expression holds; see `next_true`."""
        if text not in self._holds:
            self._holds[text] = next_true(_holds(text, {**columns, **self.priced})[self.first :] & self.grid.decides)
        return self._holds[text]

    @cached_property
    def _averages(self) -> Numbers:
        """By session of the grid, the mean volume of up to 20 sessions before it; 0 where fewer than 5 are known."""
        days = self.table.session_days
        first = np.flatnonzero(_begins(days))
        days = days[first]
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

    def average_volumes(self, bars: Numbers) -> tuple[Numbers, Flags]:
        """The same at many bars, and which are of a short history; 0 where nothing is known, or no whole number."""
        found, short = self._averages[self.grid.session_of[bars]], np.zeros(len(bars), np.bool_)
        for place in np.flatnonzero(found == 0).tolist():
            volume = self.average_volume(bars.item(place))
            if volume is not None and volume[0] == int(volume[0]):
                found[place], short[place] = int(volume[0]), volume[1]
        return found, short

    def share_of_volume(self, share: Decimal) -> Callable[[int], int]:
        """By bar that is decided at, so many shares are the given share of the average volume; 0 where nothing is known of it."""
        if share not in self._shares_of_volume:
            by_session, session_of = [int(each * share) for each in self._averages.tolist()], peek(self.grid.session_of)

            @cache
            def of_short_history(at: int) -> int:
                volume = self.average_volume(at)
                return 0 if volume is None else int(volume[0] * share)

            self._shares_of_volume[share] = lambda at: by_session[session_of[at]] or of_short_history(at)
        return self._shares_of_volume[share]

    def capacity(self, share: Decimal) -> Callable[[int], int]:
        """By bar, how many shares one order may take in it: of the volume of the bar before, and one at least."""
        numerator, denominator = share.as_integer_ratio()
        volume, before = peek(self.table.volume), self.first - 1
        return lambda at: max(1, int(volume[before + at]) * numerator // denominator) if before + at >= 0 else 1

    def may_trip(self, limits: AccountLimits) -> bool:
        """Whether the volatility breaker could trip at all: it never measures a range by less than a cent."""
        least = 0.01 * float(limits.volatility_trip)
        return float(self.table.high.max() - self.table.low.min()) >= least and self.widest_range >= least

    def calm_until(self, trip: Decimal) -> Callable[[int], int]:
        """By session of the grid, the first bar that may trip the breaker in it; NOWHERE where none does. Intraday, looked up once."""
        if trip not in self._calm_until:

            @cache
            def found(session: int) -> int:
                begin, ratios = self._measured(session)
                over = np.flatnonzero(ratios >= float(trip) - HALF_STEP)
                return begin + int(over[0]) if len(over) else NOWHERE

            self._calm_until[trip] = found
        return self._calm_until[trip]

    def _measured(self, session: int) -> tuple[int, Floats]:
        """An intraday session's first bar, and the volatility of all its bars."""
        if session not in self._ratios:
            begin, end = self.grid.session_of.searchsorted((session, session + 1)).tolist()
            earliest = max(0, self.first + begin - BARS_NEEDED[self.table.interval])
            rows = np.arange(self.first + begin, self.first + end) - earliest
            self._ratios[session] = begin, ratios_at(self.table.rows(earliest, self.first + end), rows)
        return self._ratios[session]

    def foresee(self, bars: Sequence[int], limits: AccountLimits) -> None:
        """Measure the volatility as of the decisions at some bars at once, where it cannot trip the breaker anyway."""
        if bars and not self.grid.daily and not self.may_trip(limits):
            self._foreseen = dict(zip(bars, ratios_at(self.table, np.array(bars) + self.first).tolist(), strict=True))

    def foreseen(self, bars: Numbers) -> Floats:
        """The volatility as of the decisions at some bars, all of them foreseen; NaN where it is not known."""
        return np.array([self._foreseen[bar] for bar in bars.tolist()])

    def volatility(self, at: int, limits: AccountLimits) -> Volatility | None:
        """The breaker as of the decision at a bar."""
        if at in self._foreseen and not self.may_trip(limits):
            return calm(self._foreseen[at])
        trip, clear = limits.volatility_trip, limits.volatility_clear
        if (at, trip, clear) not in self._breakers:
            row = self.first + at + 1
            if self.grid.daily:
                found = breaker(self.table.rows(max(0, row - BARS_NEEDED[self.table.interval]), row), trip, clear)
            else:
                begin, ratios = self._measured(self.grid.session_of.item(at))
                found = folded(ratios[: at + 1 - begin], self.grid.end[begin : at + 1], trip, clear)
            self._breakers[at, trip, clear] = found
        return self._breakers[at, trip, clear]


@dataclass(frozen=True, slots=True)
class Ground:
    """Bars on which plans are played."""

    grid: Grid
    prices: Mapping[str, Prices]
    decides: Numbers
    """For each bar the next one, itself included, that is decided at."""


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
    day_of = start.view("datetime64[ns]").astype("datetime64[D]")
    begins = _begins(day_of)
    known = np.logical_or.reduce([_days_with_bars(table, day_of[begins]) for table in tables.values()])
    if not known.all():
        if interval.daily:
            raise Unfit("bars of whole sessions are missing")
        of_known = known[np.cumsum(begins) - 1]
        start, end, day_of, begins = start[of_known], end[of_known], day_of[of_known], begins[of_known]
    traded = np.logical_or.reduce([_traded(table, start) for table in tables.values()])
    if not traded.all():
        if not (traded[begins].all() and traded[np.append(begins[1:], True)].all()):
            raise Unfit("the first or the last bar of a session is missing")
        start, end, day_of, begins = start[traded], end[traded], day_of[traded], begins[traded]
    begin_at = np.append(np.flatnonzero(begins), len(start))
    numbers = np.repeat(np.arange(len(begin_at) - 1), np.diff(begin_at))
    decides, gapped = np.ones(len(start), np.bool_), np.zeros(len(start), np.bool_)
    if not interval.daily:
        decides[:-1] = end[:-1] == start[1:]
        gapped[:-1] = ~decides[:-1] & ~begins[1:]
        if ((start[1:] - end[:-1])[gapped[:-1]] > MOST_BEHIND * interval.minutes * _MINUTE).any():
            raise Unfit(f"more than {MOST_BEHIND} bars in a row are missing, where live waits for data")
    decides[-1:] = False
    return Grid(start, end, numbers, tuple(day_of[begins].tolist()), decides, gapped, interval.daily, begin_at[1:] - 1)


def _traded(table: BarTable, start: Numbers) -> Flags:
    """Which of these bars it has."""
    known = table.start[int(table.start.searchsorted(start[0])) :] if len(start) else start
    if np.array_equal(known, start):
        return np.ones(len(start), np.bool_)
    found: Flags = np.isin(start, known, assume_unique=True)
    return found


def _days_with_bars(table: BarTable, days: npt.NDArray[np.datetime64]) -> Flags:
    begin, end = (each.astype("datetime64[ns]").astype(np.int64) for each in (days, days + 1))
    found: Flags = table.start.searchsorted(begin) < table.start.searchsorted(end)
    return found


def _begins(days: npt.NDArray[np.datetime64]) -> Flags:
    """Which bars are the first of their session."""
    return np.append(np.ones(min(1, len(days)), np.bool_), days[1:] != days[:-1])


def _holds(text: str, columns: Mapping[str, Floats]) -> Flags:
    """Where it holds; nowhere where one of its columns has no value, as the rules agent abstains there."""
    if not text.strip():
        return np.zeros(len(columns["close"]), np.bool_)
    expression = parse(text)
    found = evaluate(expression, columns)
    for name in names(expression):
        found &= np.isfinite(columns[name])
    return found


def _newest_is(column: Floats, value: float) -> bool:
    """Whether a column ends with a value, measured by the largest in it."""
    largest = np.abs(column[np.isfinite(column)]).max(initial=0)
    return bool(np.isclose(column[-1], value, 1e-9, 1e-9 * largest, equal_nan=True))


def next_true(flags: Flags) -> Numbers:
    """For each place the next one that is True, itself included; NOWHERE where there is none, and one place beyond the last."""
    found = np.full(len(flags) + 1, NOWHERE)
    places = np.flatnonzero(flags)
    found[places] = places
    np.minimum.accumulate(found[::-1], out=found[::-1])
    return found
