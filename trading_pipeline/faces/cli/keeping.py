"""What keeps a replayed market going while `trading up` runs, what it waits for, and what it says of it.

A daily replay leaps from the morning to the close and on to the next open. Before the first leap it waits for the session's cycle,
for proposals that a person has not decided and for actions that are to be sent; before the second for the session's close in the
ledger. One of minutes, where it is faster, goes on in real time while a person is asked and until what they approved is sent. Nothing is
waited for without end: a replay that stands because something broke would say less than one that goes on.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import UTC, datetime

from trading_pipeline.adapters.clocks import Gate, ReplayClock
from trading_pipeline.adapters.replay_file import Pace
from trading_pipeline.domain.approvals import ActionState
from trading_pipeline.domain.sessions import Session
from trading_pipeline.errors import StorageError, TradingError
from trading_pipeline.faces.cli.output import counted, duration, money, new_york
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.submitter.closing import sessions_to_close
from trading_pipeline.service.timetable import unfinished

Say = Callable[[str], None]
WORK_SECONDS = 60.0
"""Real time for which a gate waits for a run of ours: a few attempts of it."""
_KEEP_SECONDS, _LOOK_SECONDS = 5.0, 0.5


class Keeper:
    """Called a few times a second."""

    def __init__(
        self, clock: ReplayClock, open_desk: Callable[[], Desk], say: Say, patience: float, monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing runs before the first call.

        Args:
            clock: What is kept running.
            open_desk: Called once, when the ledger runs.
            say: Told, in whole sentences, what is waited for.
            patience: Real seconds that a person gets, beyond the slot of a daily session, or for each proposal of minutes; 0 is none.
            monotonic: Tests hand in their own.
        """
        self._clock, self._open_desk, self._say, self._patience, self._monotonic = clock, open_desk, say, patience, monotonic
        self._desk: Desk | None = None
        self._keep_at = self._look_at = monotonic()
        self._gate: int | None = None
        self._since = self._worked = self._sent = 0.0
        """When the gate was reached, when work of ours was last under way there, and when the number of unsent actions last changed."""
        self._unsent = 0
        self._asked: frozenset[str] = frozenset()
        self._sending: frozenset[str] = frozenset()
        """What was approved and is not sent yet."""
        self._trouble = ""
        self._began = self._stuck = False
        """Whether gates and minutes are kept; whether the clock could not be written the last time."""

    def __call__(self) -> None:
        """Let the replay go on, and open the gate it is at if there is nothing to wait for."""
        now = self._monotonic()
        if self._desk is None:
            self._desk = self._open_desk()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_SECONDS
        try:
            self._keep(now)
            self._look(self._desk, now)
        except StorageError as error:
            if not self._stuck:
                self._say(f"REPLAY: it will stand still, and is tried again: {error.message} To do: {error.remedy}.")
            self._stuck = True
        else:
            if self._stuck:
                self._say(f"REPLAY {new_york(self._desk.now())}: its clock can be written again; going on.")
            self._stuck = False

    def _keep(self, now: float) -> None:
        if not self._began:
            self._clock.keep_gates()
            self._clock.keep_minutes(datetime.now(UTC))
            self._began = True
        if self._stuck or now >= self._keep_at:
            self._clock.keep()
            self._keep_at = now + _KEEP_SECONDS

    def _look(self, desk: Desk, now: float) -> None:
        gate = self._clock.gate
        if gate is not None and gate.number != self._gate:
            self._gate, self._since, self._worked, self._sent = gate.number, now, now, now
        try:
            self._tell_proposals(desk)
            waits = gate is not None and (self._close_is_missing(desk, gate, now) if gate.closing else self._something_is_open(desk, now))
        except TradingError as error:
            if error.message != self._trouble:
                self._trouble = error.message
                self._say(f"REPLAY: what to wait for cannot be read: {error.message}")
            waits = now - self._since < WORK_SECONDS
        if gate is not None and not waits:
            self._clock.open_gate()

    def _tell_proposals(self, desk: Desk) -> None:
        rows = desk.ledger.find("approvals", state=ActionState.PENDING.value)
        asked = frozenset(row["action_id"] for row in rows)
        self._take_time(desk, asked)
        if asked - self._asked:
            left = min(self._clock.real_seconds_until(row["expires_at"], self._patience) for row in rows)
            self._say(
                f"REPLAY {new_york(desk.now())}: waiting for you: {counted(len(rows), 'proposal')}, {duration(left)} left. "
                "Decide with: trading approvals"
            )
        self._asked = asked

    def _take_time(self, desk: Desk, asked: frozenset[str]) -> None:
        """In real time a proposal stands for minutes, and what is approved can be sent; at sixty times the pace neither can be."""
        sending = frozenset(row["action_id"] for row in desk.ledger.find("actions", state=ActionState.APPROVED.value))
        if sending - self._sending:
            self._clock.take_time(WORK_SECONDS)
        elif asked - self._asked and self._patience:
            self._clock.take_time(self._patience)
        elif (self._asked or self._sending) and not asked and not sending:
            self._clock.take_time(0)
        self._sending = sending

    def _something_is_open(self, desk: Desk, now: float) -> bool:
        still = unfinished(desk)
        if still.cycles and now - self._since < WORK_SECONDS:
            self._worked = now
            return True
        if still.unsent != self._unsent:
            self._unsent, self._sent = still.unsent, now
        if (still.unsent and now - self._sent < WORK_SECONDS) or (still.proposals and now - self._worked < self._patience):
            return True
        left = [
            "the cycle has not ended" if still.cycles else "", f"{counted(still.unsent, 'action')} not sent" if still.unsent else "",
            f"{counted(still.proposals, 'proposal')} not decided" if still.proposals and self._patience else "",
        ]
        if any(left):
            self._say(f"REPLAY {new_york(desk.now())}: going on; {', '.join(filter(None, left))}.")
        return False

    def _close_is_missing(self, desk: Desk, gate: Gate, now: float) -> bool:
        if sessions_to_close(desk):
            if now - self._since < WORK_SECONDS:
                return True
            self._say(
                f"REPLAY {gate.session.day}: its close is not in the ledger after {WORK_SECONDS:.0f} s; going on. It comes before the "
                "next cycle, or see the failed runs on Dagster's page."
            )
        self._tell_close(desk, gate.session)
        return False

    def _tell_close(self, desk: Desk, session: Session) -> None:
        closed = desk.ledger.event_by_key(f"session.closed:{session.day}")
        if closed is not None:
            report = closed.payload["report"]
            gained = money(report["day_pnl"])
            self._say(f"REPLAY {session.day} closed: equity {money(report['equity'])}, day {gained}, {counted(report['fills'], 'fill')}.")


