"""Taking back: an open action, with its approval if one was asked for (INVARIANTS 3.1), and an entry that was never sent."""

from datetime import date, datetime

from trading_pipeline.domain.approvals import OPEN, ActionState
from trading_pipeline.domain.events import Event, EventType, NewEvent
from trading_pipeline.domain.orders import OrderClass, OrderState
from trading_pipeline.domain.projections import Row
from trading_pipeline.ports import Transaction
from trading_pipeline.service.orders.order_facts import denied


def void(tx: Transaction, row: Row, reason: str, at: datetime, actor: str, cause: int | None = None) -> list[Event]:
    """Void an action and, if it has one, its approval; nothing when it is open no longer: who saw the row may have been overtaken."""
    present = tx.get("actions", row["action_id"])
    if present is None or ActionState(present["state"]) not in OPEN:
        return []
    asked = tx.get("approvals", row["action_id"]) is not None
    type_ = EventType.APPROVAL_VOIDED if asked else EventType.ACTION_VOIDED
    payload = {"action_id": row["action_id"], "strategy": row["strategy"], "symbol": row["symbol"], "reason": reason}
    return tx.append(NewEvent(type_, f"strategy:{row['strategy']}", f"{type_.value}:{row['action_id']}", payload, at, actor, cause))


def void_open(
    tx: Transaction, reason: str, at: datetime, actor: str, *, strategy: str | None = None, symbol: str | None = None,
    until: date | None = None, cause: int | None = None,
) -> list[Event]:
    """Void every open action, or those of one strategy, of one symbol, up to one session."""
    events: list[Event] = []
    for row in tx.find("actions", state=tuple(state.value for state in OPEN)):
        meant = (strategy, symbol) == (strategy and row["strategy"], symbol and row["symbol"])
        if meant and (until is None or row["session"] <= until.isoformat()):
            events += void(tx, row, reason, at, actor, cause)
    return events


def take_back(tx: Transaction, strategy: str, reason: str, at: datetime, actor: str, *, until: date | None = None) -> None:
    """Void a strategy's open actions, and deny its entries that were meant and not sent, with their stops and targets (D10, 48).

    A submission looks at the state of its intent in its own transaction: this comes first and nothing is sent, or it finds the order
    submitted. Exits, and what protects a position by itself, stay: the gate judges them when they are sent.

    Args:
        until: Only what belongs to this session or an earlier one.
    """
    void_open(tx, reason, at, actor, strategy=strategy, until=until)
    unsent = tx.find("orders", strategy=strategy, state=OrderState.INTENT.value)
    entries = {
        row["client_id"] for row in unsent
        if row["order_class"] == OrderClass.ENTRY.value and (until is None or row["session"] <= until.isoformat())
    }
    tx.append(*denied((row for row in unsent if not entries.isdisjoint((row["client_id"], row["parent"]))), reason, at, actor))
