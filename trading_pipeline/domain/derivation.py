"""What a ledger must look like, worked out from its events alone.

`Derivation` walks the events once, checks the hash chain and keeps the tables; `trading verify` compares its
result with what is stored, a rebuild stores it. A truncated tail cannot be seen from the events: whoever
uses this compares `seq` and `hash` with the ledger's head, and that with an anchor outside.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter

from trading_pipeline.domain.events import GENESIS, Event, event_hash
from trading_pipeline.domain.projections import TABLES, Key, Row, fold
from trading_pipeline.errors import TradingError


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place where what is stored and what follows from the events part.

    `seq` is the event at fault; `table`, `key` and `column` are empty when the fault lies in the chain.
    """

    rule: str
    stored: str
    derived: str
    seq: int | None = None
    table: str = ""
    key: Key = ()
    column: str = ""

    def __str__(self) -> str:
        if self.table:
            place = "/".join(map(str, self.key)) or "whole table"
            where = f"table {self.table}, key {place}" + (f", column {self.column}" if self.column else "")
        else:
            where = f"event {self.seq}" + (f", {self.column}" if self.column else "")
        return f"{where}: {self.rule}; stored {self.stored}, derived {self.derived}"


def _key_reader(columns: tuple[str, ...]) -> Callable[[Row], Key]:
    if len(columns) == 1:
        (column,) = columns
        return lambda row: (row[column],)
    return itemgetter(*columns)


_KEYS = {name: _key_reader(table.key) for name, table in TABLES.items()}


@contextmanager
def collector_paused() -> Iterator[None]:
    """Stop the cyclic garbage collector for a long derivation: nothing in it forms cycles, and walking it takes a fifth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class MemoryTables:
    """All tables as dictionaries; rows come out as copies, and one that is put is not touched by its giver any more."""

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: dict[str, dict[Key, Row]] = {name: {} for name in TABLES}

    def get(self, table: str, key: Key) -> Row | None:
        """A copy of the row, or None."""
        row = self._rows[table].get(key)
        return None if row is None else row.copy()

    def put(self, table: str, row: Row) -> None:
        """Insert or replace the row."""
        self._rows[table][_KEYS[table](row)] = row

    @staticmethod
    def key(table: str, row: Row) -> Key:
        """A row's key."""
        return _KEYS[table](row)

    def rows(self, table: str) -> Iterator[Row]:
        """Copies of all rows in key order."""
        rows = self._rows[table]
        return (rows[key].copy() for key in sorted(rows))

    def values(self, table: str) -> list[Row]:
        """The rows themselves, in no order, to be read only."""
        return list(self._rows[table].values())


class Derivation:
    """Chain and tables up to the newest event added."""

    __slots__ = ("hash", "seq", "streams", "tables")

    def __init__(self) -> None:
        self.seq = 0
        self.hash = GENESIS
        self.streams: dict[str, int] = {}
        self.tables = MemoryTables()

    def add(self, event: Event) -> Difference | None:
        """Take the next event; after a difference the derivation is not to be used any more."""
        fault = self._chain_fault(event)
        if fault is not None:
            return fault
        try:
            fold(event, self.tables)
        except (TradingError, ArithmeticError, KeyError, TypeError, ValueError) as error:
            return Difference("every event follows from those before it", f"{event.type} {event.key}", str(error), event.seq)
        self.seq, self.hash = event.seq, event.hash
        self.streams[event.stream] = event.stream_seq
        return None

    def _chain_fault(self, event: Event) -> Difference | None:
        if event.seq != self.seq + 1:
            return Difference("seq has no gaps", str(event.seq), str(self.seq + 1), self.seq + 1, column="seq")
        stream_seq = self.streams.get(event.stream, 0) + 1
        if event.stream_seq != stream_seq:
            return Difference(f"{event.stream} has no gaps", str(event.stream_seq), str(stream_seq), event.seq, column="stream_seq")
        if event.previous_hash != self.hash:
            return Difference(
                "each event carries the hash of the one before", event.previous_hash.hex(), self.hash.hex(), event.seq,
                column="previous_hash",
            )
        derived = event_hash(
            self.hash, event.seq, event.stream, event.stream_seq, event.key, event.type.value, event.schema, event.cause,
            event.actor, event.at, event.payload_text,
        )
        if event.hash != derived:
            return Difference("the hash covers every field", event.hash.hex(), derived.hex(), event.seq, column="hash")
        return None
