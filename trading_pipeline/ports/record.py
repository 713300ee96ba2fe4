"""The record: reading and writing the ledger, leases and fences over it, and processes that say they are well."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from trading_pipeline.domain.derivation import Difference
from trading_pipeline.domain.events import Event, EventType, NewEvent
from trading_pipeline.domain.projections import Row

LEASE_SECONDS = 30.0
"""How long a lease outlives its last renewal."""


class Reader(Protocol):
    """Reading the ledger: committed facts and the tables kept from them."""

    def get(self, table: str, *key: Any) -> Row | None:
        """One row by key."""

    def find(
        self, table: str, *, since: tuple[str, datetime] | None = None, order_by: str | None = None, descending: bool = False,
        limit: int | None = None, **equals: Any,
    ) -> list[Row]:
        """Rows whose columns equal the given values (a collection: any of them).

        Args:
            since: (instant column, earliest value included).
            order_by: A column; by key when None.
        """

    def event(self, seq: int) -> Event | None:
        """One event by seq."""

    def event_by_key(self, key: str) -> Event | None:
        """One event by its key."""

    def events(
        self, *, after: int = 0, types: Collection[EventType] = (), stream: str | None = None, limit: int | None = None,
    ) -> list[Event]:
        """Events in order of seq, after a seq, optionally of some types or one stream."""

    def head(self) -> tuple[int, bytes]:
        """The newest seq and its hash; (0, GENESIS) when empty."""


@dataclass(frozen=True, slots=True)
class Fence:
    """The number under which a lease was taken: each new holder's is higher, and so is the one after a revocation (invariant 22)."""

    name: str
    token: int


@dataclass(frozen=True, slots=True)
class Health:
    """What a long-running process last said of itself."""

    name: str
    age: float
    """Seconds since, by the ledger's own clock."""
    content: Mapping[str, Any]


class Transaction(Reader, Protocol):
    """A serialised write: the head is locked from entering to leaving, all or nothing is written."""

    def append(self, *events: NewEvent) -> list[Event]:
        """Append facts and change the tables; a key that exists returns the stored event and changes nothing.

        Raises:
            IllegalTransition: An event does not follow from its row; the transaction is lost.
        """

    def is_new(self, event: Event) -> bool:
        """Whether this transaction appended the event (it did not exist before)."""

    def require(self, fence: Fence) -> None:
        """Make sure that the lease is still held under this fence, until the transaction ends.

        Raises:
            Fenced: Somebody else has taken the lease, or it was revoked.
        """


class Ledger(Reader, Protocol):
    """The one record."""

    @property
    def environment(self) -> str:
        """live, paper, backtest or demo: stamped at creation."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Begin a serialised write; commits on leaving, rolls back on an exception."""

    def lease(self, name: str, wait_seconds: float = 10.0, life_seconds: float = LEASE_SECONDS) -> AbstractContextManager[Fence]:
        """Hold a named lock among all processes on this ledger, under a new fence.

        A holder that has not renewed it for `life_seconds` (a stopped process) loses it to whoever asks.

        Raises:
            LedgerUnavailable: Not had in time.
        """

    def renew(self, fence: Fence) -> None:
        """Say that the holder is alive; Fenced when the lease is no longer held under this fence."""

    def revoke(self, name: str) -> None:
        """Raise the fence of a lease without taking it: what its holder has not submitted yet it can no longer submit."""

    def beat(self, name: str, content: Mapping[str, Any]) -> None:
        """Renew a process's health row; JSON values."""

    def health(self, name: str) -> Health | None:
        """The health row, if there ever was one."""

    def count(self) -> int:
        """How many facts there are: the newest seq, and cheaper."""

    def scan(self, first: int = 1, last: int | None = None) -> Iterator[Event]:
        """All events in order of seq, streamed, bounded in memory."""

    def dump(self, table: str) -> Iterator[Row]:
        """All rows of a table in key order."""

    def rebuild(self) -> int:
        """Write the tables anew from the events; returns how many events were folded."""

    def close(self) -> None:
        """Let go of connections."""


class Past(Reader, Protocol):
    """The ledger as it was right after one of its events, worked out from the events up to there."""

    def add(self, event: Event) -> Difference | None:
        """Go on by the next event; a difference says that it does not follow, and ends it."""

    def dump(self, table: str) -> Iterator[Row]:
        """All rows of a table in key order."""
