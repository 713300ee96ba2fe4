"""The ledger in memory: backtests and tests. Same chain, same fold, same refusals; nothing survives the process.

Readers see committed facts only: a transaction works on a draft that is applied at once on leaving. A backtest may hand in facts as
text, see `take_down`: these are chained at once, and parsed, checked and folded when somebody first reads. Or it hands in what they
will be told from, see `keep`: that is sealed at once, and becomes text when somebody first reads.
"""

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from heapq import merge
from itertools import chain
from typing import Any

from trading_pipeline.adapters.ledger.draft import Draft, WallClock, wall_now
from trading_pipeline.adapters.ledger.fences import fenced
from trading_pipeline.adapters.ledger.indexed import IndexedTables
from trading_pipeline.adapters.ledger.opening import opened_event
from trading_pipeline.adapters.ledger.record import Record
from trading_pipeline.adapters.ledger.selection import Selection, copies, plain, select_events, select_rows, selection, table_named
from trading_pipeline.domain.derivation import Derivation, collector_paused
from trading_pipeline.domain.events import GENESIS, Event, EventType, NewEvent, chained, event_from, text_of
from trading_pipeline.domain.projections import Key, Row, fold
from trading_pipeline.errors import LedgerCorrupt, LedgerUnavailable
from trading_pipeline.ports import LEASE_SECONDS, Fence, Health

WRITER_WAIT_SECONDS = 10.0


Text = tuple[str, bytes, bytes, datetime]
"""A fact that was taken down: its text, the hash before, its own, and when it was recorded."""


class _Store:
    """Facts with their indices, and the tables. A fact that was taken down stays text: as an event it takes ten times as much memory."""

    def __init__(self) -> None:
        self.facts: list[Event | Text] = []
        self.by_key: dict[str, int] = {}
        self.by_type: dict[EventType, list[int]] = {}
        self.by_stream: dict[str, list[int]] = {}
        """Each by seq."""
        self.tables = IndexedTables()

    def add(self, event: Event, text: Text | None = None) -> None:
        """Keep an event, or the text that it was made of; its tables are kept apart."""
        self.facts.append(event if text is None else text)
        self.by_key[event.key] = event.seq
        self.by_type.setdefault(event.type, []).append(event.seq)
        self.by_stream.setdefault(event.stream, []).append(event.seq)

    def take(self, event: Event, text: Text) -> None:
        """Keep an event that may come next, and fold it into the tables.

        Raises:
            LedgerCorrupt: It may not.
        """
        stream = self.by_stream.get(event.stream, ())
        if event.seq != len(self.facts) + 1 or event.stream_seq != len(stream) + 1 or event.key in self.by_key:
            raise LedgerCorrupt(
                f"The fact {event.key} does not belong where it was taken down.", value=event.seq,
                rule="each fact once, seq and stream_seq without gaps", remedy="correct the code that wrote it",
            )
        self.add(event, text)
        fold(event, self.tables)

    def texts(self, many: int) -> list[Text]:
        """The first so many facts."""
        return [
            (text_of(fact), fact.previous_hash, fact.hash, fact.recorded_at) if isinstance(fact, Event) else fact
            for fact in self.facts[:many]
        ]

    def event(self, seq: int) -> Event:
        """One that there is."""
        fact = self.facts[seq - 1]
        return fact if isinstance(fact, Event) else event_from(*fact)


