"""Brokers: tickets, the leave to submit one, and what an account says of itself."""

import hashlib
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.events import canonical_payload
from trading_pipeline.domain.orders import OrderType, Side, TimeInForce
from trading_pipeline.domain.portfolio import Fill


class BrokerStatus(StrEnum):
    """What a broker says of an order."""

    HELD = "held"
    """A bracket's child, waiting for its parent's fill."""
    WORKING = "working"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Ticket:
    """The bytes of one order as the broker gets them. Children become active with their parent's fills."""

    client_id: str
    symbol: str
    side: Side
    quantity: int
    order_type: OrderType
    limit_price: Decimal | None
    stop_price: Decimal | None
    time_in_force: TimeInForce
    children: tuple["Ticket", ...] = ()
    oco: str | None = None
    """Tickets of one group cancel each other."""


def ticket_digest(ticket: Ticket) -> str:
    """SHA-256 in hex over the canonical JSON of every field, children included: what a permit is good for (invariant 24)."""
    return hashlib.sha256(canonical_payload(encode(ticket)).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class BrokerOrder:
    """An order as the broker knows it."""

    client_id: str
    broker_order_id: str
    ticket: Ticket
    status: BrokerStatus
    filled_quantity: int
    reason: str
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class BrokerAccount:
    """Balances as the broker states them, USD."""

    account: str
    cash: Decimal
    equity: Decimal
    buying_power: Decimal


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to submit one ticket, made by the gate alone and good for a few seconds (invariants 23, 32)."""

    client_id: str
    digest: str
    submitted_seq: int
    strategy: str
    good_until: float
    """By this process's monotonic clock, seconds: a submission that was held up is not sent."""
    good_until_wall: float
    """By the machine's wall clock, seconds since 1970: the monotonic clock may stand still while a machine sleeps."""


def lapses_in(seconds: float) -> tuple[float, float]:
    """`good_until` and `good_until_wall` of a permit that is granted now."""
    return time.monotonic() + seconds, time.time() + seconds


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a broker can do, declared by its adapter and held to it by the conformance suite."""

    visibility: timedelta
    """How long after its submission an order may still not show in queries (invariant 15)."""
    deduplicates: bool
    """A client id is accepted once, ever."""
    brackets: bool
    """It holds an entry's stops and targets itself, one cancelling the other."""
    in_place: bool
    """Whoever holds the lease may submit; otherwise only the desk's process, which has the session."""


class Broker(Protocol):
    """A broker's account. Reads may be repeated; `submit` is called once an order, ever."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""

    @property
    def name(self) -> str:
        """`paper`, later `ibkr`, `etrade`, `robinhood`."""

    @property
    def account_id(self) -> str:
        """The account that orders go to."""

    def submit(self, ticket: Ticket, permit: Permit) -> BrokerOrder:
        """Place an order with its children.

        Raises:
            BrokerRefused: Definitely not placed.
            OrderExists: Nor was this one; an order of that name was, before.
            BrokerNotReady: Nothing was sent.
            OutcomeUnknown: It may have been placed; only a query can tell.
        """

    def cancel(self, client_id: str) -> None:
        """Ask to cancel; idempotent. The order's status says what became of it."""

    def orders(self, client_ids: Collection[str] | None = None) -> list[BrokerOrder]:
        """The named orders, or all open ones when None; unknown names are left out."""

    def executions(self, since: datetime) -> list[tuple[str, Fill]]:
        """(client id, fill) of every execution at or after an instant, in order of time."""

    def positions(self) -> dict[str, int]:
        """Shares a symbol, zero left out."""

    def account(self) -> BrokerAccount:
        """Balances now."""

    def paid_in_lieu_at(self, symbol: str, split_at: datetime) -> Decimal | None:
        """USD an old share at which fractions were paid at the split that counts from an instant; None where it states none."""
