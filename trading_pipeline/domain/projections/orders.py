"""The family `order.*`: states by the table of INVARIANTS 3.2, and executions with what they do to positions and cash."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from trading_pipeline.domain import orders
from trading_pipeline.domain.approvals import ActionState
from trading_pipeline.domain.events import Event, EventType, instant_from
from trading_pipeline.domain.money import ZERO
from trading_pipeline.domain.orders import OrderState, Side
from trading_pipeline.domain.portfolio import EXTERNAL, Fill, Position
from trading_pipeline.domain.projections.actions import action_moves, action_rows
from trading_pipeline.domain.projections.rows import Handler, Touched, blank, money, move, position_of, require
from trading_pipeline.domain.projections.tables import Key, Tables
from trading_pipeline.errors import IllegalTransition


def _order_intent(event: Event, tables: Tables) -> None:
    data = event.payload
    if tables.get("orders", (data["client_id"],)) is not None:
        raise IllegalTransition(
            f"The order {data['client_id']} exists already.", value=data["client_id"],
            rule="a client id is used once (invariant 13)", remedy="read the order's state",
        )
    tables.put(
        "orders",
        blank(
            "orders", client_id=data["client_id"], action_id=data["action_id"], part=data["part"], parent=data.get("parent"),
            oco=data.get("oco"), account=data["account"], strategy=data["strategy"], symbol=data["symbol"], side=data["side"],
            order_class=data["order_class"], order_type=data["order_type"], time_in_force=data["time_in_force"],
            quantity=data["quantity"], reference=Decimal(data["reference"]), limit_price=money(data.get("limit_price")),
            stop_price=money(data.get("stop_price")), state=OrderState.INTENT.value, reason="", filled_quantity=0, filled_value=ZERO,
            session=data["session"], intent_at=event.at, updated_at=event.at, intent_seq=event.seq, last_seq=event.seq,
        ),
    )
    action = tables.get("actions", (data["action_id"],))
    if action is not None and action["state"] in (ActionState.APPROVED.value, ActionState.READY.value):
        action_moves(ActionState.CONSUMED)(event, tables)


def _order_moves(target: OrderState, table: Mapping[OrderState, frozenset[OrderState]] = orders.TRANSITIONS) -> Handler:
    def handler(event: Event, tables: Tables) -> None:
        data = event.payload
        row = require(tables, "orders", (data["client_id"],), event)
        current = OrderState(row["state"])
        to = target
        if target is OrderState.ACCEPTED and current is OrderState.CANCEL_PENDING:
            to = OrderState(row["before_cancel"])
        move(current, to, table, f"The order {row['client_id']}", event)
        if to is OrderState.CANCEL_PENDING and current is not OrderState.CANCEL_PENDING:
            row["before_cancel"] = current.value
        row.update(state=to.value, reason=data.get("reason", row["reason"]), updated_at=event.at, last_seq=event.seq)
        if to is OrderState.SUBMITTED:
            row["submitted_at"] = event.at
        if data.get("broker_order_id"):
            row["broker_order_id"] = data["broker_order_id"]
        tables.put("orders", row)

    return handler


def fill_of(data: Mapping[str, Any]) -> Fill:
    """The fill in the payload of `order.filled` or `order.partially_filled`."""
    return Fill(
        data["execution_id"], data["client_id"], data["symbol"], Side(data["side"]), data["quantity"], Decimal(data["price"]),
        Decimal(data["commission"]), instant_from(data["filled_at"]),
    )


def _order_filled(event: Event, tables: Tables) -> None:
    """Book an execution whatever the order's state: an overfill, or a fill of what was dead, quarantines the order."""
    data = event.payload
    row = require(tables, "orders", (data["client_id"],), event)
    fill = fill_of(data)
    total = row["filled_quantity"] + fill.quantity
    current = OrderState(row["state"])
    if current in (OrderState.FILLED, OrderState.REJECTED, OrderState.QUARANTINED) or total > row["quantity"]:
        target = OrderState.QUARANTINED
    elif total == row["quantity"]:
        target = OrderState.FILLED
    elif current in (OrderState.CANCELED, OrderState.EXPIRED, OrderState.CANCEL_PENDING, OrderState.NOT_PLACED, OrderState.LATE_FOUND):
        target = current
    else:
        target = OrderState.PARTIAL
    if target is not current:
        move(current, target, orders.TRANSITIONS, f"The order {row['client_id']}", event)
    row.update(
        state=target.value, filled_quantity=total, filled_value=row["filled_value"] + fill.quantity * fill.price,
        updated_at=event.at, last_seq=event.seq,
    )
    tables.put("orders", row)
    _book(row["strategy"], row["account"], fill, event, tables)


def _external_filled(event: Event, tables: Tables) -> None:
    """An execution that no order of ours explains belongs to the account, under a name of its own (invariant 28)."""
    _book(EXTERNAL, event.payload["account"], fill_of(event.payload), event, tables)


def _book(strategy: str, account: str, fill: Fill, event: Event, tables: Tables) -> None:
    tables.put(
        "fills",
        blank(
            "fills", execution_id=fill.execution_id, client_id=fill.client_id, strategy=strategy, symbol=fill.symbol,
            side=fill.side.value, quantity=fill.quantity, price=fill.price, commission=fill.commission, at=fill.at,
            session=event.payload["session"], seq=event.seq,
        ),
    )
    position = position_of(tables.get("positions", (strategy, fill.symbol))) or Position(strategy, fill.symbol)
    after = position.after(fill)
    tables.put(
        "positions",
        blank(
            "positions", strategy=strategy, symbol=fill.symbol, quantity=after.quantity, cost=after.cost, realised=after.realised,
            opened_at=after.opened_at, last_seq=event.seq,
        ),
    )
    cash = require(tables, "cash", (account,), event)
    flow = fill.quantity * fill.price * (-1 if fill.side is Side.BUY else 1) - fill.commission
    cash.update(cash=cash["cash"] + flow, commissions=cash["commissions"] + fill.commission, last_seq=event.seq)
    tables.put("cash", cash)