class MemoryLedger:
    """A `Ledger` in this process.

    Args:
        environment: live, paper, backtest or demo.
        clock_wall: What `recorded_at` is read from.
        opened_at: Market time of the first event, `ledger.opened`; the wall clock when None.
    """

    def __init__(self, environment: str, clock_wall: WallClock = wall_now, *, opened_at: datetime | None = None) -> None:
        self._environment = environment
        self._clock_wall = clock_wall
        self._writer = threading.Lock()
        self._state = threading.RLock()
        self._leases: dict[str, threading.Lock] = {}
        self._fences: dict[str, int] = {}
        self._health: dict[str, tuple[float, dict[str, Any]]] = {}
        self._store = _Store()
        self._unread: list[Text] = []
        """Facts that nobody has read yet."""
        self._record: Record | None = None
        """Facts that follow these, and that nobody has asked for yet."""
        with self.transaction() as transaction:
            transaction.append(opened_event(environment, opened_at or clock_wall()))

    @property
    def environment(self) -> str:
        """As given."""
        return self._environment

    @contextmanager
    def transaction(self) -> Iterator["MemoryTransaction"]:
        """Begin a serialised write; LedgerUnavailable when another holds it for ten seconds."""
        if not self._writer.acquire(timeout=WRITER_WAIT_SECONDS):
            raise LedgerUnavailable(
                "The ledger is locked by another transaction.", value=WRITER_WAIT_SECONDS, rule="one writer at a time",
                remedy="do not begin a transaction within a transaction",
            )
        try:
            draft = Draft(self, *self.head(), self._clock_wall)
            yield MemoryTransaction(self, draft)
            if draft.lost is not None:
                raise draft.lost
            self._apply(draft)
        finally:
            self._writer.release()

    def _apply(self, draft: Draft) -> None:
        with self._state:
            store = self._committed
            for event in draft.events:
                store.add(event)
            for table, rows in draft.changed.items():
                for row in rows.values():
                    store.tables.put(table, row)

    def take_down(self, texts: Iterable[str]) -> None:
        """Append facts whose text is made already, see `events.text_of`; each with the seq and the stream_seq that are due.

        A quick writer's way in: LedgerCorrupt comes to whoever reads first, should a text not be what belongs here.
        """
        with self._state:
            (_, hash_), recorded_at = self.head(), self._clock_wall()
            for text in texts:
                previous, hash_ = hash_, chained(hash_, text)
                self._unread.append((text, previous, hash_, recorded_at))

    def keep(self, digest: Callable[[], bytes], write_out: Callable[[], None], many: int) -> None:
        """Append facts that are kept in another form than text, sealed with all that came before.

        Args:
            digest: SHA-256 over everything that makes these facts what they are.
            write_out: Takes them all down; called when the first of them, or the head, is asked for.
            many: How many they are.
        """
        with self._state:
            self._record = Record(digest, write_out, many, self.head())

    def _write_out(self) -> None:
        """Take down what is kept; under the lock of the state."""
        if self._record is not None and not self._record.telling:
            self._record.tell(self._newest)
            self._record = None

    @property
    def _committed(self) -> _Store:
        """What is kept, with all that was taken down."""
        with self._state:
            self._write_out()
            if self._unread:
                with ExitStack() as unless_all, collector_paused():
                    unless_all.callback(self._begin_anew, len(self._store.facts))
                    for text in self._unread:
                        self._store.take(event_from(*text), text)
                    unless_all.pop_all()
                self._unread = []
            return self._store

    def _begin_anew(self, known: int) -> None:
        """Half of a fact may have been folded: whoever reads next parses again all that was known, and what was not."""
        self._unread, self._store = self._store.texts(known) + self._unread, _Store()

    @contextmanager
    def lease(self, name: str, wait_seconds: float = 10.0, life_seconds: float = LEASE_SECONDS) -> Iterator[Fence]:  # noqa: ARG002
        """Hold a named lock among the threads of this process, which are never stopped: it outlives nobody."""
        with self._state:
            lock = self._leases.setdefault(name, threading.Lock())
        if not lock.acquire(timeout=wait_seconds):
            raise LedgerUnavailable(
                f"The lease {name} is held by another.", value=name, rule="one holder at a time", remedy="let the other finish"
            )
        try:
            self.revoke(name)
            yield Fence(name, self._fences[name])
        finally:
            lock.release()

    def renew(self, fence: Fence) -> None:
        """Look whether it is held still."""
        if self._fences.get(fence.name, 0) != fence.token:
            raise fenced(fence)

    def revoke(self, name: str) -> None:
        """Raise the fence."""
        with self._state:
            self._fences[name] = self._fences.get(name, 0) + 1

    def beat(self, name: str, content: Mapping[str, Any]) -> None:
        """Renew a health row."""
        self._health[name] = (time.monotonic(), dict(content))

    def health(self, name: str) -> Health | None:
        """The health row."""
        found = self._health.get(name)
        return None if found is None else Health(name, time.monotonic() - found[0], found[1])

    # Reading

    def get(self, table: str, *key: Any) -> Row | None:
        """One row by key."""
        table_named(table)
        with self._state:
            return self._committed.tables.get(table, plain(key))

    def find(
        self, table: str, *, since: tuple[str, datetime] | None = None, order_by: str | None = None, descending: bool = False,
        limit: int | None = None, **equals: Any,
    ) -> list[Row]:
        """Rows whose columns equal the given values."""
        return copies(self.select(selection(table, since, order_by, descending, limit, equals)))

    def select(self, wanted: Selection, besides: Collection[Key] = ()) -> list[Row]:
        """The rows that a selection means, but for those under some keys; to be read only."""
        with self._state:
            return self._committed.tables.select(wanted, besides)

    def event(self, seq: int) -> Event | None:
        """One event by seq."""
        return self._committed.event(seq) if 0 < seq <= len(self._committed.facts) else None

    def event_by_key(self, key: str) -> Event | None:
        """One event by its key."""
        plain((key,))
        seq = self._committed.by_key.get(key)
        return None if seq is None else self._committed.event(seq)

    def events(
        self, *, after: int = 0, types: Collection[EventType] = (), stream: str | None = None, limit: int | None = None,
    ) -> list[Event]:
        """Events in order of seq."""
        plain((stream,))
        with self._state:
            store = self._committed
            if not types and stream is None:
                last = len(store.facts) if limit is None else min(max(after, 0) + limit, len(store.facts))
                return list(map(store.event, range(max(after, 0) + 1, last + 1)))
            told = [store.by_type.get(type_, []) for type_ in set(types)] if types else [store.by_stream.get(stream or "", [])]
            newer = [seqs[bisect_right(seqs, after) :] for seqs in told]
            return select_events(map(store.event, merge(*newer) if len(newer) > 1 else newer[0]), types, stream, limit)

    def head(self) -> tuple[int, bytes]:
        """The newest seq and its hash."""
        with self._state:
            self._write_out()
            return self._newest()

    def _newest(self) -> tuple[int, bytes]:
        facts = self._unread or self._store.facts
        if not facts:
            return 0, GENESIS
        newest = facts[-1]
        return len(self._store.facts) + len(self._unread), newest.hash if isinstance(newest, Event) else newest[2]

    def count(self) -> int:
        """How many facts there are; tells nothing that is kept."""
        with self._state:
            return self._newest()[0] if self._record is None else self._record.last

    def scan(self, first: int = 1, last: int | None = None) -> Iterator[Event]:
        """All events in order of seq."""
        newest = self.head()[0]
        return map(self._committed.event, range(max(first, 1), (newest if last is None else min(last, newest)) + 1))

    def dump(self, table: str) -> Iterator[Row]:
        """All rows of a table in key order."""
        table_named(table)
        with self._state:
            return iter(list(self._committed.tables.rows(table)))

    def rebuild(self) -> int:
        """Derive the tables anew; LedgerCorrupt, and nothing changed, when the events do not verify."""
        derivation = Derivation()
        tables = derivation.tables = IndexedTables()
        with collector_paused(), self.transaction():
            for event in self.scan():
                difference = derivation.add(event)
                if difference is not None:
                    raise LedgerCorrupt(
                        f"The ledger cannot be rebuilt: {difference}.", value=difference.seq, rule=difference.rule,
                        remedy="run the backtest again",
                    )
            with self._state:
                self._committed.tables = tables
        return derivation.seq

    def close(self) -> None:
        """Nothing to let go of."""

    # What a draft reads

    def stored_events(self, keys: Sequence[str]) -> Iterable[Event]:
        """The events that exist under these keys."""
        return [self._committed.event(seq) for key in keys if (seq := self._committed.by_key.get(key)) is not None]

    def stream_heads(self, streams: Collection[str]) -> dict[str, int]:
        """The newest stream_seq of each stream that has any event."""
        return {stream: len(self._committed.by_stream[stream]) for stream in streams if stream in self._committed.by_stream}

    def stored_rows(self, table: str, keys: Collection[Key]) -> Iterable[Row]:
        """The rows that exist under these keys."""
        return [row for key in keys if (row := self._committed.tables.get(table, key)) is not None]


