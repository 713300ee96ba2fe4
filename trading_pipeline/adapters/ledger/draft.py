"""One transaction's work, the same for every store: seal events into the chain, fold them into rows.

A store hands in what is committed; the draft holds what is new until the store writes it. Nothing here
knows how either is kept.
"""

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Protocol

from trading_pipeline.adapters.ledger.text import require_storable
from trading_pipeline.domain.events import Event, NewEvent, canonical_payload, event_hash
from trading_pipeline.domain.projections import TABLES, Key, Row, fold, touched
from trading_pipeline.errors import InputError, TradingError

MAX_NAME = 200
"""Characters of a key, stream or actor."""

WallClock = Callable[[], datetime]


def wall_now() -> datetime:
    """The wall clock, aware UTC."""
    return datetime.now(UTC)


class Store(Protocol):
    """What a draft needs to read; called within the store's own transaction."""

    def stored_events(self, keys: Sequence[str]) -> Iterable[Event]:
        """The events that exist under these keys."""

    def stream_heads(self, streams: Collection[str]) -> dict[str, int]:
        """The newest stream_seq of each stream that has any event."""

    def stored_rows(self, table: str, keys: Collection[Key]) -> Iterable[Row]:
        """The rows that exist under these keys."""


class Draft:
    """Events appended and rows changed since the head, in order, not yet stored."""

    def __init__(self, store: Store, seq: int, hash_: bytes, clock_wall: WallClock) -> None:
        self._store = store
        self._clock_wall = clock_wall
        self._base = seq
        self._by_key: dict[str, Event] = {}
        self._streams: dict[str, int] = {}
        self._rows: dict[tuple[str, Key], Row | None] = {}
        self.seq = seq
        self.hash = hash_
        self.events: list[Event] = []
        self.changed: dict[str, dict[Key, Row]] = {}
        self.lost: TradingError | None = None

    def is_new(self, event: Event) -> bool:
        """Whether this transaction appended it."""
        return event.seq > self._base

    def append(self, new: Sequence[NewEvent]) -> list[Event]:
        """Seal and fold; an error loses the draft for good."""
        if self.lost is not None:
            raise self.lost
        try:
            return self._append(new)
        except TradingError as error:
            self.lost = error
            raise

    def _append(self, new: Sequence[NewEvent]) -> list[Event]:
        for candidate in new:
            _check_envelope(candidate)
        unknown = [candidate.key for candidate in new if candidate.key not in self._by_key]
        found = {event.key: event for event in self._store.stored_events(unknown)} if unknown else {}
        fresh: list[tuple[NewEvent, str]] = []
        keys = set(found) | set(self._by_key)
        for candidate in new:
            if candidate.key not in keys:
                keys.add(candidate.key)
                fresh.append((candidate, _payload_text(candidate)))
        recorded_at = self._clock_wall()
        self._fetch_streams({candidate.stream for candidate, _ in fresh})
        sealed = [self._seal(candidate, text, recorded_at) for candidate, text in fresh]
        self._fetch_rows({place for event in sealed for place in _touched(event)})
        for event in sealed:
            _fold(event, self)
        return [found.get(candidate.key) or self._by_key[candidate.key] for candidate in new]

    def _fetch_streams(self, streams: set[str]) -> None:
        missing = streams - self._streams.keys()
        if missing:
            heads = self._store.stream_heads(missing)
            self._streams.update({stream: heads.get(stream, 0) for stream in missing})

    def _fetch_rows(self, places: set[tuple[str, Key]]) -> None:
        wanted: dict[str, list[Key]] = {}
        for table, key in places:
            if (table, key) not in self._rows:
                for part in key:
                    require_storable(table, part)
                wanted.setdefault(table, []).append(key)
        for table, keys in wanted.items():
            self._rows.update({(table, key): None for key in keys})
            for row in self._store.stored_rows(table, keys):
                self._rows[table, key_of(table, row)] = row

    def _seal(self, new: NewEvent, text: str, recorded_at: datetime) -> Event:
        seq = self.seq + 1
        if new.cause is not None and not 0 < new.cause < seq:
            raise InputError(
                f"{new.type} cites event {new.cause} as its cause.", value=new.cause, rule="a cause is an earlier event",
                remedy="pass the seq of a fact that is in the ledger",
            )
        stream_seq = self._streams[new.stream] + 1
        at = new.at.astimezone(UTC)
        hash_ = event_hash(
            self.hash, seq, new.stream, stream_seq, new.key, new.type.value, new.schema, new.cause, new.actor, at, text
        )
        event = Event(
            seq, new.stream, stream_seq, new.key, new.type, new.schema, new.cause, new.actor, at, recorded_at, json.loads(text),
            text, self.hash, hash_,
        )
        self.seq, self.hash = seq, hash_
        self._streams[new.stream] = stream_seq
        self._by_key[new.key] = event
        self.events.append(event)
        return event

    def get(self, table: str, key: Key) -> Row | None:
        """A copy of the row as this transaction sees it."""
        if (table, key) not in self._rows:
            self._fetch_rows({(table, key)})
        row = self._rows[table, key]
        return None if row is None else row.copy()

    def put(self, table: str, row: Row) -> None:
        """Insert or replace the row."""
        for column, value in row.items():
            if isinstance(value, str):
                require_storable(column, value)
        row = row.copy()
        key = key_of(table, row)
        self._rows[table, key] = row
        self.changed.setdefault(table, {})[key] = row


def key_of(table: str, row: Row) -> Key:
    """A row's key."""
    return tuple([row[column] for column in TABLES[table].key])


def _fold(event: Event, tables: Draft) -> None:
    try:
        fold(event, tables)
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise _malformed(event, error) from error


def _touched(event: Event) -> tuple[tuple[str, Key], ...]:
    try:
        return touched(event.type, event.payload)
    except (KeyError, TypeError) as error:
        raise _malformed(event, error) from error


def _malformed(event: Event, error: Exception) -> InputError:
    return InputError(
        f"The payload of {event.type} {event.key} cannot be applied: {type(error).__name__} {error}.", value=event.key,
        rule="a payload carries the fields that its event's tables are kept from", remedy="correct the code that wrote this event",
    )


def _check_envelope(new: NewEvent) -> None:
    for name, value in (("stream", new.stream), ("key", new.key), ("actor", new.actor)):
        if not value or len(value) > MAX_NAME:
            raise InputError(
                f"The {name} of {new.type} has {len(value)} characters.", value=value[:MAX_NAME],
                rule=f"1 to {MAX_NAME} characters", remedy=f"shorten the {name}",
            )
        require_storable(name, value)
    if new.at.tzinfo is None:
        raise InputError(
            f"{new.type} at {new.at} has no time zone.", value=new.at, rule="instants are aware", remedy="pass an aware datetime"
        )


def _payload_text(new: NewEvent) -> str:
    try:
        return canonical_payload(new.payload)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The payload of {new.type} {new.key} cannot be written: {error}.", value=new.key,
            rule="a payload is JSON, Decimal, datetime and date; no NaN", remedy="correct the code that wrote this event",
        ) from error
