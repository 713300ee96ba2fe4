"""The session's close (E6): entries cancelled, proposals voided, sessions finished, everything reported."""

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from trading_pipeline.domain.cycles import follow_up
from trading_pipeline.domain.events import Event, EventType, NewEvent
from trading_pipeline.domain.money import ZERO, to_cents
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.projections.models import CALLS
from trading_pipeline.domain.sessions import Session
from trading_pipeline.domain.strategies import Lifetime
from trading_pipeline.errors import InputError
from trading_pipeline.ports import Reader
from trading_pipeline.service import controls
from trading_pipeline.service.accounting import day_pnl, deposits, portfolio_of
from trading_pipeline.service.day_baseline import Worth, worth_at
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.orders.protection import tell_unprotected
from trading_pipeline.service.orders.settlement import settle
from trading_pipeline.service.record.anchoring import anchor
from trading_pipeline.service.steps import LIVE_STATES, Tally, spec_of

PROMPT = timedelta(hours=1)
"""A session that is closed later than this is closed at the prices of its close, and not at those of now."""


def sessions_to_close(desk: Desk) -> list[Session]:
    """Sessions that were opened in the ledger, have ended by the calendar, and are not closed yet."""
    now = desk.now()
    opened = [date.fromisoformat(row["session"]) for row in desk.ledger.find("sessions", state="open")]
    return [session for day in sorted(opened) if (session := desk.calendar.session(day)).close <= now]


def overdue_closes(desk: Desk) -> list[Session]:
    """Those of them after which another session has opened already."""
    return [session for session in sessions_to_close(desk) if session.day < desk.today()]


def close_session(desk: Desk, session: Session) -> dict[str, Any]:
    """Close one session once; returns its report, the stored one if it was closed before."""
    if desk.now() < session.close:
        raise InputError(
            f"The session {session.day} is open until {session.close:%H:%M} UTC.", value=session.day,
            rule="a session is closed once it has ended", remedy="wait for its close",
        )
    stored = desk.ledger.event_by_key(f"session.closed:{session.day}")
    if stored is not None:
        return dict(stored.payload["report"])
    running = desk.ledger.find("strategies", state=LIVE_STATES)
    for row in running:
        if spec_of(row).lifetime is Lifetime.SESSION and _started_by(desk.ledger, row["name"], session.close):
            controls.finish(desk, row["name"], actor="clock", reason=f"the session {session.day} closed")
        else:
            controls.withdraw(desk, row["name"], f"the session {session.day} closed", "clock", until=session.day)
    tally = Tally("session_close", follow_up((), session.day, desk.now(), "close"))
    settle(desk, tally)
    tell_unprotected(desk, f"the session {session.day} closed over it", tally)
    report = session_report(desk, session, running)
    with desk.ledger.transaction() as tx:
        for name, figures in report["strategies"].items():
            tx.append(
                NewEvent(
                    EventType.STRATEGY_REPORTED, f"strategy:{name}", f"strategy.reported:{name}:{session.day}",
                    {"strategy": name, "session": session.day} | figures, desk.now(), "clock",
                )
            )
        deposited = deposits(tx, desk.broker.account_id)
        payload = {"session": session.day, "closing_equity": report["equity"], "deposited": deposited, "report": report}
        tx.append(NewEvent(EventType.SESSION_CLOSED, "account", f"session.closed:{session.day}", payload, desk.now(), "clock"))
    anchor(desk)
    return report


def _started_by(reader: Reader, strategy: str, close: datetime) -> bool:
    """Whether a strategy was started before a close: one started after it, while that close is overdue, lasts for the next session.

    Going on after a pause is no start: a close in time would have finished it.
    """
    started = reader.events(types=(EventType.STRATEGY_STARTING,), stream=f"strategy:{strategy}")
    return not started or started[-1].at < close


def session_report(desk: Desk, session: Session, strategies: list[Row]) -> dict[str, Any]:
    """Trades, profit and model cost of one session, for the account and for each strategy. USD as strings."""
    # What the next session has brought by now is none of this one's.
    late = desk.now() >= session.close + PROMPT
    stood = worth_at(desk, desk.ledger, session.close) if late else Worth.of(portfolio_of(desk, desk.ledger))
    opened = desk.ledger.event_by_key(f"session.opened:{session.day}")
    before: dict[str, str] = dict(opened.payload["strategy_pnl"]) if opened else {}
    fills = desk.ledger.find("fills", session=session.day.isoformat())
    paid = _paid_for_models(desk.ledger, opened)
    made = day_pnl(desk.ledger, desk.broker.account_id, stood.equity, session.day)
    figures = {
        row["name"]: {
            "fills": sum(1 for fill in fills if fill["strategy"] == row["name"]),
            "bought": _text(_traded(fills, row["name"], Side.BUY)), "sold": _text(_traded(fills, row["name"], Side.SELL)),
            "day_pnl": _text(stood.pnl.get(row["name"], ZERO) - Decimal(before.get(row["name"], "0"))),
            "total_pnl": _text(stood.pnl.get(row["name"], ZERO)),
            "model_cost": _text(paid.get(row["name"], ZERO)),
        }
        for row in strategies
    }
    return {
        "session": session.day.isoformat(), "early_close": session.early_close, "equity": _text(stood.equity),
        "cash": _text(stood.cash), "day_pnl": _text(made or ZERO), "fills": len(fills), "strategies": figures,
    }


def _paid_for_models(reader: Reader, opened: Event | None) -> dict[str, Decimal]:
    """By strategy, USD for what models were asked since the session opened; what is not settled counts as reserved."""
    paid: dict[str, Decimal] = {}
    for event in reader.events(after=opened.seq, types=(EventType.LLM_REQUESTED,)) if opened else ():
        asked = event.payload
        row = reader.get(CALLS, asked["cycle"], asked["strategy"], asked["symbol"])
        if row is not None:
            cost = row["reserved"] if row["cost"] is None else row["cost"]
            paid[asked["strategy"]] = paid.get(asked["strategy"], ZERO) + cost
    return paid


def _traded(fills: list[Row], strategy: str, side: Side) -> Decimal:
    return sum((f["quantity"] * f["price"] for f in fills if f["strategy"] == strategy and f["side"] == side.value), ZERO)


def _text(amount: Decimal) -> str:
    return format(to_cents(amount), "f")
