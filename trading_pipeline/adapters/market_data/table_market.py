"""A market made of bar tables in memory: what samples, files, and the synthetic source have in common.

Tables hold the past and the future of the replayed instant; every answer is cut to what had been published by then: closed
bars at their end, an open at its start. Quotes are made from bars (D30): they are what a paper broker fills against, and never
the price of a real order. Splits are carried beside the tables; prices stay unadjusted.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

import numpy as np

from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.bars import BarTable, Interval, instant_ns, instant_of
from trading_pipeline.domain.money import price_of
from trading_pipeline.domain.quotes import quote_around
from trading_pipeline.domain.risk import Quote
from trading_pipeline.domain.sessions import TradingCalendar

CLOSE_GOOD_FOR = 5
"""Sessions for which a last close still makes a quote outside regular hours; an older one is no price."""
SPREAD = Decimal("0.0002")
"""Ask less bid as a fraction of their middle: 2 basis points."""


class TableMarket:
    """Bars in memory behind the MarketData port."""

    def __init__(
        self, name: str, tables: Iterable[BarTable], calendar: TradingCalendar, *, splits: Sequence[Split] = (), spread: Decimal = SPREAD,
    ) -> None:
        """Hold the tables.

        Args:
            name: As people call the source.
            tables: One a symbol and interval, unadjusted, on the calendar's grid.
            splits: The splits that the prices step at.
            spread: Ask less bid as a fraction of their middle; at least one tick.
        """
        self.name = name
        self.calendar = calendar
        self._splits = tuple(splits)
        self.spread = spread
        self._tables: dict[str, dict[Interval, BarTable]] = {}
        for table in tables:
            self._tables.setdefault(table.symbol, {})[table.interval] = table

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that the prices step at, as far as they are known now."""
        return self._splits

    @property
    def symbols(self) -> tuple[str, ...]:
        """What it has, sorted."""
        return tuple(sorted(self._tables))

    @property
    def span(self) -> tuple[datetime, datetime] | None:
        """The first bar's start and the last bar's end over everything it has."""
        tables = [table for held in self._tables.values() for table in held.values() if len(table)]
        if not tables:
            return None
        return instant_of(min(table.start[0] for table in tables)), instant_of(max(table.end[-1] for table in tables))

    def intervals(self, symbol: str) -> tuple[Interval, ...]:
        """What it has of a symbol, finest first; empty when the symbol is unknown."""
        return tuple(table.interval for table in self._held(symbol))

    def closed_bars(
        self, symbols: Sequence[str], interval: Interval, after: datetime | None, until: datetime,
    ) -> Mapping[str, BarTable]:
        """Bars with `after < end <= until`, one table a symbol, views without copies; unknown symbols have none."""
        last = instant_ns(until)
        found = {}
        for symbol in symbols:
            table = self._tables.get(symbol, {}).get(interval)
            if table is None:
                found[symbol] = BarTable.empty(symbol, interval)
                continue
            first = 0 if after is None else int(np.searchsorted(table.end, instant_ns(after), side="right"))
            found[symbol] = table.rows(first, max(first, int(np.searchsorted(table.end, last, side="right"))))
        return found

    def opening_bar(self, symbol: str, interval: Interval, at: datetime) -> tuple[datetime, Decimal] | None:
        """(start, open) of the bar with start <= at < end; None when there is none."""
        table = self._tables.get(symbol, {}).get(interval)
        return None if table is None else _opening(table, at)

    def quotes(self, symbols: Sequence[str], at: datetime) -> Mapping[str, Quote]:
        """Quotes made from bars and stamped `at`.

        In regular hours the middle is the open of the bar that contains `at`, in the finest interval that has bars of that session;
        a symbol that did not trade in that bar has no quote. Otherwise the middle is the last close, if it is no older than
        CLOSE_GOOD_FOR sessions. Bid and ask are rounded to the tick, away from the middle.
        """
        found = {}
        inside = self.calendar.at(at) is not None
        oldest = None if inside else self._oldest_close(at)
        for symbol in symbols:
            middle = self._open_price(symbol, at) if inside else self._last_close(symbol, at, oldest)
            quote = None if middle is None else quote_around(symbol, middle, self.spread, at)
            if quote is not None:
                found[symbol] = quote
        return found

    def _open_price(self, symbol: str, at: datetime) -> Decimal | None:
        session = self.calendar.last_opened(at)
        if session is None:
            return None
        opens, closes = instant_ns(session.open), instant_ns(session.close)
        for table in self._held(symbol):
            if np.searchsorted(table.start, opens, side="left") < np.searchsorted(table.start, closes, side="left"):
                found = _opening(table, at)
                return None if found is None else found[1]
        return None

    def _last_close(self, symbol: str, at: datetime, oldest: datetime | None) -> Decimal | None:
        newest, price = oldest, None
        for table in self._held(symbol):
            closed = table.until(at).tail(1)
            if len(closed) and (newest is None or closed.last_end > newest):
                newest, price = closed.last_end, price_of(closed.close[-1])
        return price

    def _held(self, symbol: str) -> list[BarTable]:
        """The tables in memory, finest interval first."""
        return sorted(self._tables.get(symbol, {}).values(), key=lambda table: table.interval.minutes)

    def _oldest_close(self, at: datetime) -> datetime | None:
        session = self.calendar.last_closed(at)
        for _ in range(CLOSE_GOOD_FOR - 1):
            if session is None or session.day == self.calendar.first.day:
                return None
            session = self.calendar.previous(session.day)
        return None if session is None else session.open


def _opening(table: BarTable, at: datetime) -> tuple[datetime, Decimal] | None:
    index = int(np.searchsorted(table.start, instant_ns(at), side="right")) - 1
    if index < 0 or instant_ns(at) >= table.end[index]:
        return None
    return instant_of(table.start[index]), price_of(table.open[index])
