"""Tables of bars for the tests of indicators, expressions and charts, and whether one lies where the calendar has bars."""

from datetime import UTC, datetime

import numpy as np
from hypothesis import strategies as st

from trading_pipeline.domain.bars import BarTable, Interval, instant_ns, instant_of
from trading_pipeline.domain.sessions import TradingCalendar

DAY = 86_400_000_000_000
FIRST = instant_ns(datetime(2012, 1, 3, 14, 30, tzinfo=UTC))


def table(close, high=None, low=None, open_=None, volume=None, symbol="TEST") -> BarTable:
    """Daily bars from closes; a missing column is the close, volume is 1,000."""
    close = np.asarray(close, np.float64)
    start = FIRST + DAY * np.arange(len(close), dtype=np.int64)
    pick = lambda values: close.copy() if values is None else np.asarray(values, np.float64)  # noqa: E731
    return BarTable(
        symbol, Interval.DAY1, start, start + 23_400_000_000_000, pick(open_), pick(high), pick(low), close,
        np.full(len(close), 1000.0) if volume is None else np.asarray(volume, np.float64),
    )


def off_the_calendar(table: BarTable, calendar: TradingCalendar) -> list[datetime]:
    """Starts of the bars that are not exactly a bar of the calendar."""
    days = {day.astype(object) for day in np.unique(table.session_days)}
    sessions = calendar.between(min(days), max(days)) if days else ()
    slots = (slot for each in sessions if each.day in days for slot in calendar.slots(each, table.interval))
    known = {(instant_ns(slot.start), instant_ns(slot.end)) for slot in slots}
    return [instant_of(start) for start, end in zip(table.start, table.end, strict=True) if (int(start), int(end)) not in known]


def minutes(first: datetime, close, volume, high=None, low=None) -> BarTable:
    """One-minute bars from an instant on."""
    close = np.asarray(close, np.float64)
    start = instant_ns(first) + 60_000_000_000 * np.arange(len(close), dtype=np.int64)
    high = close if high is None else np.asarray(high, np.float64)
    low = close if low is None else np.asarray(low, np.float64)
    return BarTable("TEST", Interval.MIN1, start, start + 60_000_000_000, close, high, low, close, np.asarray(volume, np.float64))


def wandering(length: int, seed: int = 7, symbol: str = "TEST") -> BarTable:
    """A random walk with ranges and volume."""
    draw = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(draw.normal(0, 0.012, length)))
    open_ = close * (1 + draw.normal(0, 0.004, length))
    high = np.maximum(open_, close) * (1 + np.abs(draw.normal(0, 0.004, length)))
    low = np.minimum(open_, close) * (1 - np.abs(draw.normal(0, 0.004, length)))
    return table(close, high, low, open_, np.floor(draw.uniform(1e5, 2e6, length)), symbol)


@st.composite
def tables(draw, min_size=1, max_size=260):
    """Markets with flat stretches, jumps and minutes without volume."""
    length = draw(st.integers(min_size, max_size))
    market = wandering(length, draw(st.integers(0, 2**32 - 1)))
    close, high, low, volume = market.close.copy(), market.high.copy(), market.low.copy(), market.volume.copy()
    begin = draw(st.integers(0, length))
    end = min(length, begin + draw(st.integers(0, 40)))
    if end > begin:
        close[begin:end] = high[begin:end] = low[begin:end] = close[begin]
        volume[begin:end] = 0
    return table(close, high, low, np.clip(market.open, low, high), volume)


