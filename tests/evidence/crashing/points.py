"""Where a process can be made to die, by name, without any hook in production code: wrappers around the ports.

A place is a word such as `before commit order.intent` or `submit: after the broker's commit`; the named points C1-C12 of
INVARIANTS 3.2 are the places that belong to them. A trap kills the process that steps on its place for the nth time with a real
SIGKILL. C13 (a second crash within recovery) is any place in a process that has just been started; C14, a restored ledger, is
the sweep's own business.
"""

import os
import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from trading_pipeline.adapters.brokers.paper_book import Book
from trading_pipeline.adapters.brokers.paper_postgres import PostgresBook
from trading_pipeline.domain.events import Event, EventType, NewEvent
from trading_pipeline.ports import Broker, BrokerOrder, Fence, Ledger, Permit, Ticket, Transaction

E = EventType


def before(*types: EventType) -> tuple[str, ...]:
    """The ledger has everything but the commit."""
    return tuple(f"before commit {type_.value}" for type_ in types)


def after(*types: EventType) -> tuple[str, ...]:
    """The commit was acknowledged, nothing followed."""
    return tuple(f"after commit {type_.value}" for type_ in types)


EXIT = "exit intent"
"""Stands beside the type for an intent to close a position whose protection has been cancelled for it."""
POINTS = MappingProxyType[str, tuple[str, ...]](
    {
        "C1": before(E.ORDER_INTENT),
        "C2": (*after(E.ORDER_INTENT), *before(E.ORDER_SUBMITTED)),
        "C3": (*after(E.ORDER_SUBMITTED), "submit: before the call"),
        "C4": ("submit: before the broker's commit",),
        "C5": ("submit: after the broker's commit",),
        "C6": ("submit: after the reply", *before(E.ORDER_ACCEPTED, E.ORDER_UNKNOWN)),
        "C7": after(E.ORDER_ACCEPTED),
        "C8": after(E.ORDER_PARTIALLY_FILLED),
        "C9": (*before(E.ORDER_FILLED), *after(E.ORDER_FILLED)),
        "C10": (*after(E.ORDER_CANCEL_REQUESTED), "cancel: before the call"),
        "C11": ("cancel: after the broker's commit", "cancel: after the call", *before(E.ORDER_CANCELED)),
        "C12": (f"before commit {EXIT}", f"after commit {EXIT}", *after(E.ORDER_CANCELED)),
    }
)
"""INVARIANTS 3.2: the crash table."""
RECOVERY = (
    "before commit", "after commit", "before a query", "after a query", *before(E.ORDER_UNKNOWN, E.ORDER_CANCELED, E.ORDER_FILLED),
    *after(E.ORDER_UNKNOWN, E.ORDER_CANCELED, E.ORDER_LATE_FOUND), "cancel: before the call", "cancel: after the call",
)
"""C13: where a process that has just been started dies once more."""


@dataclass(slots=True)
class Trap:
    """Kills this process when it comes by the place for the nth time, or stops it; never, without a place."""

    place: str = ""
    on: int = 1
    sends: signal.Signals = signal.SIGKILL

    def at(self, place: str) -> None:
        """Come by a place."""
        if place != self.place:
            return
        self.on -= 1
        if self.on == 0:
            os.kill(os.getpid(), self.sends)


class CrashingLedger:
    """A ledger whose transactions come by places before and after their commits."""

    def __init__(self, ledger: Ledger, trap: Trap, lease_seconds: float) -> None:
        self._ledger = ledger
        self._trap = trap
        self._lease_seconds = lease_seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def lease(self, name: str, wait_seconds: float = 10.0) -> AbstractContextManager[Fence]:
        """As the ledger's own, for as long as the sweep says."""
        return self._ledger.lease(name, wait_seconds, self._lease_seconds)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """As the ledger's own."""
        with self._ledger.transaction() as tx:
            recorded = Recorded(tx)
            yield recorded  # type: ignore[misc]  # the rest comes by __getattr__
            self._pass("before commit", recorded)
        self._pass("after commit", recorded)

    def _pass(self, when: str, tx: "Recorded") -> None:
        if not tx.drafted:
            return
        self._trap.at(when)
        for what in dict.fromkeys(tx.drafted):
            self._trap.at(f"{when} {what}")


@dataclass(slots=True)
class Recorded:
    """A transaction that remembers what was new in it."""

    tx: Transaction
    drafted: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tx, name)

    def append(self, *events: NewEvent) -> list[Event]:
        """As the transaction's own."""
        stored = self.tx.append(*events)
        for event in stored:
            if self.tx.is_new(event):
                self.drafted.append(event.type.value)
                if event.type is E.ORDER_INTENT and str(event.payload["part"]).startswith("exit"):
                    self.drafted.append(EXIT)
        return stored


class CrashingBook(PostgresBook):
    """The paper account, whose own commits are places while an order or a cancel is on its way."""

    trap = Trap()
    entry = ""
    """`submit` or `cancel` while one is being handled."""

    @contextmanager
    def change(
        self, *, named: Collection[str] = (), since: datetime | None = None, hidden: bool = False, traded: Collection[str] = (),
    ) -> Iterator[Book]:
        """As the book's own."""
        with super().change(named=named, since=since, hidden=hidden, traded=traded) as book:
            yield book
            if self.entry:
                self.trap.at(f"{self.entry}: before the broker's commit")
        if self.entry:
            self.trap.at(f"{self.entry}: after the broker's commit")


class CrashingBroker:
    """A broker whose calls are places; what it answers is the broker's own."""

    def __init__(self, broker: Broker, book: CrashingBook, trap: Trap) -> None:
        self._broker = broker
        self._book = book
        self._trap = trap
        for query in ("orders", "executions", "positions", "account"):
            setattr(self, query, self._asking(getattr(broker, query)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    def submit(self, ticket: Ticket, permit: Permit) -> BrokerOrder:
        """As the broker's own."""
        with self._entry("submit"):
            answer = self._broker.submit(ticket, permit)
        self._trap.at("submit: after the reply")
        return answer

    def cancel(self, client_id: str) -> None:
        """As the broker's own."""
        with self._entry("cancel"):
            self._broker.cancel(client_id)
        self._trap.at("cancel: after the call")

    @contextmanager
    def _entry(self, name: str) -> Iterator[None]:
        self._trap.at(f"{name}: before the call")
        self._book.entry = name
        try:
            yield
        finally:
            self._book.entry = ""

    def _asking(self, query: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*args: Any, **kwargs: Any) -> Any:
            self._trap.at("before a query")
            answer = query(*args, **kwargs)
            self._trap.at("after a query")
            return answer

        return asked
