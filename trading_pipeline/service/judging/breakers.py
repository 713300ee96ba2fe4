"""The breakers (F4): strategies pause by themselves and go on by themselves, by figures (INVARIANTS 3.3).

`review` looks at all of them: with each cycle, before it is settled who takes part and before anybody is asked, and with each
turn of the desk's process. Every move is one transaction that looks at the state again, so that several reviews at once move a
strategy once. What only a person may end (LOSS, REJECTS, MODEL, RUN_FAILED) is never ended here.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from trading_pipeline.domain.cycles import follow_up
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.strategies import Mode, StrategyState
from trading_pipeline.errors import BrokerNotReady
from trading_pipeline.service import controls
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.judging.causes import CLEARING, SESSION, Cause, cause_of, clears_by_itself, headed, whole_book
from trading_pipeline.service.orders.settlement import settled_mismatches
from trading_pipeline.service.steps import RUNNING, Tally, spec_of

BROKER_ERRORS: Final = 3
"""Reviews in a row in which the broker was not ready, until strategies are not."""
LEFT_ALONE: Final = timedelta(minutes=15)
"""Not ready for longer than this, a strategy that trades alone waits for a person."""
_LOOKED_AT = (*RUNNING, StrategyState.PAUSED_RISK.value, StrategyState.NOT_READY.value)


def review(desk: Desk) -> list[str]:
    """Pause what must not go on, let go on what may; what was done, in words. Nothing while the market is closed.

    Raises:
        MarketDataError: A held symbol has no price: what was lost cannot be said.
    """
    rows = desk.ledger.find("strategies", state=_LOOKED_AT) if desk.calendar.at(desk.now()) is not None else []
    rows = [row for row in rows if row["state"] in RUNNING or clears_by_itself(row)]
    if not rows:
        return []
    unready = _unready(desk)
    if unready is not None and (moved := _lost(desk, rows, unready)):
        return moved
    book = whole_book(desk)
    causes = {row["name"]: cause_of(desk, book, row) for row in rows}
    # What is a person's comes first: it counts while a strategy waits as it does while one runs.
    paused = _paused(desk, rows, causes)
    return paused if unready is not None else paused + _ready(desk, rows) + _cleared(desk, rows, causes)


def _unready(desk: Desk) -> str | None:
    try:
        desk.broker.positions()
    except BrokerNotReady as unready:
        return unready.message
    return None


def _lost(desk: Desk, rows: list[Row], why: str) -> list[str]:
    """Count the broker's errors; with the third in a row no strategy is ready any more."""
    errors = _errors(desk) + 1
    desk.ledger.beat(_counter(desk), {"errors": errors})
    if errors < BROKER_ERRORS:
        return []
    facts = {"reason": f"{SESSION}: {why}"[:500], "measured": f"{errors} errors in a row", "limit": f"below {BROKER_ERRORS}"}
    running = [row for row in rows if row["state"] in RUNNING]
    lost = [row["name"] for row in running if controls.moved_by_itself(desk, row, EventType.STRATEGY_NOT_READY, **facts)]
    return [f"{name} is not ready: {why}" for name in lost]


def _ready(desk: Desk, rows: list[Row]) -> list[str]:
    """The broker answers: what waited for it goes on once book and broker agree, or is a person's when it took too long."""
    if _errors(desk):
        desk.ledger.beat(_counter(desk), {"errors": 0})
    waiting = [row for row in rows if row["state"] == StrategyState.NOT_READY.value]
    if not waiting or _differs(desk):
        return []
    said = []
    for row in waiting:
        name, away = row["name"], desk.now() - row["state_since"]
        facts = {"measured": f"{away} not ready", "limit": f"below {LEFT_ALONE}", "was": row["state"]}
        type_, words = EventType.STRATEGY_RESUMED, f"{name} goes on: the broker answers again, and agrees with the book"
        if spec_of(row).mode is Mode.AUTONOMOUS and away >= LEFT_ALONE:
            reason = f"the broker did not answer for {away}: resume it once you have looked"
            type_, words = EventType.STRATEGY_PAUSED, f"{name} waits for a person: {reason}"
            facts |= {"state": StrategyState.PAUSED_USER.value, "reason": reason}
        if controls.moved_by_itself(desk, row, type_, **facts):
            said.append(words)
    return said


def _paused(desk: Desk, rows: list[Row], causes: Mapping[str, Cause | None]) -> list[str]:
    said = []
    for row in rows:
        cause = causes[row["name"]]
        if cause is None or (row["state"] not in RUNNING and cause.why in CLEARING):
            continue
        if controls.pause_by_itself(desk, row["name"], cause.why, cause.words, measured=cause.measured, limit=cause.limit):
            said.append(f"{row['name']} paused: {cause.words}")
    return said


def _cleared(desk: Desk, rows: list[Row], causes: Mapping[str, Cause | None]) -> list[str]:
    """Let go on whatever waited for a cause that is gone, when nothing else would pause it at once."""
    freed = [row for row in rows if row["state"] == StrategyState.PAUSED_RISK.value and causes[row["name"]] is None]
    if not freed or _differs(desk):
        return []
    said = []
    for row in freed:
        facts = {"was": row["state"], "cleared": headed(row)}
        if controls.moved_by_itself(desk, row, EventType.STRATEGY_RESUMED, **facts):
            said.append(f"{row['name']} goes on: {headed(row)} has cleared")
    return said


def _differs(desk: Desk) -> bool:
    """Whether book and broker disagree: then nobody goes on by himself (invariant 27)."""
    return bool(settled_mismatches(desk, Tally("review", follow_up((), desk.today(), desk.now(), "review"))))


def _counter(desk: Desk) -> str:
    return f"broker:{desk.broker.account_id}"


def _errors(desk: Desk) -> int:
    """In a row, up to the last review: no fact, for only the third of them is one."""
    health = desk.ledger.health(_counter(desk))
    return 0 if health is None else int(health.content["errors"])
