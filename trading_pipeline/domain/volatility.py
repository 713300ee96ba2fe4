"""The volatility breaker of one symbol (D13): when it trips, and when it lets entries go again.

Measure: each bar's true range as a fraction of its close, divided by the median true range of the same time of day over the
12 sessions before; the mean of that over the newest 5 bars. True range: Wilder, New Concepts in Technical Trading Systems
(1978), p. 21. The same time of day, because ranges after the open are three times those of noon every day (Wood, McInish and
Ord, Journal of Finance 40, 1985; Andersen and Bollerslev, Journal of Empirical Finance 4, 1997): measured by the 60 bars
just before, AAPL and COST would trip on two mornings of three. Daily bars have one time of day: the median is that of the 60
bars before.

At 3 and 2 it trips, on 5-minute bars, on 5 to 8 % of the days and blocks 1.0 to 1.8 % of the bars in quieter years (TSLA and AAPL
2022, SPY 2022-23, COST 2023-25); on 10 to 22 % of the days and 2.7 to 6.0 % of the bars in a year with a crash in it (MSFT, AAPL, SPY
2024-25). On daily bars it trips once in two to five years (SPY 14 times in 31 years) and blocks 0.2 to 1.7 % of the days.

The state is a fold over closed bars and nothing else, so a restart or a replay has the same.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from trading_pipeline.domain.bars import BarTable, Floats, Interval, instant_ns, instant_of
from trading_pipeline.domain.sessions import NEW_YORK

NEWEST: Final = 5
"""Bars whose mean is measured."""
BASELINE: Final = 60
"""Daily bars before them that they are measured by."""
SESSIONS: Final = 12
"""Sessions before an intraday bar's that it is measured by, each with the bars within AROUND of its time of day: 60 bars."""
AROUND: Final = 2
ENOUGH: Final = BASELINE // 2
"""Of those so many must be there: gaps in the history are no calm."""
DAILY_FOLD: Final = 60
"""Daily bars over which the state is folded; intraday it begins clear with each session."""
LEAST_BLOCK: Final = timedelta(minutes=5)
"""A tripped breaker stays for this long after the last bar that would have tripped it, in the time of bars."""
BARS_NEEDED: Final = {interval: (SESSIONS + 3) * -(-390 // interval.minutes) for interval in Interval} | {
    Interval.DAY1: BASELINE + NEWEST + DAILY_FOLD
}
"""How many bars to read so that the state does not depend on where the reading began."""
HALF_STEP: Final = 0.0051
"""A ratio that is lower by more is not rounded up to the one it is compared with."""
_LEAST_BASE = 0.01
"""USD: a median range below one tick is no measure, as of a symbol that hardly trades."""


Rows = npt.NDArray[np.int64]
Days = npt.NDArray[np.datetime64]


@dataclass(frozen=True, slots=True)
class Volatility:
    """One symbol's breaker as of its newest bar; `ratio` to the hundredth, which is what is compared."""

    ratio: Decimal
    tripped: bool
    since: datetime | None
    """The end of the bar that tripped it; None while it is clear."""


def breaker(table: BarTable, trip: Decimal, clear: Decimal) -> Volatility | None:
    """The breaker after the newest bar; None where the history is too short to measure it.

    Args:
        table: Closed bars on one share scale, bad prints left out; the newest BARS_NEEDED of them.
        trip: Ratio from which entries are blocked.
        clear: Ratio below which they are let go again, LEAST_BLOCK later at the earliest.
    """
    ratios = _ratios(table)
    return folded(ratios, table.end[len(table) - len(ratios) :], trip, clear)


def folded(ratios: Floats, ends: Rows, trip: Decimal, clear: Decimal) -> Volatility | None:
    """The breaker after bars with these measures, of which it was clear before; intraday those of a session."""
    if not len(ratios) or not np.isfinite(ratios[-1]):
        return None
    if not (ratios >= float(trip) - HALF_STEP).any():
        return calm(ratios[-1])
    least = min(clear, trip)
    since: datetime | None = None
    last = instant_of(ends[-1])
    for ratio, end in zip(ratios, ends, strict=True):
        if not np.isfinite(ratio):
            continue
        at, measured = instant_of(end), _hundredth(ratio)
        if measured >= trip:
            since, last = since or at, at
        elif since is not None and measured < least and at - last >= LEAST_BLOCK:
            since = None
    return Volatility(_hundredth(ratios[-1]), since is not None, since)


def calm(ratio: float) -> Volatility | None:
    """The breaker where no bar of the session can have tripped it; None where the measure is not known."""
    return Volatility(_hundredth(ratio), False, None) if np.isfinite(ratio) else None


def _hundredth(ratio: float) -> Decimal:
    return Decimal(f"{ratio:.2f}")


def _ratios(table: BarTable) -> Floats:
    """The measure at each bar the state is folded over: of the newest session, or of the last DAILY_FOLD daily bars."""
    if len(table) < NEWEST + 1:
        return np.empty(0)
    relative = _daily(table) if table.interval.daily else _intraday(table)
    if len(relative) < NEWEST:
        return np.empty(0)
    ratios: Floats = sliding_window_view(relative, NEWEST).mean(axis=1)
    return ratios


def _true_range(table: BarTable) -> Floats:
    """As a fraction of the close; the first bar has no close before it and is its own range."""
    before = np.concatenate((table.open[:1], table.close[:-1]))
    found: Floats = (np.maximum(table.high, before) - np.minimum(table.low, before)) / table.close
    return found


def _daily(table: BarTable) -> Floats:
    """True ranges of the folded bars and the four before them, each measured by the median of its own 60 bars before."""
    ranges = _true_range(table)
    if len(ranges) <= BASELINE:
        return np.empty(0)
    base = np.median(sliding_window_view(ranges[:-1], BASELINE), axis=1)
    return _measured(ranges[BASELINE:], base, table.close[BASELINE:])[-(DAILY_FOLD + NEWEST - 1):]


def _intraday(table: BarTable) -> Floats:
    """True ranges of the newest session and the four bars before it, each measured by those of its time of day; NaN where unknown."""
    days, first = np.unique(table.session_days, return_index=True)
    if len(days) <= SESSIONS:
        return np.empty(0)
    return _by_time_of_day(table, days, first, np.arange(max(0, first[-1] - (NEWEST - 1)), len(table)))


def _by_time_of_day(table: BarTable, days: Days, first: Rows, wanted: Rows) -> Floats:
    """True ranges of some bars, each measured by the median of its time of day over the sessions before its own."""
    step = table.interval.minutes * 60_000_000_000
    opens = np.array([_opened_ns(day) for day in days], np.int64)
    day_of = np.repeat(np.arange(len(days)), np.diff(np.append(first, len(table))))
    slot_of = (table.start - opens[day_of]) // step
    ranges = _true_range(table)
    # Sessions before the first are unknown, and so is what lies beside a session.
    grid = np.full((SESSIONS + len(days), int(slot_of.max()) + 1 + 2 * AROUND), np.nan)
    grid[SESSIONS + day_of, slot_of + AROUND] = ranges
    before = day_of[wanted][:, None] + np.arange(SESSIONS)
    near = sliding_window_view(grid, 2 * AROUND + 1, axis=1)[before, slot_of[wanted][:, None]]
    return _measured(ranges[wanted], _medians(near.reshape(len(wanted), -1)), table.close[wanted])


def ratios_at(table: BarTable, rows: Rows) -> Floats:
    """The measure of intraday bars at some of them, as `breaker` has it of a table that ends there; NaN where it is not known.

    Args:
        rows: Their places, in order, each once.
    """
    found = np.full(len(rows), np.nan)
    days, first = np.unique(table.session_days, return_index=True)
    known = rows >= (first[SESSIONS] if len(days) > SESSIONS else len(table))
    if known.any():
        places = rows[known][:, None] + np.arange(1 - NEWEST, 1)
        wanted, back = np.unique(places, return_inverse=True)
        found[known] = _by_time_of_day(table, days, first, wanted)[back.reshape(places.shape)].mean(axis=1)
    return found


def _medians(rows: Floats) -> Floats:
    """Of the finite values in each row; NaN where they are fewer than ENOUGH."""
    known = np.isfinite(rows)
    ordered, count = np.sort(np.where(known, rows, np.inf), axis=1), known.sum(axis=1)
    each = np.arange(len(rows))
    middle = (ordered[each, (count - 1) // 2] + ordered[each, count // 2]) / 2
    found: Floats = np.where(count >= ENOUGH, middle, np.nan)
    return found


def _measured(ranges: Floats, base: Floats, close: Floats) -> Floats:
    found: Floats = ranges / np.maximum(base, _LEAST_BASE / close)
    return found


def _opened_ns(day: np.datetime64) -> int:
    """09:30 New York of a session's day."""
    return instant_ns(datetime.combine(day.astype(object), datetime.min.time(), NEW_YORK) + timedelta(hours=9, minutes=30))
