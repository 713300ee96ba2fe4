"""The account's own facts: money paid in, sessions opened and closed, and what it was all worth."""

from decimal import Decimal

from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.domain.money import ZERO
from trading_pipeline.domain.projections.rows import Handler, Touched, blank, json_text, require
from trading_pipeline.domain.projections.tables import Tables


def _account_funded(event: Event, tables: Tables) -> None:
    account, amount = event.payload["account"], Decimal(event.payload["amount"])
    row = tables.get("cash", (account,)) or blank("cash", account=account, cash=ZERO, deposited=ZERO, commissions=ZERO)
    row.update(cash=row["cash"] + amount, deposited=row["deposited"] + amount, last_seq=event.seq)
    tables.put("cash", row)


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
    EventType.SESSION_OPENED: _session_opened,
    EventType.SESSION_CLOSED: _session_closed,
    EventType.PORTFOLIO_SNAPSHOTTED: _snapshotted,
}
TOUCHED: dict[EventType, Touched] = {
    EventType.ACCOUNT_FUNDED: lambda data: (("cash", (data["account"],)),),
    EventType.SESSION_CLOSED: lambda data: (("sessions", (data["session"],)),),
}
