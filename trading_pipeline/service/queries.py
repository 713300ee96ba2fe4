"""Questions that people and faces ask of the record. Reads only; every answer is plain data, its instants UTC and ISO 8601.

Ids are long so that they never collide; `short_ids` gives the beginnings that people may use instead.
"""

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from trading_pipeline.domain.approvals import ActionState
from trading_pipeline.domain.events import EventType, instant_from
from trading_pipeline.domain.money import ZERO, to_cents
from trading_pipeline.domain.risk import World
from trading_pipeline.domain.sessions import NEW_YORK, Session
from trading_pipeline.ports import Reader
from trading_pipeline.service import workflow
from trading_pipeline.service.accounting import day_pnl, portfolio_of
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.models import costs
from trading_pipeline.service.orders.settlement import OPEN_AT_BROKER
from trading_pipeline.service.steps import spec_of
from trading_pipeline.service.submitter import handover
from trading_pipeline.service.timetable import due_cycles, newest_cycle

SHORTEST_ID = 6
"""Characters of a short id at least: enough that the next proposals seldom make it longer."""


def status(desk: Desk) -> dict[str, Any]:
    """What `trading status` shows: market, strategies, what waits, what is held, what is next. Money as strings."""
    now = desk.now()
    session = desk.calendar.at(now)
    following = session or _next_session(desk, now)
    portfolio = portfolio_of(desk, desk.ledger)
    strategies = desk.ledger.find("strategies")
    return {
        "environment": desk.environment,
        "market": desk.world.value.upper() if desk.world is World.REPLAY else desk.world.value,
        "source": desk.market.name,
        "now": _iso(now),
        "session": session.day.isoformat() if session else None,
        "open": session is not None,
        "next_change": _iso(session.close if session else following.open),
        # Of the session that is open, or of the next one.
        "close": _iso(following.close),
        "early_close": following.early_close,
        "workflow": workflow.doing(desk),
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
        "day_pnl": _text(day_pnl(desk.ledger, portfolio.account, portfolio.equity, desk.today()) or ZERO),
        "positions": [
            {
                "strategy": p.strategy, "symbol": p.symbol, "quantity": p.quantity, "mark": str(portfolio.marks[p.symbol]),
                "unrealised": _text(p.unrealised(portfolio.marks[p.symbol])),
            }
            for p in portfolio.positions if p.quantity
        ],
        "models": costs.today(desk),
        "missed_today": _missed(desk),
        "next_cycle": _next_cycle(desk),
        "ledger_seq": desk.ledger.head()[0],
        "desk": handover.present(desk),
    }


@dataclass(frozen=True, slots=True)
class Denials:
    """What the rulebook stopped; one denied proposal may have failed several rules."""

    proposals: int
    orders: int
    """Stopped at the gate, after they had been proposed."""
    rules: dict[str, int]
    """How often each rule failed, the most frequent first."""


def denials(reader: Reader) -> Denials:
    """How many proposals and orders were denied, and by which rules."""
    stages: Counter[str] = Counter()
    rules: Counter[str] = Counter()
    for event in reader.events(types=(EventType.RISK_EVALUATED,)):
        if not event.payload["passed"]:
            stages[event.payload["stage"]] += 1
            rules.update(v["rule"] for v in event.payload["verdicts"] if v["outcome"] in ("deny", "halt"))
    return Denials(stages["proposal"], stages.total() - stages["proposal"], dict(rules.most_common()))


def short_ids(reader: Reader, ids: Collection[str]) -> dict[str, str]:
    """The shortest beginning of each action's id that `trading why`, `approve` and `reject` take for it and for nothing else."""
    known = sorted({row["action_id"] for row in reader.find("actions")} | {row["client_id"] for row in reader.find("orders")})
    return {each: _shortest(each, known) for each in ids}


def _shortest(name: str, known: list[str]) -> str:
    place = bisect_left(known, name)
    beside = known[max(0, place - 1) : place] + known[place + 1 : place + 2]
    for length in range(SHORTEST_ID, len(name)):
        # Digits alone would be read as an event's seq.
        if not name[:length].isdigit() and not any(other.startswith(name[:length]) for other in beside):
            return name[:length]
    return name


def pending(desk: Desk, *, everything: bool = False) -> list[dict[str, Any]]:
    """Proposals that wait for a person, or all of them, with what was shown and the seconds left."""
    rows = desk.ledger.find("approvals", order_by="requested_seq") if everything else desk.ledger.find(
        "approvals", state=ActionState.PENDING.value, order_by="requested_seq"
    )
    now = desk.now()
    short = short_ids(desk.ledger, [row["action_id"] for row in rows])
    return [
        {
            "action_id": row["action_id"], "short_id": short[row["action_id"]], "strategy": row["strategy"], "symbol": row["symbol"],
            "state": row["state"], "hash": row["hash"],
            "shown": json.loads(row["shown"]), "requested_at": row["requested_at"].isoformat(), "expires_at": row["expires_at"].isoformat(),
            "seconds_left": max(0.0, (row["expires_at"] - now).total_seconds()), "decided_by": row["decided_by"], "reason": row["reason"],
        }
        for row in rows
    ]


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
    return {"interval": interval.value, "due": _iso(due), "last": newest.cycle_id if newest else ""}


def _missed(desk: Desk) -> list[dict[str, Any]]:
    """The closes of the present or last session, or found missing in it, that no cycle ran for: how many, from when to when, and why."""
    session = desk.calendar.last_opened(desk.now())
    if session is None:
        return []
    reasons: dict[tuple[str, str], list[datetime]] = {}
    for event in desk.ledger.events(types=(EventType.CYCLE_MISSED,)):
        if event.at >= session.open:
            told = (event.payload["interval"], event.payload["reason"])
            reasons.setdefault(told, []).append(instant_from(event.payload["bar_end"]))
    return [
        {"interval": interval, "cycles": len(ends), "first": _iso(min(ends)), "last": _iso(max(ends)), "reason": reason}
        for (interval, reason), ends in reasons.items()
    ]


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")


def _next_session(desk: Desk, now: datetime) -> Session:
    """The first session that opens after the instant; before the open that is the same day's."""
    day = now.astimezone(NEW_YORK).date()
    today = desk.calendar.find(day)
    return today if today is not None and now < today.open else desk.calendar.next(day)


def _text(amount: Decimal) -> str:
    return format(to_cents(amount), "f")
