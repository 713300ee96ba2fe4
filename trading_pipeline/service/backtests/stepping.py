"""The stepped engine: the real steps of a cycle, taken through every instant at which something can happen.

Closes of bars, releases, expiries and closes of sessions, in the order in which the sensors see them; between two of those nothing
happens, because bars are all that is known of the market. It can do whatever the pipeline can, and is what the columnar engine is held to.
A person is played who approves every proposal at once; a strategy that waits for a person for another reason stays paused.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime

from trading_pipeline.domain.backtests import BacktestPlan
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.cycles import follow_up
from trading_pipeline.domain.sessions import Session
from trading_pipeline.domain.strategies import Lifetime
from trading_pipeline.errors import Conflict, ServiceError
from trading_pipeline.service import approvals, controls
from trading_pipeline.service.backtests.bench import Stepped, sessions_of
from trading_pipeline.service.cycle import run_cycle, run_follow_up
from trading_pipeline.service.day_baseline import open_session
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.orders.settlement import news
from trading_pipeline.service.submitter.closing import close_session, sessions_to_close
from trading_pipeline.service.timetable import due_cycles, running_intervals

ROUNDS = 20
"""Most rounds of work at one instant: a round may lead to another, never to ever more."""

Progress = Callable[[int, int, date], None]
"""Told after each session: how many are done, of how many, and which one was."""
Wanted = Callable[[datetime], bool]


def begin(desk: Desk, plan: BacktestPlan) -> None:
    """Create and start the plan's strategies. One that lives for a session is begun anew with each: here it stays open.

    Raises:
        StrategyError, UnknownName: One could not run here.
    """
    for spec in plan.strategies:
        controls.create(desk, replace(spec, lifetime=Lifetime.OPEN), actor=approvals.BACKTEST_PERSON)
        controls.start(desk, spec.name, actor=approvals.BACKTEST_PERSON)


def step(desk: Desk, clock: Stepped, plan: BacktestPlan, progress: Progress | None = None, only_where: Wanted | None = None) -> None:
    """Begin the plan's strategies and live through its sessions.

    Args:
        clock: The desk's.
        only_where: Closes of bars at which this is false are passed over, as if no cycle had been launched; None looks at all of them.
    """
    begin(desk, plan)
    sessions = sessions_of(desk.calendar, plan)
    for number, session in enumerate(sessions, start=1):
        for instant in decision_instants(desk, session):
            if only_where is None or only_where(instant):
                pass_until(desk, clock, instant)
                act(desk, clock, instant)
        close(desk, clock, session)
        if progress is not None:
            progress(number, len(sessions), session.day)


def decision_instants(desk: Desk, session: Session) -> list[datetime]:
    """When bars close that a running strategy decides on in a session; the bar that closes with it decides nothing (D27)."""
    intervals = running_intervals(desk)
    ends = {slot.end for each in intervals if not each.daily for slot in desk.calendar.slots(session, each) if not slot.last_of_session}
    return sorted(ends | {session.open} if Interval.DAY1 in intervals else ends)


def pass_until(desk: Desk, clock: Stepped, instant: datetime) -> None:
    """Stop at every release and expiry on the way."""
    while (due := approvals.next_instant(desk)) is not None and due < instant:
        act(desk, clock, due)


def close(desk: Desk, clock: Stepped, session: Session) -> None:
    """Go on to a session's close: its last bar, what filled in it, and its report. One without a cycle is a day of the account as well."""
    pass_until(desk, clock, session.close)
    clock.advance_to(max(session.close, clock.now()))
    open_session(desk, session.day)
    act(desk, clock, session.close)


def act(desk: Desk, clock: Stepped, instant: datetime) -> None:
    """Go to an instant and do there what the sensors would launch, until nothing is left.

    Raises:
        ServiceError: Work leads to more work without an end: a fault of the program.
    """
    clock.advance_to(max(instant, clock.now()))
    launched: set[str] = set()
    for _ in range(ROUNDS):
        if not (_cycles(desk) + _follow_ups(desk, launched) + _closes(desk) + _approve(desk)):
            return
    raise ServiceError(
        f"The backtest does not come to rest at {instant:%Y-%m-%d %H:%M:%S} UTC.", value=instant,
        rule=f"at most {ROUNDS} rounds an instant", remedy="report it with the strategy and the bars",
    )


def _cycles(desk: Desk) -> int:
    due = due_cycles(desk)
    for cycle in due:
        run_cycle(desk, cycle)
    return len(due)


def _follow_ups(desk: Desk, launched: set[str]) -> int:
    """What the sensors of approvals and of orders launch: what was approved, then what was paced or has news; each once an instant.

    Args:
        launched: For what there was a run at this instant already.
    """
    due = approvals.due(desk)
    done = approvals.expire(desk, due.overdue)
    approved = tuple(name for name in due.released if desk.ledger.get("approvals", name) is not None)
    if approved:
        done += _launch(desk, approved, "approval", "+".join(approved), launched)
    released = tuple(name for name in approvals.due(desk).released if desk.ledger.get("approvals", name) is None)
    heard = news(desk)
    if released or heard:
        done += _launch(desk, released, "release" if released else "orders", "+".join(released) or heard, launched)
    return done


def _launch(desk: Desk, actions: tuple[str, ...], what: str, why: str, launched: set[str]) -> int:
    reason = f"{what}:{why}"
    if reason in launched:
        return 0
    again = sum(each.startswith(f"{what}:") for each in launched)
    launched.add(reason)
    # A second run of one kind at the same instant has another name: the first one's steps are done.
    run_follow_up(desk, follow_up(actions, desk.today(), desk.now(), f"{what}-{again + 1}" if again else what))
    return 1


def _closes(desk: Desk) -> int:
    ended = sessions_to_close(desk)
    for session in ended:
        close_session(desk, session)
    return len(ended)


def _approve(desk: Desk) -> int:
    """Play the person; how many proposals were approved. One that can be approved no longer is left to expire."""
    approved = 0
    for row in desk.ledger.find("approvals", state="pending", order_by="requested_seq"):
        try:
            approvals.approve(desk, row["action_id"], actor=approvals.BACKTEST_PERSON, shown_hash=row["hash"])
        except Conflict:
            continue
        approved += 1
    return approved
