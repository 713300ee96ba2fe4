"""The tables kept from the events, and how each event changes them.

One fold for every ledger: PostgreSQL applies it inside the append's transaction, the in-memory ledger at
once, `trading verify` from the first event on; so `rebuild(log) == tables` is one piece of code compared
with itself over two stores. A transition that a state machine does not have raises IllegalTransition and
nothing is written.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from trading_pipeline.domain import approvals, orders, strategies
from trading_pipeline.domain.approvals import ActionState
from trading_pipeline.domain.events import Event, EventType, canonical_payload, instant_from
from trading_pipeline.domain.money import ZERO
from trading_pipeline.domain.orders import OrderState, Side
from trading_pipeline.domain.portfolio import Fill, Position
from trading_pipeline.domain.strategies import StrategyState
from trading_pipeline.errors import IllegalTransition

S = TypeVar("S", bound=StrEnum)
Row = dict[str, Any]
Key = tuple[Any, ...]


class Kind(StrEnum):
    """What a column holds, in Python and in PostgreSQL."""

    TEXT = "text"
    INTEGER = "integer"
    MONEY = "money"
    """Decimal, exact."""
    INSTANT = "instant"
    """Aware UTC datetime."""
    FLAG = "flag"
    JSON = "json"
    """Canonical JSON text."""


@dataclass(frozen=True, slots=True)
class Table:
    """A projection: its key columns come first; every column but the key may be null."""

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, Kind]


T, N, M, AT, F, J = Kind.TEXT, Kind.INTEGER, Kind.MONEY, Kind.INSTANT, Kind.FLAG, Kind.JSON

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            "strategies", ("name",),
            {
                "name": T, "state": T, "reason": T, "spec": J, "limits_version": N, "created_at": AT, "state_since": AT, "actor": T,
                "last_seq": N,
            },
        ),
        Table(
            "actions", ("action_id",),
            {
                "action_id": T, "strategy": T, "symbol": T, "side": T, "order_class": T, "state": T, "reason": T, "confidence": M,
                "cycle_id": T, "bar_end": AT, "session": T, "generated_at": AT, "not_before": AT, "expires_at": AT, "intent": J,
                "admitted": F, "generated_seq": N, "verdict_seq": N, "last_seq": N,
            },
        ),
        Table(
            "approvals", ("action_id",),
            {
                "action_id": T, "strategy": T, "symbol": T, "state": T, "shown": J, "hash": T, "nonce": T, "requested_at": AT,
                "expires_at": AT, "price_low": M, "price_high": M, "limits_version": N, "decided_at": AT, "decided_by": T,
                "reason": T, "requested_seq": N, "last_seq": N,
            },
        ),
        Table(
            "orders", ("client_id",),
            {
                "client_id": T, "action_id": T, "part": T, "parent": T, "oco": T, "account": T, "strategy": T, "symbol": T, "side": T,
                "order_class": T, "order_type": T, "time_in_force": T, "quantity": N, "reference": M, "limit_price": M, "stop_price": M,
                "state": T, "before_cancel": T, "reason": T, "broker_order_id": T, "filled_quantity": N, "filled_value": M,
                "session": T, "intent_at": AT, "submitted_at": AT, "updated_at": AT, "intent_seq": N, "last_seq": N,
            },
        ),
        Table(
            "fills", ("execution_id",),
            {
                "execution_id": T, "client_id": T, "strategy": T, "symbol": T, "side": T, "quantity": N, "price": M, "commission": M,
                "at": AT, "session": T, "seq": N,
            },
        ),
        Table(
            "positions", ("strategy", "symbol"),
            {"strategy": T, "symbol": T, "quantity": N, "cost": M, "realised": M, "opened_at": AT, "last_seq": N},
        ),
        Table("cash", ("account",), {"account": T, "cash": M, "deposited": M, "commissions": M, "last_seq": N}),
        Table(
            "snapshots", ("seq",),
            {
                "seq": N, "account": T, "at": AT, "session": T, "equity": M, "cash": M, "market_value": M, "realised": M,
                "unrealised": M, "day_pnl": M, "positions": J,
            },
        ),
        Table(
            "sessions", ("session",),
            {
                "session": T, "state": T, "opened_at": AT, "baseline_equity": M, "closed_at": AT, "closing_equity": M, "report": J,
                "last_seq": N,
            },
        ),
    )
}


class Tables(Protocol):
    """What the fold needs of a store: rows by key, within one transaction."""

    def get(self, table: str, key: Key) -> Row | None:
        """A copy of the row, or None."""

    def put(self, table: str, row: Row) -> None:
        """Insert or replace the row; it has every column of its table."""


def fold(event: Event, tables: Tables) -> None:
    """Change the tables by one event; events that keep no table change nothing.

    Raises:
        IllegalTransition: The event does not follow from the row's state.
    """
    handler = _HANDLERS.get(event.type)
    if handler is not None:
        handler(event, tables)


def touched(type_: EventType, payload: Mapping[str, Any]) -> tuple[tuple[str, Key], ...]:
    """The rows that `fold` will read for an event, so that a store can fetch a batch's rows at once."""
    keys = _TOUCHED.get(type_)
    return keys(payload) if keys is not None else ()


