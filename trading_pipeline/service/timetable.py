"""What is due at an instant, by the market clock and the calendar, and what was missed (A7).

What becomes of missed work says `domain.missed_work`. The schedule is not remembered anywhere but in the ledger: a cycle is
due until its last step is a fact.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from trading_pipeline.domain.approvals import RELEASABLE, ActionState
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.cycles import Cycle, bar_cycle
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.missed_work import WhenMissed, treated
from trading_pipeline.domain.orders import OrderState
from trading_pipeline.domain.sessions import BarSlot
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.judging.causes import clears_by_itself
from trading_pipeline.service.steps import LIVE_STATES, RUNNING, spec_of, step_key

LOOK_BACK = timedelta(days=5)
"""How far back missed closes are listed one by one."""


def due_cycles(desk: Desk) -> list[Cycle]:
    """The newest closed bar of each interval that a running strategy uses, if its cycle has not begun."""
    found = [newest_cycle(desk, interval) for interval in running_intervals(desk)]
    return [cycle for cycle in found if cycle is not None and desk.ledger.event_by_key(step_key(cycle, "portfolio_snapshots")) is None]


def newest_cycle(desk: Desk, interval: Interval) -> Cycle | None:
    """The cycle of the newest closed bar that is decided in the session that is open now; None when none is."""
    now = desk.now()
    session = desk.calendar.at(now)
    if session is None:
        return _closing_cycle(desk, interval, now)
    slot = desk.calendar.last_closed_slot(now, interval)
    if slot is None or (not interval.daily and slot.session.day != session.day):
        return None
    return bar_cycle(slot, session)


def _closing_cycle(desk: Desk, interval: Interval, now: datetime) -> Cycle | None:
    """After the close: the session's last intraday bar is received, and decides nothing (D27)."""
    closed = desk.calendar.last_closed(now)
    if closed is None or interval.daily or now >= closed.close + timedelta(hours=1):
        return None
    return bar_cycle(desk.calendar.slots(closed, interval)[-1], closed)


def running_intervals(desk: Desk) -> tuple[Interval, ...]:
    """Intervals that running strategies decide on, in order of length; those that go on by themselves among them: a cycle sees whether."""
    rows = desk.ledger.find("strategies", state=LIVE_STATES)
    used = {spec_of(row).interval for row in rows if row["state"] in RUNNING or clears_by_itself(row)}
    return tuple(interval for interval in Interval if interval in used)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What a session still has to do before its close, counted."""

    cycles: int
    proposals: int
    """That wait for a person."""
    unsent: int
    """Admitted actions that are to be sent and have time left, and orders on their way to the broker."""


def unfinished(desk: Desk) -> Unfinished:
    """What is lost if the market leaps to the close now."""
    now = desk.now()
    admitted = desk.ledger.find("actions", state=RELEASABLE)
    on_their_way = desk.ledger.find("orders", state=(OrderState.INTENT.value, OrderState.SUBMITTED.value))
    return Unfinished(
        cycles=len(due_cycles(desk)),
        proposals=len(desk.ledger.find("approvals", state=ActionState.PENDING.value)),
        unsent=sum(1 for row in admitted if row["expires_at"] is not None and now < row["expires_at"])
        + sum(1 for row in on_their_way if row["parent"] is None),
    )


def record_missed(desk: Desk, cycle: Cycle) -> int:
    """Write down the closes between the last cycle that ran and this one: they were missed, and why; how many."""
    assert cycle.interval is not None
    assert cycle.bar_end is not None
    last = _last_run(desk, cycle)
    if last is None:
        return 0
    missed = _slots_between(desk, cycle.interval, last, cycle.bar_end)
    refilled, skipped_assets = treated(WhenMissed.REFILLED), treated(WhenMissed.SKIPPED)
    reason = (
        f"the machine, the daemon or the schedule was not there; its {refilled[0]} are refilled, its {skipped_assets[0]} are skipped (A7)"
    )
    events = []
    for slot in missed:
        runs_in = desk.calendar.next(slot.session.day) if slot.interval.daily else slot.session
        skipped = bar_cycle(slot, runs_in)
        found = {"found_by": cycle.cycle_id, "reason": reason, "refilled": refilled, "skipped": skipped_assets}
        payload = {"cycle": skipped.cycle_id, "interval": cycle.interval.value, "bar_end": slot.end, **found}
        events.append(NewEvent(EventType.CYCLE_MISSED, "system", f"cycle.missed:{skipped.cycle_id}", payload, desk.now(), "timetable"))
    if events:
        with desk.ledger.transaction() as tx:
            tx.append(*events)
    return len(events)


def _last_run(desk: Desk, cycle: Cycle) -> datetime | None:
    """The bar end of the newest cycle of the same interval that ran before, within the look-back."""
    assert cycle.interval is not None
    assert cycle.bar_end is not None
    for slot in reversed(_slots_between(desk, cycle.interval, cycle.bar_end - LOOK_BACK, cycle.bar_end)):
        runs_in = desk.calendar.next(slot.session.day) if slot.interval.daily else slot.session
        if desk.ledger.event_by_key(step_key(bar_cycle(slot, runs_in), "bars")) is not None:
            return slot.end
    return None


def _slots_between(desk: Desk, interval: Interval, after: datetime, before: datetime) -> list[BarSlot]:
    sessions = desk.calendar.between(after.date(), before.date())
    return [slot for session in sessions for slot in desk.calendar.slots(session, interval) if after < slot.end < before]
