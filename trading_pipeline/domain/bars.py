"""Bars: intervals, one bar, and a table of bars as numpy columns.

A bar covers `start <= t < end`; both are UTC. Columns stay float64 for indicators; a single `Bar` on
the decision path is Decimal. Deliberately without pandas: the desk starts without it.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from trading_pipeline.domain.money import price_of

Floats = npt.NDArray[np.float64]
Instants = npt.NDArray[np.int64]
"""Nanoseconds since 1970-01-01 UTC."""


SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9.\-]{0,15}")
"""What a symbol looks like, such as `BRK.B`; it also names folders and files."""
COLUMNS = ("start", "end", "open", "high", "low", "close", "volume")
"""The columns of a BarTable, in order."""


class Interval(StrEnum):
    """How long a bar is. Intraday bars are anchored at the session's open; the last may be short."""

    MIN1 = "1min"
    MIN5 = "5min"
    MIN15 = "15min"
    HOUR1 = "1h"
    DAY1 = "1d"

    @property
    def minutes(self) -> int:
        """Nominal length in minutes; a daily bar is one whole session, given here as 390."""
        return {"1min": 1, "5min": 5, "15min": 15, "1h": 60, "1d": 390}[self.value]

    @property
    def daily(self) -> bool:
        """Whether one bar is one session."""
        return self is Interval.DAY1


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant_ns(at: datetime) -> int:
    """An aware datetime as nanoseconds since the epoch, exact to the microsecond."""
    delta = at - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000_000 + delta.microseconds * 1_000


def instant_of(ns: int) -> datetime:
    """Nanoseconds since the epoch as an aware UTC datetime."""
    seconds, rest = divmod(int(ns), 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1_000)


@dataclass(frozen=True, slots=True)
class Bar:
    """One closed bar of one symbol, prices in USD a share, volume in shares."""

    symbol: str
    interval: Interval
    start: datetime
    end: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: int


@dataclass(frozen=True, slots=True)
class BarTable:
    """Closed bars of one symbol and interval, strictly increasing in `start`; all columns of one length.

    `start`, `end` are int64 nanoseconds UTC; prices and volume are float64, finite.
    """

    symbol: str
    interval: Interval
    start: Instants
    end: Instants
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    def __len__(self) -> int:
        return len(self.start)

    def __eq__(self, other: object) -> bool:
        """Same symbol, interval and values in every row."""
        if not isinstance(other, BarTable):
            return NotImplemented
        return (self.symbol, self.interval) == (other.symbol, other.interval) and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in COLUMNS
        )

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def empty(cls, symbol: str, interval: Interval) -> Self:
        """A table of no bars."""
        ints, floats = np.empty(0, np.int64), np.empty(0, np.float64)
        return cls(symbol, interval, ints, ints, floats, floats, floats, floats, floats)

    def digest(self) -> str:
        """SHA-256 in hex over every value, symbol and interval included: equal tables have equal digests."""
        content = hashlib.sha256(f"{self.symbol} {self.interval} {len(self)}\n".encode())
        for name in COLUMNS:
            content.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return content.hexdigest()

    def rows(self, first: int, last: int) -> Self:
        """Bars `first <= i < last` as views, no copy."""
        cut = slice(first, last)
        columns = self.open[cut], self.high[cut], self.low[cut], self.close[cut], self.volume[cut]
        return type(self)(self.symbol, self.interval, self.start[cut], self.end[cut], *columns)

    def where(self, wanted: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Self:
        """The bars marked True, or those at the given positions in that order, as a copy."""
        columns: dict[str, Any] = {name: getattr(self, name)[wanted] for name in COLUMNS}
        return replace(self, **columns)

    def until(self, at: datetime) -> Self:
        """Bars that have closed by `at` (end <= at)."""
        return self.rows(0, int(np.searchsorted(self.end, instant_ns(at), side="right")))

    def since(self, at: datetime) -> Self:
        """Bars that start at or after `at`."""
        return self.rows(int(np.searchsorted(self.start, instant_ns(at), side="left")), len(self))

    def tail(self, count: int) -> Self:
        """The newest `count` bars, or all of them if there are fewer."""
        return self.rows(max(0, len(self) - count), len(self))

    def joined(self, newer: Self) -> Self:
        """This table followed by `newer`; rows of `newer` that do not start later are dropped."""
        if not len(self):
            return newer
        fresh = newer.rows(int(np.searchsorted(newer.start, self.start[-1], side="right")), len(newer))
        columns: dict[str, Any] = {name: np.concatenate((getattr(self, name), getattr(fresh, name))) for name in COLUMNS}
        return replace(self, **columns)

    def bar(self, index: int) -> Bar:
        """One row as a Bar; raises InputError for a price that is none."""
        return Bar(
            self.symbol,
            self.interval,
            instant_of(self.start[index]),
            instant_of(self.end[index]),
            price_of(self.open[index]),
            price_of(self.high[index]),
            price_of(self.low[index]),
            price_of(self.close[index]),
            int(self.volume[index]),
        )

    def __iter__(self) -> Iterator[Bar]:
        return (self.bar(index) for index in range(len(self)))

    @property
    def session_days(self) -> npt.NDArray[np.datetime64]:
        """The session of each bar, `datetime64[D]`.

        Regular hours, 13:30 to 21:00 UTC at the widest, lie within one UTC day, which is therefore the session's date.
        """
        return self.start.view("datetime64[ns]").astype("datetime64[D]")

    @property
    def last_end(self) -> datetime:
        """When the newest bar closed; IndexError on an empty table."""
        return instant_of(self.end[-1])


def table_of(symbol: str, interval: Interval, bars: list[Bar]) -> BarTable:
    """A table of the given bars, in order of start."""
    ordered = sorted(bars, key=lambda bar: bar.start)
    return BarTable(
        symbol,
        interval,
        np.array([instant_ns(bar.start) for bar in ordered], np.int64),
        np.array([instant_ns(bar.end) for bar in ordered], np.int64),
        *(np.array([float(getattr(bar, name)) for bar in ordered], np.float64) for name in ("open", "high", "low", "close", "volume")),
    )


def session_key(day: date) -> str:
    """How a session is written in keys, partitions and folders: `2012-10-15`."""
    return day.isoformat()