class MemoryTransaction:
    """A `Transaction` on a memory ledger: what is committed, and the draft over it."""

    def __init__(self, ledger: MemoryLedger, draft: Draft) -> None:
        self._ledger = ledger
        self._draft = draft

    def append(self, *events: NewEvent) -> list[Event]:
        """Append facts and change the tables."""
        return self._draft.append(events)

    def is_new(self, event: Event) -> bool:
        """Whether this transaction appended the event."""
        return self._draft.is_new(event)

    def require(self, fence: Fence) -> None:
        """Make sure that the lease is held still."""
        self._ledger.renew(fence)

    def get(self, table: str, *key: Any) -> Row | None:
        """One row by key."""
        table_named(table)
        return self._draft.get(table, plain(key))

    def find(
        self, table: str, *, since: tuple[str, datetime] | None = None, order_by: str | None = None, descending: bool = False,
        limit: int | None = None, **equals: Any,
    ) -> list[Row]:
        """Rows whose columns equal the given values."""
        wanted = selection(table, since, order_by, descending, limit, equals)
        changed = self._draft.changed.get(table)
        if not changed:
            return copies(self._ledger.select(wanted))
        return copies(select_rows(chain(self._ledger.select(wanted, changed.keys()), changed.values()), wanted))

    def event(self, seq: int) -> Event | None:
        """One event by seq."""
        return self._ledger.event(seq) or next((event for event in self._draft.events if event.seq == seq), None)

    def event_by_key(self, key: str) -> Event | None:
        """One event by its key."""
        plain((key,))
        return self._ledger.event_by_key(key) or next((event for event in self._draft.events if event.key == key), None)

    def events(
        self, *, after: int = 0, types: Collection[EventType] = (), stream: str | None = None, limit: int | None = None,
    ) -> list[Event]:
        """Events in order of seq."""
        plain((stream,))
        committed = self._ledger.events(after=after, types=types, stream=stream, limit=limit)
        own = (event for event in self._draft.events if event.seq > after)
        return select_events(chain(committed, own), types, stream, limit)

    def head(self) -> tuple[int, bytes]:
        """The newest seq and its hash."""
        return self._draft.seq, self._draft.hash
