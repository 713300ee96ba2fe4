"""One write of the PostgreSQL ledger: the draft, and what of the database it reads and writes.

Round trips are few: look for keys, prefetch rows, then at the end events and rows in one. What the writer before learnt of the
streams is taken over when the head has not moved since.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import psycopg2
import sqlalchemy as sa

from trading_pipeline.adapters.ledger import leases, queries
from trading_pipeline.adapters.ledger.database_errors import translated
from trading_pipeline.adapters.ledger.draft import Draft, WallClock
from trading_pipeline.adapters.ledger.selection import plain, selection, table_named
from trading_pipeline.domain.derivation import Derivation
from trading_pipeline.domain.events import Event, EventType, NewEvent
from trading_pipeline.domain.projections import TABLES, Key, Row
from trading_pipeline.errors import LedgerCorrupt
from trading_pipeline.ports import Fence

T = TypeVar("T")
Known = tuple[int, bytes, dict[str, int]]
"""The head, and the newest stream_seq of streams as of that head."""


class PostgresTransaction:
    """A `Transaction`: what is committed and what this draft has added, which is written before anything is searched."""

    def __init__(
        self, connection: sa.Connection, seq: int, hash_: bytes, stamped: str | None, known: Known | None, clock_wall: WallClock,
    ) -> None:
        self._connection = connection
        self._base = (seq, hash_)
        self._streams = dict(known[2]) if known is not None and known[:2] == (seq, hash_) else None
        self._written = 0
        self.stamped = stamped
        self.draft = Draft(self, seq, hash_, clock_wall)

    def append(self, *events: NewEvent) -> list[Event]:
        """Append facts and change the tables."""
        return self._run(lambda: self.draft.append(events))

    def is_new(self, event: Event) -> bool:
        """Whether this transaction appended the event."""
        return self.draft.is_new(event)

    def require(self, fence: Fence) -> None:
        """Make sure that the lease is held under this fence until the transaction ends."""
        self._run(lambda: leases.require(self._connection, fence))

    def stamp(self, environment: str) -> None:
        """Write the environment of a new ledger."""
        self._run(lambda: self._connection.execute(queries.STAMP, {"stamped": environment}))

    def finish(self) -> None:
        """Write what is left; raises what lost the transaction, even when the caller swallowed it."""
        if self.draft.lost is not None:
            raise self.draft.lost
        self._run(self._write)

    def known(self) -> Known:
        """What the next transaction need not ask when nobody else has written since."""
        streams = self._streams or {}
        streams.update({event.stream: event.stream_seq for event in self.draft.events})
        return self.draft.seq, self.draft.hash, streams

    def replace_tables(self, derivation: Derivation) -> None:
        """Put derived rows in the place of all stored ones."""
        def write() -> None:
            self._connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
            for name in TABLES:
                queries.replace_all(self._connection, name, derivation.tables.values(name))

        self._run(write)

    def _write(self) -> None:
        changed = self.draft.changed
        queries.write(self._connection, self.draft.events[self._written :], {name: rows.values() for name, rows in changed.items()})
        self._written = len(self.draft.events)
        changed.clear()

    def _run(self, work: Callable[[], T]) -> T:
        """Do something with the database; after an error of it COMMIT would silently roll back, so the draft is lost."""
        try:
            return work()
        except (sa.exc.SQLAlchemyError, psycopg2.Error) as error:
            self.draft.lost = translated(error)
            raise self.draft.lost from error

    def _read(self, work: Callable[[], T]) -> T:
        self._run(self._write)
        return self._run(work)

    # Reading

    def get(self, table: str, *key: Any) -> Row | None:
        """One row by key."""
        table_named(table)
        return self._run(lambda: self.draft.get(table, plain(key)))

    def find(
        self, table: str, *, since: tuple[str, datetime] | None = None, order_by: str | None = None, descending: bool = False,
        limit: int | None = None, **equals: Any,
    ) -> list[Row]:
        """Rows whose columns equal the given values."""
        wanted = selection(table, since, order_by, descending, limit, equals)
        return self._read(lambda: queries.find(self._connection, wanted))

    def event(self, seq: int) -> Event | None:
        """One event by seq."""
        return self._read(lambda: queries.event_by_seq(self._connection, seq))

    def event_by_key(self, key: str) -> Event | None:
        """One event by its key."""
        plain((key,))
        return self._read(lambda: queries.event_by_key(self._connection, key))

    def events(
        self, *, after: int = 0, types: Collection[EventType] = (), stream: str | None = None, limit: int | None = None,
    ) -> list[Event]:
        """Events in order of seq."""
        plain((stream,))
        return self._read(lambda: queries.events(self._connection, after, types, stream, limit))

    def head(self) -> tuple[int, bytes]:
        """The newest seq and its hash."""
        return self.draft.seq, self.draft.hash

    # What a draft reads

    def stored_events(self, keys: Sequence[str]) -> Iterable[Event]:
        """The events that exist under these keys."""
        return queries.events_by_keys(self._connection, keys)

    def stream_heads(self, streams: Collection[str]) -> dict[str, int]:
        """The newest stream_seq of each stream; LedgerCorrupt when the head row and the newest event disagree."""
        known = self._streams
        if known is not None and all(stream in known for stream in streams):
            return {stream: known[stream] for stream in streams}
        seq, hash_ = self._base
        heads, newest = queries.stream_heads(self._connection, streams, seq)
        if seq and newest != hash_:
            raise headless(seq)
        self._streams = {**(known or {}), **heads}
        return heads

    def stored_rows(self, table: str, keys: Collection[Key]) -> Iterable[Row]:
        """The rows that exist under these keys."""
        return queries.rows_by_keys(self._connection, table, keys)


def headless(seq: int) -> LedgerCorrupt:
    """The error of a head that is not the newest event."""
    return LedgerCorrupt(
        f"The newest event and the head, which says {seq}, disagree.", value=seq, rule="the head is the newest event",
        remedy="run `trading verify`; restore a backup",
    )