def _json(value: Any) -> str:
    return canonical_payload(value) if isinstance(value, Mapping) else json.dumps(value, sort_keys=True, separators=(",", ":"))


def _blank(table: str, **values: Any) -> Row:
    row: Row = dict.fromkeys(TABLES[table].columns)
    row.update(values)
    return row


def _require(tables: Tables, table: str, key: Key, event: Event) -> Row:
    row = tables.get(table, key)
    if row is None:
        raise IllegalTransition(
            f"{event.type} names {table} {'/'.join(map(str, key))}, which does not exist.",
            value=event.key, rule="a fact refers to what is already in the ledger", remedy="append the fact it depends on first",
        )
    return row


def _move(current: S, target: S, table: Mapping[S, frozenset[S]], what: str, event: Event) -> S:
    if target not in table[current]:
        raise IllegalTransition(
            f"{what} is {current.value} and cannot become {target.value} by {event.type}.",
            value=event.key, rule=f"from {current.value} only {', '.join(sorted(table[current])) or 'nothing'} may follow",
            remedy="read its present state and decide again",
        )
    return target


# Strategies


def _strategy_created(event: Event, tables: Tables) -> None:
    name = event.payload["strategy"]
    if tables.get("strategies", (name,)) is not None:
        raise IllegalTransition(
            f"The strategy {name} exists already.", value=name, rule="a strategy's name is used once, for good",
            remedy="choose another name",
        )
    tables.put(
        "strategies",
        _blank(
            "strategies", name=name, state=StrategyState.DRAFT.value, reason="", spec=_json(event.payload["spec"]),
            limits_version=1, created_at=event.at, state_since=event.at, actor=event.actor, last_seq=event.seq,
        ),
    )


def _strategy_revised(event: Event, tables: Tables) -> None:
    row = _require(tables, "strategies", (event.payload["strategy"],), event)
    if not strategies.TRANSITIONS[StrategyState(row["state"])]:
        raise IllegalTransition(
            f"The strategy {row['name']} is {row['state']} and cannot be revised.", value=row["name"],
            rule="a finished strategy is history", remedy="create a new strategy",
        )
    row.update(spec=_json(event.payload["spec"]), limits_version=row["limits_version"] + 1, actor=event.actor, last_seq=event.seq)
    tables.put("strategies", row)


def _strategy_moves(target: StrategyState) -> "Handler":
    def handler(event: Event, tables: Tables) -> None:
        row = _require(tables, "strategies", (event.payload["strategy"],), event)
        to = StrategyState(event.payload["state"]) if "state" in event.payload else target
        _move(StrategyState(row["state"]), to, strategies.TRANSITIONS, f"The strategy {row['name']}", event)
        row.update(state=to.value, reason=event.payload.get("reason", ""), state_since=event.at, actor=event.actor, last_seq=event.seq)
        tables.put("strategies", row)

    return handler


# Actions and approvals


