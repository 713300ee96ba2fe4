"""Voiding: an open action is taken back, with its approval if one was asked for (INVARIANTS 3.1)."""

from datetime import date, datetime

from trading_pipeline.domain.approvals import OPEN, ActionState
from trading_pipeline.domain.events import Event, EventType, NewEvent
from trading_pipeline.domain.projections import Row
from trading_pipeline.ports import Transaction


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
