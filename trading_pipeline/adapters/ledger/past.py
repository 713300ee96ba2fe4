"""The ledger as it was after an earlier event: its tables folded again from the events, in memory, read like the ledger itself.

Searches mean what they mean in every ledger, and are answered by index, because a replay asks thousands of times. Events are read
from the ledger itself, up to the newest one added.
"""

from collections import deque
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

from trading_pipeline.adapters.ledger.indexed import IndexedTables
from trading_pipeline.adapters.ledger.selection import copies, plain, select_events, selection, table_named
from trading_pipeline.domain.derivation import Derivation, Difference
from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.domain.projections import Row
from trading_pipeline.ports import Reader

KEPT = frozenset({EventType.CORPORATE_ACTION_SPLIT, EventType.STRATEGY_STARTED, EventType.STRATEGY_RESUMED})
"""Types that judging reads all events of: few, and kept."""
RECENT = 5_000
"""Events at hand without asking the ledger: a decision looks back a few steps."""


class PastLedger:
    """A `Past` of a ledger; it begins before the first event.

    Args:
        ledger: Where the events are.
    """

    def __init__(self, ledger: Reader) -> None:
        self._ledger = ledger
        self._derivation = Derivation()
        self._tables = self._derivation.tables = IndexedTables()
        self._recent: deque[Event] = deque(maxlen=RECENT)
        self._by_key: dict[str, Event] = {}
        self._found: dict[str, Event] = {}
        self._kept: list[Event] = []

    def add(self, event: Event) -> Difference | None:
        """Go on by the next event."""
        difference = self._derivation.add(event)
        if difference is None:
            if len(self._recent) == RECENT:
                self._by_key.pop(self._recent[0].key, None)
            self._recent.append(event)
            self._by_key[event.key] = event
            if event.type in KEPT:
                self._kept.append(event)
        return difference

    def head(self) -> tuple[int, bytes]:
        """The newest event added."""
        return self._derivation.seq, self._derivation.hash

    def get(self, table: str, *key: Any) -> Row | None:
        """One row by key."""
        table_named(table)
        return self._tables.get(table, plain(key))

    def find(
        self, table: str, *, since: tuple[str, datetime] | None = None, order_by: str | None = None, descending: bool = False,
        limit: int | None = None, **equals: Any,
    ) -> list[Row]:
        """Rows whose columns equal the given values."""
        wanted = selection(table, since, order_by, descending, limit, equals)
        return copies(self._tables.select(wanted))

    def dump(self, table: str) -> Iterator[Row]:
        """All rows of a table in key order."""
        table_named(table)
        return self._tables.rows(table)

    def event(self, seq: int) -> Event | None:
        """One event by seq."""
        newest = self._derivation.seq
        if newest - len(self._recent) < seq <= newest:
            return self._recent[seq - newest - 1]
        return self._ledger.event(seq) if seq < newest else None

    def event_by_key(self, key: str) -> Event | None:
        """One event by its key."""
        event = self._by_key.get(key) or self._found.get(key)
        if event is None and self._derivation.seq > len(self._recent):
            event = self._ledger.event_by_key(key)
            if event is not None:
                self._found[key] = event
        return event if event is not None and event.seq <= self._derivation.seq else None

    def events(
        self, *, after: int = 0, types: Collection[EventType] = (), stream: str | None = None, limit: int | None = None,
    ) -> list[Event]:
        """Events in order of seq."""
        newest = self._derivation.seq
        if types and KEPT.issuperset(types):
            return select_events((event for event in self._kept if after < event.seq <= newest), types, stream, limit)
        if not types and stream is None:
            most = max(0, newest - after)
            limit = most if limit is None else min(limit, most)
        return [event for event in self._ledger.events(after=after, types=types, stream=stream, limit=limit) if event.seq <= newest]