def _action_generated(event: Event, tables: Tables) -> None:
    data = event.payload
    if data["action"] == "hold":
        return
    tables.put(
        "actions",
        _blank(
            "actions", action_id=data["action_id"], strategy=data["strategy"], symbol=data["symbol"], side=data["action"],
            state=ActionState.PROPOSED.value, reason="", confidence=Decimal(data["confidence"]), cycle_id=data["cycle"],
            bar_end=instant_from(data["bar_end"]), session=data["session"], generated_at=event.at, admitted=False,
            generated_seq=event.seq, last_seq=event.seq,
        ),
    )


def _risk_evaluated(event: Event, tables: Tables) -> None:
    data = event.payload
    row = _require(tables, "actions", (data["action_id"],), event)
    if data["stage"] != "proposal":
        return
    row.update(order_class=data["order_class"], verdict_seq=event.seq, last_seq=event.seq)
    if data.get("intent") is not None:
        row["intent"] = _json(data["intent"])
    if data["passed"]:
        row["admitted"] = True
    else:
        _move(ActionState(row["state"]), ActionState.DENIED, approvals.TRANSITIONS, f"The action {row['action_id']}", event)
        row.update(state=ActionState.DENIED.value, reason=data["reason"])
    tables.put("actions", row)


def _action_moves(target: ActionState) -> "Handler":
    def handler(event: Event, tables: Tables) -> None:
        data = event.payload
        row = _require(tables, "actions", (data["action_id"],), event)
        _move(ActionState(row["state"]), target, approvals.TRANSITIONS, f"The action {row['action_id']}", event)
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
    _action_moves(ActionState.PENDING)(event, tables)
    tables.put(
        "approvals",
        _blank(
            "approvals", action_id=data["action_id"], strategy=data["strategy"], symbol=data["symbol"],
            state=ActionState.PENDING.value, shown=_json(data["shown"]), hash=data["hash"], nonce=data["nonce"],
            requested_at=event.at, expires_at=instant_from(data["expires_at"]), price_low=Decimal(data["price_low"]),
            price_high=Decimal(data["price_high"]), limits_version=data["limits_version"], requested_seq=event.seq, last_seq=event.seq,
        ),
    )


# Orders and fills


def _money(value: str | None) -> Decimal | None:
    return None if value is None else Decimal(value)


def _order_intent(event: Event, tables: Tables) -> None:
    data = event.payload
    if tables.get("orders", (data["client_id"],)) is not None:
        raise IllegalTransition(
            f"The order {data['client_id']} exists already.", value=data["client_id"],
            rule="a client id is used once (invariant 13)", remedy="read the order's state",
        )
    tables.put(
        "orders",
        _blank(
            "orders", client_id=data["client_id"], action_id=data["action_id"], part=data["part"], parent=data.get("parent"),
            oco=data.get("oco"), account=data["account"], strategy=data["strategy"], symbol=data["symbol"], side=data["side"],
            order_class=data["order_class"], order_type=data["order_type"], time_in_force=data["time_in_force"],
            quantity=data["quantity"], reference=Decimal(data["reference"]), limit_price=_money(data.get("limit_price")),
            stop_price=_money(data.get("stop_price")), state=OrderState.INTENT.value, reason="", filled_quantity=0, filled_value=ZERO,
            session=data["session"], intent_at=event.at, updated_at=event.at, intent_seq=event.seq, last_seq=event.seq,
        ),
    )
    action = tables.get("actions", (data["action_id"],))
    if action is not None and action["state"] in (ActionState.APPROVED.value, ActionState.READY.value):
        _action_moves(ActionState.CONSUMED)(event, tables)


