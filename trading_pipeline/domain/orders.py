"""Orders: what is to be sent, what state it is in, and which transitions exist (INVARIANTS 3.2).

`client_id` is fixed before anything is sent and derives from the action: the same action can never
become two orders.
"""

import base64
import hashlib
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from trading_pipeline.domain.money import ZERO


class Side(StrEnum):
    """Long only: SELL reduces."""

    BUY = "buy"
    SELL = "sell"


class OrderClass(StrEnum):
    """Decided by code from the position, never by a model (D6)."""

    ENTRY = "E"
    EXIT = "X"
    PROTECTIVE = "P"


class OrderType(StrEnum):
    """MARKETABLE is a limit at the collar: it fills at the market or not at all."""

    MARKETABLE = "marketable"
    LIMIT = "limit"
    STOP = "stop"


class TimeInForce(StrEnum):
    """Entries are DAY; only protective orders may rest longer, in regular hours (D7)."""

    DAY = "day"
    GTC = "gtc"


class OrderState(StrEnum):
    """The broker's and our knowledge of one order. Terminal ones are in `TERMINAL`."""

    INTENT = "intent"
    DENIED = "denied"
    SUBMITTED = "submitted"
    ACCEPTED = "accepted"
    PARTIAL = "partial"
    FILLED = "filled"
    CANCEL_PENDING = "cancel_pending"
    CANCELED = "canceled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    UNKNOWN = "unknown"
    NOT_PLACED = "not_placed"
    LATE_FOUND = "late_found"
    QUARANTINED = "quarantined"


_S = OrderState
TRANSITIONS: dict[OrderState, frozenset[OrderState]] = {
    _S.INTENT: frozenset({_S.DENIED, _S.SUBMITTED, _S.QUARANTINED}),
    _S.DENIED: frozenset({_S.QUARANTINED}),
    _S.SUBMITTED: frozenset({_S.ACCEPTED, _S.REJECTED, _S.UNKNOWN, _S.PARTIAL, _S.FILLED, _S.QUARANTINED}),
    _S.UNKNOWN: frozenset(
        {
            _S.ACCEPTED, _S.PARTIAL, _S.FILLED, _S.CANCELED, _S.REJECTED, _S.EXPIRED, _S.NOT_PLACED, _S.UNKNOWN, _S.CANCEL_PENDING,
            _S.QUARANTINED,
        }
    ),
    _S.ACCEPTED: frozenset({_S.PARTIAL, _S.FILLED, _S.CANCELED, _S.EXPIRED, _S.REJECTED, _S.CANCEL_PENDING, _S.UNKNOWN, _S.QUARANTINED}),
    _S.PARTIAL: frozenset(
        {_S.PARTIAL, _S.FILLED, _S.CANCELED, _S.EXPIRED, _S.REJECTED, _S.CANCEL_PENDING, _S.UNKNOWN, _S.QUARANTINED}
    ),
    _S.CANCEL_PENDING: frozenset(
        {_S.CANCELED, _S.FILLED, _S.CANCEL_PENDING, _S.ACCEPTED, _S.PARTIAL, _S.UNKNOWN, _S.LATE_FOUND, _S.QUARANTINED}
    ),
    _S.NOT_PLACED: frozenset({_S.LATE_FOUND, _S.NOT_PLACED, _S.FILLED, _S.QUARANTINED}),
    _S.LATE_FOUND: frozenset({_S.FILLED, _S.CANCEL_PENDING, _S.QUARANTINED}),
    _S.CANCELED: frozenset({_S.CANCELED, _S.FILLED, _S.LATE_FOUND, _S.QUARANTINED}),
    _S.EXPIRED: frozenset({_S.EXPIRED, _S.FILLED, _S.QUARANTINED}),
    _S.REJECTED: frozenset({_S.QUARANTINED}),
    _S.FILLED: frozenset({_S.QUARANTINED}),
    _S.QUARANTINED: frozenset({_S.QUARANTINED, _S.CANCELED}),
}
"""INVARIANTS 3.2. A state to itself is a fact worth a line that moves nothing: a fill while partial or while a
cancel is pending, a late fill of a dead order (invariant 19), a cancel sent again after a crash (C10), an
unknown order put before a person, a watch that ended. A cancel refused goes back to the state before it, and
whatever the query then finds follows from there; an order that the broker had and shows no more is in doubt as
well; LATE_FOUND is cancelled in the same transaction. While a cancel is pending, any proof that the order is
dead confirms it: CANCELED, with the broker's word as reason."""
RELEASES: dict[OrderState, frozenset[OrderState]] = {
    state: frozenset({_S.CANCELED} if state in (_S.QUARANTINED, _S.UNKNOWN) else ()) for state in OrderState
}
"""What a person's release makes of an order: it ends one that was set aside or is in doubt, and never one at work."""

WORKING = frozenset({_S.SUBMITTED, _S.UNKNOWN, _S.ACCEPTED, _S.PARTIAL, _S.CANCEL_PENDING, _S.LATE_FOUND})
"""Counted at full worst-case exposure in every check (invariant 16)."""
TERMINAL = frozenset({_S.DENIED, _S.FILLED, _S.CANCELED, _S.REJECTED, _S.EXPIRED, _S.QUARANTINED})


@dataclass(frozen=True, slots=True)
class Bracket:
    """A stop and a target for part of an entry, one cancelling the other, sent with the entry."""

    quantity: int
    stop: Decimal
    target: Decimal | None


@dataclass(frozen=True, slots=True)
class OrderIntent:
    """What is to be sent, before anything is: the rulebook judges it, the hash covers it.

    `reference` is the price the decision was made at; `limit_price` the worst price allowed. Prices in
    USD a share, quantity in whole shares.
    """

    action_id: str
    part: str
    account: str
    environment: str
    strategy: str
    symbol: str
    side: Side
    order_class: OrderClass
    quantity: int
    order_type: OrderType
    reference: Decimal
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.DAY
    brackets: tuple[Bracket, ...] = ()
    oco: str | None = None
    """Of a protective order that is sent by itself: those of one group cancel each other."""

    @property
    def client_id(self) -> str:
        """The order's own name at the broker."""
        return client_id(self.action_id, self.part)

    @property
    def worst_price(self) -> Decimal:
        """The price that value limits are measured at: the limit where it is above the reference (D1)."""
        worst = self.reference
        if self.limit_price is not None and self.limit_price > worst:
            worst = self.limit_price
        return worst if self.stop_price is None or self.stop_price <= worst else self.stop_price

    @property
    def value(self) -> Decimal:
        """USD at the worst price."""
        return self.quantity * self.worst_price if self.quantity > 0 else ZERO


def client_id(action_id: str, part: str) -> str:
    """20 characters A-Z2-7 derived from the action and the part of it (invariant 13).

    `part` is `entry`, `exit`, a slice such as `exit-2`, or a child such as `stop-1`, `target-1`.
    """
    digest = hashlib.sha256(f"{action_id}\x1f{part}".encode()).digest()
    return base64.b32encode(digest[:15]).decode()[:20]
