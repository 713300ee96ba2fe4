"""The account's own facts: money, limits, latches, grants, splits of what it holds, sessions opened and closed, and its worth."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.domain.money import ZERO
from trading_pipeline.domain.projections.rows import Handler, Touched, blank, json_text, money, position_of, require
from trading_pipeline.domain.projections.tables import Key, Tables
from trading_pipeline.errors import IllegalTransition


def _account_funded(event: Event, tables: Tables) -> None:
    account, amount = event.payload["account"], Decimal(event.payload["amount"])
    row = tables.get("cash", (account,)) or blank("cash", account=account, cash=ZERO, deposited=ZERO, commissions=ZERO)
    row.update(cash=row["cash"] + amount, deposited=row["deposited"] + amount, last_seq=event.seq)
    tables.put("cash", row)


def _limits_set(event: Event, tables: Tables) -> None:
    data = event.payload
    before = tables.get("limits", (data["account"],))
    expected = 1 if before is None else before["version"] + 1
    if data["version"] != expected:
        raise IllegalTransition(
            f"The limits of {data['account']} cannot become version {data['version']}.", value=data["version"],
            rule=f"versions have no gaps: the next one is {expected}", remedy="read the limits in force and decide again",
        )
    row = blank(
        "limits", account=data["account"], version=expected, limits=json_text(data["limits"]), set_at=event.at, actor=event.actor,
        last_seq=event.seq,
    )
    tables.put("limits", row)


def _latched(state: str) -> Handler:
    def handler(event: Event, tables: Tables) -> None:
        row = blank(
            "latches", scope=f"account:{event.payload['account']}", state=state, reason=event.payload["reason"], at=event.at,
            actor=event.actor, last_seq=event.seq,
        )
        tables.put("latches", row)

    return handler


def _latch_row(data: Mapping[str, Any]) -> tuple[tuple[str, Key], ...]:
    return (("latches", (f"account:{data['account']}",)),)


def _loss_granted(event: Event, tables: Tables) -> None:
    """What a person lets the day's loss grow by: sums up within the session (D12)."""
    [(_, key)] = _grant_row(event.payload)
    row = tables.get("grants", key) or blank("grants", scope=key[0], session=key[1], amount=ZERO)
    row.update(amount=row["amount"] + Decimal(event.payload["amount"]), at=event.at, actor=event.actor, last_seq=event.seq)
    tables.put("grants", row)


def _grant_row(data: Mapping[str, Any]) -> tuple[tuple[str, Key], ...]:
    scope = "account" if data["strategy"] is None else f"strategy:{data['strategy']}"
    return (("grants", (scope, data["session"])),)


def _split(event: Event, tables: Tables) -> None:
    """Restate positions, resting orders and cash as the fact says, which carries every figure."""
    data = event.payload
    for part in data["positions"]:
        row = require(tables, "positions", (part["strategy"], data["symbol"]), event)
        position = position_of(row)
        assert position is not None
        after = position.after_split(Decimal(data["ratio"]), part["quantity"], Decimal(part["in_lieu"]))
        row.update(quantity=after.quantity, cost=after.cost, realised=after.realised, opened_at=after.opened_at, last_seq=event.seq)
        tables.put("positions", row)
    for part in data["orders"]:
        row = require(tables, "orders", (part["client_id"],), event)
        row.update(
            quantity=part["quantity"], limit_price=money(part["limit_price"]), stop_price=money(part["stop_price"]),
            updated_at=event.at, last_seq=event.seq,
        )
        tables.put("orders", row)
    cash = require(tables, "cash", (data["account"],), event)
    cash.update(cash=cash["cash"] + Decimal(data["in_lieu"]), last_seq=event.seq)
    tables.put("cash", cash)


def _split_rows(data: Mapping[str, Any]) -> tuple[tuple[str, Key], ...]:
    return (
        ("cash", (data["account"],)), *(("positions", (part["strategy"], data["symbol"])) for part in data["positions"]),
        *(("orders", (part["client_id"],)) for part in data["orders"]),
    )


def _session_opened(event: Event, tables: Tables) -> None:
    tables.put(
        "sessions",
        blank(
            "sessions", session=event.payload["session"], state="open", opened_at=event.at,
            baseline_equity=Decimal(event.payload["baseline_equity"]), last_seq=event.seq,
        ),
    )


def _session_closed(event: Event, tables: Tables) -> None:
    row = require(tables, "sessions", (event.payload["session"],), event)
    row.update(
        state="closed", closed_at=event.at, closing_equity=Decimal(event.payload["closing_equity"]),
        report=json_text(event.payload["report"]), last_seq=event.seq,
    )
    tables.put("sessions", row)


def _snapshotted(event: Event, tables: Tables) -> None:
    data = event.payload
    money = {name: Decimal(data[name]) for name in ("equity", "cash", "market_value", "realised", "unrealised", "day_pnl")}
    tables.put(
        "snapshots",
        blank(
            "snapshots", seq=event.seq, account=data["account"], at=event.at, session=data["session"],
            positions=json_text(data["positions"]), **money,
        ),
    )


HANDLERS: dict[EventType, Handler] = {
    EventType.ACCOUNT_FUNDED: _account_funded,
    EventType.LIMITS_SET: _limits_set,
    EventType.LOSS_GRANTED: _loss_granted,
    EventType.ACCOUNT_LATCHED: _latched("latched"),
    EventType.ACCOUNT_LATCH_CLEARED: _latched("cleared"),
    EventType.CORPORATE_ACTION_SPLIT: _split,
    EventType.SESSION_OPENED: _session_opened,
    EventType.SESSION_CLOSED: _session_closed,
    EventType.PORTFOLIO_SNAPSHOTTED: _snapshotted,
}
TOUCHED: dict[EventType, Touched] = {
    EventType.ACCOUNT_FUNDED: lambda data: (("cash", (data["account"],)),),
    EventType.LIMITS_SET: lambda data: (("limits", (data["account"],)),),
    EventType.LOSS_GRANTED: _grant_row,
    EventType.ACCOUNT_LATCHED: _latch_row,
    EventType.ACCOUNT_LATCH_CLEARED: _latch_row,
    EventType.CORPORATE_ACTION_SPLIT: _split_rows,
    EventType.SESSION_CLOSED: lambda data: (("sessions", (data["session"],)),),
}
