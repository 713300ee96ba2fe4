"""All tables in memory, searched by index: what a search costs does not grow with what else there is.

An index is made when a column is first asked for in a table of some size, and kept from then on: rows by value for what is to be equal,
rows in order for instants and for the newest few. Which columns those are is listed nowhere.
"""

from bisect import bisect_left, insort
from collections.abc import Collection
from itertools import islice
from typing import Any

from trading_pipeline.adapters.ledger.selection import Selection, means, select_rows
from trading_pipeline.domain.derivation import MemoryTables
from trading_pipeline.domain.projections import TABLES, Key, Row

FEW = 32
"""So many rows are looked at one by one."""

_Place = tuple[bool, Any, Key]
"""Whether the value is NULL, which comes last; the value; the row's key."""


class IndexedTables(MemoryTables):
    """`MemoryTables` that can be searched."""

    __slots__ = ("_by_value", "_in_order")

    def __init__(self) -> None:
        super().__init__()
        self._by_value: dict[str, dict[str, dict[Any, dict[Key, Row]]]] = {name: {} for name in TABLES}
        self._in_order: dict[str, dict[str, list[_Place]]] = {name: {} for name in TABLES}

    def put(self, table: str, row: Row) -> None:
        """Insert or replace the row, and its places in the indices."""
        by_value, in_order = self._by_value[table], self._in_order[table]
        if not by_value and not in_order:
            super().put(table, row)
            return
        key = self.key(table, row)
        before = self._rows[table].get(key)
        super().put(table, row)
        for column, index in by_value.items():
            value = row[column]
            if before is not None and before[column] != value:
                del index[before[column]][key]
            index.setdefault(value, {})[key] = row
        for column, places in in_order.items():
            if before is not None:
                if before[column] == row[column]:
                    continue
                del places[bisect_left(places, _place(before[column], key))]
            insort(places, _place(row[column], key))

    def select(self, wanted: Selection, besides: Collection[Key] = ()) -> list[Row]:
        """The rows that a selection means, in its order; the rows themselves, to be read only.

        Args:
            besides: Keys of rows that are left out.
        """
        table = wanted.table.name
        among = self._narrowed(wanted)
        rows = self._rows[table]
        # Whether the first few in order are likely to come sooner than all that would have to be put in order.
        if wanted.limit is not None and len(among) > FEW and wanted.limit * len(rows) < len(among) ** 2:
            places = self._order(table, wanted.order[0])
            ordered = (rows[key] for _, _, key in (reversed(places) if wanted.descending else places) if key not in besides)
            return list(islice((row for row in ordered if means(wanted, row)), wanted.limit))
        return select_rows((row for row in among if self.key(table, row) not in besides) if besides else among, wanted)

    def _narrowed(self, wanted: Selection) -> Collection[Row]:
        """The fewest rows that a single condition leaves."""
        table, rows = wanted.table.name, self._rows[wanted.table.name]
        fewest: Collection[Row] = rows.values()
        for column, values in wanted.conditions:
            if len(fewest) <= FEW:
                return fewest
            index = self._index(table, column)
            buckets = [index[value] for value in set(values) if value in index]
            if sum(map(len, buckets)) < len(fewest):
                fewest = [row for bucket in buckets for row in bucket.values()]
        if wanted.since is not None and len(fewest) > FEW:
            places = self._order(table, wanted.since[0])
            first, end = bisect_left(places, (False, wanted.since[1])), bisect_left(places, (True,))
            if end - first < len(fewest):
                fewest = [rows[key] for _, _, key in places[first:end]]
        return fewest

    def _index(self, table: str, column: str) -> dict[Any, dict[Key, Row]]:
        index = self._by_value[table].get(column)
        if index is None:
            index = self._by_value[table][column] = {}
            for key, row in self._rows[table].items():
                index.setdefault(row[column], {})[key] = row
        return index

    def _order(self, table: str, column: str) -> list[_Place]:
        places = self._in_order[table].get(column)
        if places is None:
            places = self._in_order[table][column] = sorted(_place(row[column], key) for key, row in self._rows[table].items())
        return places


def _place(value: Any, key: Key) -> _Place:
    return value is None, value, key