def _order_moves(target: OrderState) -> "Handler":
    def handler(event: Event, tables: Tables) -> None:
        data = event.payload
        row = _require(tables, "orders", (data["client_id"],), event)
        current = OrderState(row["state"])
        to = target
        if target is OrderState.ACCEPTED and current is OrderState.CANCEL_PENDING:
            to = OrderState(row["before_cancel"])
        _move(current, to, orders.TRANSITIONS, f"The order {row['client_id']}", event)
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
    row = _require(tables, "orders", (data["client_id"],), event)
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
        _move(current, target, orders.TRANSITIONS, f"The order {row['client_id']}", event)
    row.update(
        state=target.value, filled_quantity=total, filled_value=row["filled_value"] + fill.quantity * fill.price,
        updated_at=event.at, last_seq=event.seq,
    )
    tables.put("orders", row)
    tables.put(
        "fills",
        _blank(
            "fills", execution_id=fill.execution_id, client_id=fill.client_id, strategy=row["strategy"], symbol=fill.symbol,
            side=fill.side.value, quantity=fill.quantity, price=fill.price, commission=fill.commission, at=fill.at,
            session=data["session"], seq=event.seq,
        ),
    )
    _book(row["strategy"], row["account"], fill, event, tables)


def _book(strategy: str, account: str, fill: Fill, event: Event, tables: Tables) -> None:
    position = position_of(tables.get("positions", (strategy, fill.symbol))) or Position(strategy, fill.symbol)
    after = position.after(fill)
    tables.put(
        "positions",
        _blank(
            "positions", strategy=strategy, symbol=fill.symbol, quantity=after.quantity, cost=after.cost, realised=after.realised,
            opened_at=after.opened_at, last_seq=event.seq,
        ),
    )
    cash = _require(tables, "cash", (account,), event)
    flow = fill.quantity * fill.price * (-1 if fill.side is Side.BUY else 1) - fill.commission
    cash.update(cash=cash["cash"] + flow, commissions=cash["commissions"] + fill.commission, last_seq=event.seq)
    tables.put("cash", cash)


def position_of(row: Row | None) -> Position | None:
    """A row of `positions` as a value."""
    if row is None:
        return None
    return Position(row["strategy"], row["symbol"], row["quantity"], row["cost"], row["realised"], row["opened_at"])


# Account and sessions


def _account_funded(event: Event, tables: Tables) -> None:
    account, amount = event.payload["account"], Decimal(event.payload["amount"])
    row = tables.get("cash", (account,)) or _blank("cash", account=account, cash=ZERO, deposited=ZERO, commissions=ZERO)
    row.update(cash=row["cash"] + amount, deposited=row["deposited"] + amount, last_seq=event.seq)
    tables.put("cash", row)


def _session_opened(event: Event, tables: Tables) -> None:
    tables.put(
        "sessions",
        _blank(
            "sessions", session=event.payload["session"], state="open", opened_at=event.at,
            baseline_equity=Decimal(event.payload["baseline_equity"]), last_seq=event.seq,
        ),
    )


def _session_closed(event: Event, tables: Tables) -> None:
    row = _require(tables, "sessions", (event.payload["session"],), event)
    row.update(
        state="closed", closed_at=event.at, closing_equity=Decimal(event.payload["closing_equity"]),
        report=_json(event.payload["report"]), last_seq=event.seq,
    )
    tables.put("sessions", row)


def _snapshotted(event: Event, tables: Tables) -> None:
    data = event.payload
    money = {name: Decimal(data[name]) for name in ("equity", "cash", "market_value", "realised", "unrealised", "day_pnl")}
    tables.put(
        "snapshots",
        _blank(
            "snapshots", seq=event.seq, account=data["account"], at=event.at, session=data["session"],
            positions=_json(data["positions"]), **money,
        ),
    )