def _fill_corrected(event: Event, tables: Tables) -> None:
    """The broker restates an execution: the fact carries the position as folded anew from every fill."""
    data = event.payload
    fill = require(tables, "fills", (data["execution_id"],), event)
    flow = fill["quantity"] * (Decimal(data["price"]) - fill["price"]) * (-1 if fill["side"] == Side.BUY else 1)
    flow -= Decimal(data["commission"]) - fill["commission"]
    fill.update(price=Decimal(data["price"]), commission=Decimal(data["commission"]))
    tables.put("fills", fill)
    position = require(tables, "positions", (data["strategy"], data["symbol"]), event)
    position.update(cost=Decimal(data["cost"]), realised=Decimal(data["realised"]), last_seq=event.seq)
    tables.put("positions", position)
    cash = require(tables, "cash", (data["account"],), event)
    cash.update(
        cash=cash["cash"] + flow, commissions=cash["commissions"] + Decimal(data["commission"]) - Decimal(data["commission_before"]),
        last_seq=event.seq,
    )
    tables.put("cash", cash)


def _order_adopted(event: Event, tables: Tables) -> None:
    """An order with a name of ours that the broker has and this ledger never sent: it was restored from before (C14)."""
    data = event.payload
    row = tables.get("orders", (data["client_id"],))
    if row is not None:
        if row["state"] not in (OrderState.INTENT, OrderState.DENIED):
            raise IllegalTransition(
                f"The order {data['client_id']} is {row['state']}.", value=data["client_id"], rule="only what was never sent is adopted",
                remedy="read the order's state",
            )
        row.update(
            state=OrderState.ACCEPTED.value, reason="adopted", broker_order_id=data["broker_order_id"], submitted_at=event.at,
            updated_at=event.at, last_seq=event.seq,
        )
        tables.put("orders", row)
        return
    tables.put(
        "orders",
        blank(
            "orders", client_id=data["client_id"], action_id="", part="adopted", account=data["account"], strategy=EXTERNAL,
            symbol=data["symbol"], side=data["side"], order_class=data["order_class"], order_type=data["order_type"],
            time_in_force=data["time_in_force"], quantity=data["quantity"], reference=Decimal(data["reference"]), oco=data.get("oco"),
            limit_price=money(data["limit_price"]), stop_price=money(data["stop_price"]), state=OrderState.ACCEPTED.value,
            reason="adopted", broker_order_id=data["broker_order_id"], filled_quantity=0, filled_value=ZERO, session=data["session"],
            intent_at=event.at, submitted_at=event.at, updated_at=event.at, intent_seq=event.seq, last_seq=event.seq,
        ),
    )


def _order_row(data: Mapping[str, Any]) -> tuple[tuple[str, Key], ...]:
    return (("orders", (data["client_id"],)),)


def _intent_rows(data: Mapping[str, Any]) -> tuple[tuple[str, Key], ...]:
    return (*_order_row(data), *action_rows(data))


def _fill_rows(data: Mapping[str, Any]) -> tuple[tuple[str, Key], ...]:
    return (*_order_row(data), *_booked_rows(data))


def _correction_rows(data: Mapping[str, Any]) -> tuple[tuple[str, Key], ...]:
    return (("fills", (data["execution_id"],)), *_booked_rows(data))


def _booked_rows(data: Mapping[str, Any]) -> tuple[tuple[str, Key], ...]:
    return (("positions", (data["strategy"], data["symbol"])), ("cash", (data["account"],)))


HANDLERS: dict[EventType, Handler] = {
    EventType.ORDER_INTENT: _order_intent,
    EventType.ORDER_DENIED: _order_moves(OrderState.DENIED),
    EventType.ORDER_SUBMITTED: _order_moves(OrderState.SUBMITTED),
    EventType.ORDER_ACCEPTED: _order_moves(OrderState.ACCEPTED),
    EventType.ORDER_REJECTED: _order_moves(OrderState.REJECTED),
    EventType.ORDER_UNKNOWN: _order_moves(OrderState.UNKNOWN),
    EventType.ORDER_PARTIALLY_FILLED: _order_filled,
    EventType.ORDER_FILLED: _order_filled,
    EventType.ORDER_CANCEL_REQUESTED: _order_moves(OrderState.CANCEL_PENDING),
    EventType.ORDER_CANCELED: _order_moves(OrderState.CANCELED),
    EventType.ORDER_EXPIRED: _order_moves(OrderState.EXPIRED),
    EventType.ORDER_NOT_PLACED: _order_moves(OrderState.NOT_PLACED),
    EventType.ORDER_LATE_FOUND: _order_moves(OrderState.LATE_FOUND),
    EventType.ORDER_QUARANTINED: _order_moves(OrderState.QUARANTINED),
    EventType.ORDER_ADOPTED: _order_adopted,
    EventType.ORDER_RELEASED: _order_moves(OrderState.CANCELED, orders.RELEASES),
    EventType.FILL_CORRECTED: _fill_corrected,
    EventType.EXTERNAL_FILLED: _external_filled,
}
TOUCHED: dict[EventType, Touched] = {
    **dict.fromkeys(HANDLERS, _order_row),
    EventType.ORDER_INTENT: _intent_rows,
    EventType.ORDER_FILLED: _fill_rows,
    EventType.ORDER_PARTIALLY_FILLED: _fill_rows,
    EventType.FILL_CORRECTED: _correction_rows,
    EventType.EXTERNAL_FILLED: _booked_rows,
}
