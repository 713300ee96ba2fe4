"""Facts about orders as everybody here writes them, and how the broker's order is held against the one that was sent."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.orders import OrderState
from trading_pipeline.domain.projections import Row
from trading_pipeline.ports import Reader, Ticket, Transaction
from trading_pipeline.service.actors import RECOVERY

_ECHOED = ("symbol", "side", "quantity", "order_type", "limit_price", "stop_price", "time_in_force")


def order_event(type_: EventType, row: Row, facts: dict[str, Any], at: datetime, actor: str, cause: int | None = None) -> NewEvent:
    """A fact about an order, named by its type and the order: each can happen once under that name."""
    payload = {"client_id": row["client_id"], "action_id": row["action_id"], "strategy": row["strategy"], "symbol": row["symbol"]} | facts
    return NewEvent(type_, f"strategy:{row['strategy']}", f"{type_.value}:{row['client_id']}", payload, at, actor, cause or row["last_seq"])


def denied(rows: Iterable[Row], reason: str, at: datetime, actor: str) -> list[NewEvent]:
    """`order.denied` of each of these orders that was meant and never sent."""
    told = {"reason": reason}
    return [order_event(EventType.ORDER_DENIED, row, told, at, actor) for row in rows if row["state"] == OrderState.INTENT.value]


def taken(reader: Reader, client_ids: Sequence[str]) -> list[str]:
    """Names among these that the ledger knows already, from orders or from executions that it booked as a stranger's (C14)."""
    orders = {row["client_id"] for row in reader.find("orders", client_id=list(client_ids))}
    return sorted(orders | {row["client_id"] for row in reader.find("fills", client_id=list(client_ids))})


def again(tx: Transaction, event: NewEvent) -> NewEvent:
    """The fact under a name of its own, where it has happened to the order before."""
    return event if tx.event_by_key(event.key) is None else replace(event, key=f"{event.key}:{tx.head()[0]}")


def doubt(row: Row, at: datetime) -> NewEvent:
    """A submission without an answer is UNKNOWN; appended with the submitter's lease only."""
    reason = "no answer was recorded: found after a restart"
    return order_event(EventType.ORDER_UNKNOWN, row, {"reason": reason}, at, RECOVERY)


def misheard(row: Row, echoed: Ticket) -> str:
    """Where what the broker has is another order than was sent (invariant 24), in words; empty when it is the same."""
    told = {name: (row[name], getattr(echoed, name)) for name in _ECHOED}
    return "; ".join(f"{name} {sent} was sent, {heard} was heard" for name, (sent, heard) in told.items() if sent != heard)


def wording(text: str) -> str:
    """What a broker's words say without the numbers and ids in them, which differ each time."""
    return " ".join(word for word in text.split() if not any(letter.isdigit() for letter in word))