Handler = Callable[[Event, Tables], None]
E_ = EventType
_HANDLERS: dict[EventType, Handler] = {
    E_.ACCOUNT_FUNDED: _account_funded,
    E_.SESSION_OPENED: _session_opened,
    E_.SESSION_CLOSED: _session_closed,
    E_.STRATEGY_CREATED: _strategy_created,
    E_.STRATEGY_REVISED: _strategy_revised,
    E_.STRATEGY_STARTING: _strategy_moves(StrategyState.STARTING),
    E_.STRATEGY_STARTED: _strategy_moves(StrategyState.RUNNING),
    E_.STRATEGY_NOT_READY: _strategy_moves(StrategyState.NOT_READY),
    E_.STRATEGY_PAUSED: _strategy_moves(StrategyState.PAUSED_USER),
    E_.STRATEGY_RESUMED: _strategy_moves(StrategyState.RUNNING),
    E_.STRATEGY_FINISHED: _strategy_moves(StrategyState.FINISHED),
    E_.STRATEGY_EMERGENCY_STOPPED: _strategy_moves(StrategyState.EMERGENCY_STOPPED),
    E_.LLM_ACTION_GENERATED: _action_generated,
    E_.RISK_EVALUATED: _risk_evaluated,
    E_.ACTION_READY: _action_moves(ActionState.READY),
    E_.ACTION_EXPIRED: _action_moves(ActionState.EXPIRED),
    E_.ACTION_VOIDED: _action_moves(ActionState.VOIDED),
    E_.APPROVAL_REQUESTED: _approval_requested,
    E_.APPROVAL_APPROVED: _action_moves(ActionState.APPROVED),
    E_.APPROVAL_REJECTED: _action_moves(ActionState.REJECTED),
    E_.APPROVAL_EXPIRED: _action_moves(ActionState.EXPIRED),
    E_.APPROVAL_VOIDED: _action_moves(ActionState.VOIDED),
    E_.ORDER_INTENT: _order_intent,
    E_.ORDER_DENIED: _order_moves(OrderState.DENIED),
    E_.ORDER_SUBMITTED: _order_moves(OrderState.SUBMITTED),
    E_.ORDER_ACCEPTED: _order_moves(OrderState.ACCEPTED),
    E_.ORDER_REJECTED: _order_moves(OrderState.REJECTED),
    E_.ORDER_UNKNOWN: _order_moves(OrderState.UNKNOWN),
    E_.ORDER_PARTIALLY_FILLED: _order_filled,
    E_.ORDER_FILLED: _order_filled,
    E_.ORDER_CANCEL_REQUESTED: _order_moves(OrderState.CANCEL_PENDING),
    E_.ORDER_CANCELED: _order_moves(OrderState.CANCELED),
    E_.ORDER_EXPIRED: _order_moves(OrderState.EXPIRED),
    E_.ORDER_NOT_PLACED: _order_moves(OrderState.NOT_PLACED),
    E_.ORDER_LATE_FOUND: _order_moves(OrderState.LATE_FOUND),
    E_.ORDER_QUARANTINED: _order_moves(OrderState.QUARANTINED),
    E_.PORTFOLIO_SNAPSHOTTED: _snapshotted,
}

Touched = Callable[[Mapping[str, Any]], tuple[tuple[str, Key], ...]]


def _touch_strategy(data: Mapping[str, Any]) -> tuple[tuple[str, Key], ...]:
    return (("strategies", (data["strategy"],)),)


def _touch_action(data: Mapping[str, Any]) -> tuple[tuple[str, Key], ...]:
    return (("actions", (data["action_id"],)), ("approvals", (data["action_id"],)))


def _touch_order(data: Mapping[str, Any]) -> tuple[tuple[str, Key], ...]:
    return (("orders", (data["client_id"],)),)


def _touch_intent(data: Mapping[str, Any]) -> tuple[tuple[str, Key], ...]:
    return (*_touch_order(data), *_touch_action(data))


def _touch_fill(data: Mapping[str, Any]) -> tuple[tuple[str, Key], ...]:
    return (*_touch_order(data), ("positions", (data["strategy"], data["symbol"])), ("cash", (data["account"],)))


_TOUCHED: dict[EventType, Touched] = {
    **{type_: _touch_strategy for type_ in EventType if type_.value.startswith("strategy.") and type_ is not E_.STRATEGY_REPORTED},
    **{type_: _touch_action for type_ in EventType if type_.value.startswith(("action.", "approval."))},
    **{type_: _touch_order for type_ in EventType if type_.value.startswith("order.")},
    E_.RISK_EVALUATED: _touch_action,
    E_.ORDER_INTENT: _touch_intent,
    E_.ORDER_FILLED: _touch_fill,
    E_.ORDER_PARTIALLY_FILLED: _touch_fill,
    E_.ACCOUNT_FUNDED: lambda data: (("cash", (data["account"],)),),
    E_.SESSION_CLOSED: lambda data: (("sessions", (data["session"],)),),
}
