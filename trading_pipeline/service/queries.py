"""Questions that people and faces ask of the record. Reads only; every answer is plain data."""

import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from trading_pipeline.domain import lineage
from trading_pipeline.domain.approvals import ActionState
from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.domain.money import ZERO
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.risk import World
from trading_pipeline.domain.sessions import NEW_YORK, Session
from trading_pipeline.errors import UnknownName
from trading_pipeline.ports import Reader
from trading_pipeline.service.accounting import portfolio_of
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.settlement import OPEN_AT_BROKER
from trading_pipeline.service.steps import spec_of
from trading_pipeline.service.timetable import due_cycles, newest_cycle


@dataclass(frozen=True, slots=True)
class Cause:
    """One fact on the way from a bar to a portfolio."""

    seq: int
    type: str
    at: str
    actor: str
    says: str


def status(desk: Desk) -> dict[str, Any]:
    """What `trading status` shows: market, strategies, what waits, what is held, what is next. Money as strings."""
    now = desk.now()
    session = desk.calendar.at(now)
    following = session or _next_session(desk, now)
    portfolio = portfolio_of(desk, desk.ledger)
    day = desk.ledger.get("sessions", desk.today().isoformat())
    strategies = desk.ledger.find("strategies")
    return {
        "environment": desk.environment,
        "market": desk.world.value.upper() if desk.world is World.REPLAY else desk.world.value,
        "source": desk.market.name,
        "now": now.astimezone(NEW_YORK).isoformat(timespec="seconds"),
        "session": session.day.isoformat() if session else None,
        "open": session is not None,
        "next_change": (session.close if session else following.open).astimezone(NEW_YORK).isoformat(timespec="seconds"),
        "strategies": [
            {
                "name": row["name"], "state": row["state"], "reason": row["reason"], "mode": (spec := spec_of(row)).mode.value,
                "interval": spec.interval.value, "symbols": list(spec.symbols),
            }
            for row in strategies
        ],
        "pending_approvals": len(desk.ledger.find("approvals", state=ActionState.PENDING.value)),
        "open_orders": len(desk.ledger.find("orders", state=OPEN_AT_BROKER)),
        "trades_today": len(desk.ledger.find("fills", session=desk.today().isoformat())),
        "equity": _text(portfolio.equity), "cash": _text(portfolio.cash), "unrealised": _text(portfolio.unrealised),
        "day_pnl": _text(portfolio.equity - day["baseline_equity"]) if day else _text(ZERO),
        "positions": [
            {
                "strategy": p.strategy, "symbol": p.symbol, "quantity": p.quantity, "mark": str(portfolio.marks[p.symbol]),
                "unrealised": _text(p.unrealised(portfolio.marks[p.symbol])),
            }
            for p in portfolio.positions if p.quantity
        ],
        "model_cost_today": _text(ZERO),
        "next_cycle": _next_cycle(desk),
        "ledger_seq": desk.ledger.head()[0],
    }


def why(desk: Desk, ident: str) -> list[Cause]:
    """The walk from the bar to this fill, order, action or event, and on to the snapshot after it.

    Args:
        ident: An execution id, a client order id, an action id or an event's seq; a unique beginning is enough.
    """
    event = _find(desk.ledger, ident)
    chain = lineage.ancestors(event, desk.ledger.event)
    if event.type in (EventType.ORDER_FILLED, EventType.ORDER_PARTIALLY_FILLED):
        chain += desk.ledger.events(after=event.seq, types=(EventType.PORTFOLIO_SNAPSHOTTED,), limit=1)
    return [Cause(e.seq, e.type.value, _new_york(e.at), e.actor, lineage.sentence(e)) for e in chain]


def denials_by_rule(reader: Reader) -> dict[str, int]:
    """How often each rule stopped an action or an order."""
    counted: Counter[str] = Counter()
    for event in reader.events(types=(EventType.RISK_EVALUATED,)):
        if not event.payload["passed"]:
            counted.update(v["rule"] for v in event.payload["verdicts"] if v["outcome"] in ("deny", "halt"))
    return dict(counted.most_common())


def pending(desk: Desk, *, everything: bool = False) -> list[dict[str, Any]]:
    """Proposals that wait for a person, or all of them, with what was shown and the seconds left."""
    rows = desk.ledger.find("approvals", order_by="requested_seq") if everything else desk.ledger.find(
        "approvals", state=ActionState.PENDING.value, order_by="requested_seq"
    )
    now = desk.now()
    return [
        {
            "action_id": row["action_id"], "strategy": row["strategy"], "symbol": row["symbol"], "state": row["state"], "hash": row["hash"],
            "shown": json.loads(row["shown"]), "requested_at": row["requested_at"].isoformat(), "expires_at": row["expires_at"].isoformat(),
            "seconds_left": max(0.0, (row["expires_at"] - now).total_seconds()), "decided_by": row["decided_by"], "reason": row["reason"],
        }
        for row in rows
    ]


def _find(reader: Reader, ident: str) -> Event:
    if ident.isdigit():
        event = reader.event(int(ident))
        if event is not None:
            return event
    for table, column in (("fills", "execution_id"), ("orders", "client_id"), ("actions", "action_id")):
        rows = [row for row in reader.find(table) if row[column].upper().startswith(ident.upper())]
        exact = [row for row in rows if row[column].upper() == ident.upper()]
        if exact or len(rows) == 1:
            return _event_of(reader, (exact or rows)[0])
    raise UnknownName(
        f"Nothing is named {ident!r}.", value=ident,
        rule="a fill, order, action or event is named by its id or a beginning that only it has",
        remedy="see `trading events` for what there is",
    )


def _event_of(reader: Reader, row: Row) -> Event:
    event = reader.event(row["seq"] if "seq" in row else row["last_seq"])
    assert event is not None
    return event


def _next_cycle(desk: Desk) -> dict[str, str] | None:
    specs = [spec_of(row) for row in desk.ledger.find("strategies", state="running")]
    if not specs:
        return None
    interval = min((spec.interval for spec in specs), key=lambda each: each.minutes)
    now = desk.now()
    slot = desk.calendar.slot_at(now, interval)
    waiting = [cycle for cycle in due_cycles(desk) if cycle.interval is interval]
    if waiting:
        due = waiting[0].due_at
    else:
        due = slot.end if slot is not None and not interval.daily else _next_session(desk, now).open
    newest = newest_cycle(desk, interval)
    return {"interval": interval.value, "due": _new_york(due), "last": newest.cycle_id if newest else ""}


def _new_york(at: datetime) -> str:
    return at.astimezone(NEW_YORK).isoformat(timespec="seconds")


def _next_session(desk: Desk, now: datetime) -> Session:
    """The first session that opens after the instant; before the open that is the same day's."""
    day = now.astimezone(NEW_YORK).date()
    today = desk.calendar.find(day)
    return today if today is not None and now < today.open else desk.calendar.next(day)


def _text(amount: Decimal) -> str:
    return format(amount.quantize(Decimal("0.01")), "f")
