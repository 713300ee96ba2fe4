"""The families `action.*` and `approval.*`, with the facts that make and judge an action (INVARIANTS 3.1)."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from trading_pipeline.domain import approvals
from trading_pipeline.domain.approvals import ActionState
from trading_pipeline.domain.events import Event, EventType, instant_from
from trading_pipeline.domain.projections.rows import Handler, Touched, blank, json_text, move, require
from trading_pipeline.domain.projections.tables import Key, Tables


def _action_generated(event: Event, tables: Tables) -> None:
    data = event.payload
    if data["action"] == "hold":
        return
    tables.put(
        "actions",
        blank(
            "actions", action_id=data["action_id"], strategy=data["strategy"], symbol=data["symbol"], side=data["action"],
            state=ActionState.PROPOSED.value, reason="", confidence=Decimal(data["confidence"]), cycle_id=data["cycle"],
            bar_end=instant_from(data["bar_end"]), session=data["session"], generated_at=event.at, admitted=False,
            generated_seq=event.seq, last_seq=event.seq,
        ),
    )


def _risk_evaluated(event: Event, tables: Tables) -> None:
    data = event.payload
    row = require(tables, "actions", (data["action_id"],), event)
    if data["stage"] != "proposal":
        return
    row.update(order_class=data["order_class"], verdict_seq=event.seq, last_seq=event.seq)
    if data.get("intent") is not None:
        row["intent"] = json_text(data["intent"])
    if data["passed"]:
        row["admitted"] = True
    else:
        move(ActionState(row["state"]), ActionState.DENIED, approvals.TRANSITIONS, f"The action {row['action_id']}", event)
        row.update(state=ActionState.DENIED.value, reason=data["reason"])
    tables.put("actions", row)


def action_moves(target: ActionState) -> Handler:
    """A handler that moves an action, and its approval if it has one."""

    def handler(event: Event, tables: Tables) -> None:
        data = event.payload
        row = require(tables, "actions", (data["action_id"],), event)
        move(ActionState(row["state"]), target, approvals.TRANSITIONS, f"The action {row['action_id']}", event)
        row.update(state=target.value, reason=data.get("reason", ""), last_seq=event.seq)
        for column in ("not_before", "expires_at"):
            if data.get(column) is not None:
                row[column] = instant_from(data[column])
        tables.put("actions", row)
        approval = tables.get("approvals", (data["action_id"],))
        if approval is not None:
            approval.update(state=target.value, last_seq=event.seq)
            if target in (ActionState.APPROVED, ActionState.REJECTED, ActionState.EXPIRED, ActionState.VOIDED):
                approval.update(decided_at=event.at, decided_by=event.actor, reason=data.get("reason", ""))
            tables.put("approvals", approval)

    return handler


def _approval_requested(event: Event, tables: Tables) -> None:
    data = event.payload
    action_moves(ActionState.PENDING)(event, tables)
    tables.put(
        "approvals",
        blank(
            "approvals", action_id=data["action_id"], strategy=data["strategy"], symbol=data["symbol"],
            state=ActionState.PENDING.value, shown=json_text(data["shown"]), hash=data["hash"], nonce=data["nonce"],
            requested_at=event.at, expires_at=instant_from(data["expires_at"]), price_low=Decimal(data["price_low"]),
            price_high=Decimal(data["price_high"]), limits_version=data["limits_version"], requested_seq=event.seq, last_seq=event.seq,
        ),
    )


def action_rows(data: Mapping[str, Any]) -> tuple[tuple[str, Key], ...]:
    """The action that a payload names, and its approval."""
    return (("actions", (data["action_id"],)), ("approvals", (data["action_id"],)))


HANDLERS: dict[EventType, Handler] = {
    EventType.LLM_ACTION_GENERATED: _action_generated,
    EventType.RISK_EVALUATED: _risk_evaluated,
    EventType.ACTION_READY: action_moves(ActionState.READY),
    EventType.ACTION_EXPIRED: action_moves(ActionState.EXPIRED),
    EventType.ACTION_VOIDED: action_moves(ActionState.VOIDED),
    EventType.APPROVAL_REQUESTED: _approval_requested,
    EventType.APPROVAL_APPROVED: action_moves(ActionState.APPROVED),
    EventType.APPROVAL_REJECTED: action_moves(ActionState.REJECTED),
    EventType.APPROVAL_EXPIRED: action_moves(ActionState.EXPIRED),
    EventType.APPROVAL_VOIDED: action_moves(ActionState.VOIDED),
}
TOUCHED: dict[EventType, Touched] = {
    type_: action_rows for type_ in HANDLERS if type_ is not EventType.LLM_ACTION_GENERATED
}
