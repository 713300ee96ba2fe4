"""The bar archive in memory, for backtests: the rules of the archive on disk, and nothing survives the process.

Columns grow at their end, twice as long each time they are full, so that a year of minutes is appended bar by bar without copying
it each time. What was read is a view of rows that never change again: a correction of an older bar makes new columns.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import numpy as np

from trading_pipeline.domain.bar_quality import faults, findings
from trading_pipeline.domain.bars import COLUMNS, SYMBOL, BarTable, Interval
from trading_pipeline.errors import BarsError
from trading_pipeline.ports import Appended

_LEAST_ROWS = 512


class MemoryArchive:
    """Bars in this process behind the BarArchive port; for one thread at a time."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._held: dict[tuple[str, Interval], _Growing] = {}

    def append(self, table: BarTable) -> Appended:
        """Add bars; a bar that is there already is unchanged if equal and replaced if not.

        Raises:
            BarsError: A bar breaks a rule of `bar_quality`, or the name is no symbol; nothing was added.
        """
        _check(table.symbol)
        if not len(table):
            return Appended(0, 0, 0)
        wrong = findings(table, faults(table))
        if wrong:
            raise BarsError(
                f"Bars of {table.symbol} {table.interval} cannot be archived; {wrong[0].sentence}.", value=wrong[0].rule,
                rule="the archive holds sane bars only", remedy="import them with `trading bars import`, which reports and drops bad bars",
            )
        place = (table.symbol, table.interval)
        held = self._held.get(place)
        if held is None:
            held = self._held[place] = _Growing(table.rows(0, 0))
        return held.append(table)

    def append_many(self, tables: Sequence[BarTable]) -> list[Appended]:
        """`append` for many tables."""
        return [self.append(table) for table in tables]

    def read(self, symbol: str, interval: Interval, *, until: datetime, count: int | None = None) -> BarTable:
        """The newest `count` bars (all when None) that have closed by `until`; empty when there are none."""
        _check(symbol)
        held = self._held.get((symbol, interval))
        if held is None:
            return BarTable.empty(symbol, interval)
        closed = held.table.until(until)
        return closed if count is None else closed.tail(count)

    def read_many(
        self, symbols: Sequence[str], interval: Interval, *, until: datetime, count: int | None = None,
    ) -> dict[str, BarTable]:
        """`read` for many symbols at once."""
        return {symbol: self.read(symbol, interval, until=until, count=count) for symbol in symbols}

    def symbols(self, interval: Interval | None = None) -> tuple[str, ...]:
        """What it holds, sorted."""
        return tuple(sorted({symbol for symbol, each in self._held if interval in (None, each)}))

    def sessions(self, symbol: str, interval: Interval) -> tuple[date, ...]:
        """The sessions it holds bars of, in order."""
        _check(symbol)
        held = self._held.get((symbol, interval))
        return () if held is None else tuple(np.unique(held.table.session_days).astype(object))


class _Growing:
    """The columns of one symbol and interval, and as many rows of them as are filled."""

    def __init__(self, empty: BarTable) -> None:
        self.table = empty
        self._columns: dict[str, Any] = {name: getattr(empty, name) for name in COLUMNS}

    def append(self, offered: BarTable) -> Appended:
        held = self.table
        if not len(held) or offered.start[0] > held.start[-1]:
            self._grow(offered)
            return Appended(len(offered), 0, 0)
        at = np.minimum(np.searchsorted(held.start, offered.start), len(held) - 1)
        known = held.start[at] == offered.start
        same = known.copy()
        for name in COLUMNS:
            same &= getattr(held, name)[at] == getattr(offered, name)
        new, other = int((~known).sum()), int((known & ~same).sum())
        if new or other:
            kept = np.ones(len(held), np.bool_)
            kept[at[known]] = False
            columns = {name: np.concatenate((getattr(held, name)[kept], getattr(offered, name))) for name in COLUMNS}
            order = np.argsort(columns["start"], kind="stable")
            self._columns = {name: column[order] for name, column in columns.items()}
            self.table = self._rows(len(order))
        return Appended(new, other, len(offered) - new - other)

    def _grow(self, newer: BarTable) -> None:
        filled, needed = len(self.table), len(self.table) + len(newer)
        if needed > len(self._columns["start"]):
            capacity = max(_LEAST_ROWS, needed, 2 * filled)
            for name, column in self._columns.items():
                longer = np.empty(capacity, column.dtype)
                longer[:filled] = column[:filled]
                self._columns[name] = longer
        for name, column in self._columns.items():
            column[filled:needed] = getattr(newer, name)
        self.table = self._rows(needed)

    def _rows(self, filled: int) -> BarTable:
        return BarTable(self.table.symbol, self.table.interval, **{name: column[:filled] for name, column in self._columns.items()})


def _check(symbol: str) -> None:
    if not SYMBOL.fullmatch(symbol):
        raise BarsError(
            f"{symbol!r} is no symbol.", value=symbol, rule="a symbol is 1 to 16 of A-Z, 0-9, dot and hyphen",
            remedy="write it as the exchange does, such as BRK.B",
        )