@contextmanager
def keeping(clock: ReplayClock, desk: Callable[[], AbstractContextManager[Desk]], say: Say, patience: float) -> Iterator[Keeper]:
    """A keeper whose desk is closed and whose clock stands still afterwards."""
    with ExitStack() as stack:
        stack.callback(_pause, clock)
        yield Keeper(clock, lambda: stack.enter_context(desk()), say, patience)


def _pause(clock: ReplayClock) -> None:
    # One that cannot be told stands still all the same, KEPT_SECONDS after the last keep.
    with suppress(StorageError):
        clock.pause()


def time_to_decide(clock: ReplayClock, patience: float) -> str:
    """What to say of proposals where the market's time is faster than a person's; empty where it is not.

    Args:
        clock: The replay.
        patience: As the keeper's.
    """
    if clock.pace is Pace.DAILY or clock.speed <= 1:
        return ""
    if patience:
        return (
            f"While a proposal waits for you this replay goes on in real time, for up to {duration(patience)} (market.decision_seconds), "
            "and until what you approved is sent."
        )
    return (
        f"This replay does not wait for you: of a minute that a proposal stands you have {60 / clock.speed:.3g} s. With "
        "market.decision_seconds above 0 it goes on in real time while you decide."
    )


def speed_warning(clock: ReplayClock, interval_minutes: float, run_seconds: float) -> str:
    """What to say when bars close faster than runs can follow; empty when they do not."""
    between = interval_minutes * 60 / clock.speed
    if clock.pace is Pace.DAILY or between >= run_seconds:
        return ""
    return (
        f"A bar closes every {between:.3g} s, and a run takes about {run_seconds:.0f} s: most closes will only be recorded as missed. "
        f"--speed {interval_minutes * 60 / run_seconds:.3g} or slower trades them all."
    )
