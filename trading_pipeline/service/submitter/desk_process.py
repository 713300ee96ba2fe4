"""The desk's process: holds the account's lease and does everything that talks to the broker's order entry (HOUSE section 4).

It comes up as INVARIANTS 3.4 says: verify the log, look for stops, connect, reconcile, ready. Then, turn by turn: answer requests of
runs, settle what the broker has done, protect what is naked, reconcile, and say that it is well. A lease that is lost ends the
turn where it stands; the process begins again from the start. Nothing here imports Dagster, matplotlib or pandas.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from trading_pipeline.domain.cycles import follow_up
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.orders import OrderState
from trading_pipeline.domain.risk import World
from trading_pipeline.errors import Fenced, LedgerCorrupt, LedgerError, LedgerUnavailable, StopUnfiled, TradingError
from trading_pipeline.ports import Fence
from trading_pipeline.service import approvals
from trading_pipeline.service.accounting import reconciled
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.execution import place, recover, withdrawn
from trading_pipeline.service.judging import breakers
from trading_pipeline.service.orders.absence import doubt_unshown
from trading_pipeline.service.orders.adoption import adopt_orders
from trading_pipeline.service.orders.late_orders import cancel_what_is_over
from trading_pipeline.service.orders.protection import is_exposed, protect
from trading_pipeline.service.orders.settlement import OPEN_AT_BROKER, news, settle, settled_mismatches
from trading_pipeline.service.orders.voiding import void_open
from trading_pipeline.service.record.anchoring import anchor, anchor_head
from trading_pipeline.service.record.verification import verify_newest
from trading_pipeline.service.steps import Tally
from trading_pipeline.service.stopping.stop_orders import Report
from trading_pipeline.service.submitter import handover
from trading_pipeline.service.submitter.pulse import BEAT_SECONDS, Pulse
from trading_pipeline.service.submitter.recovery import resume_stop

TURN_SECONDS = 0.04
SETTLE_SECONDS = 0.5
IDLE_SECONDS = 2.0
"""The same while no order is open at the broker: what others do in the account, and what it restates, is in no hurry."""
REVIEW_SECONDS = 2.0
RECONCILE_SECONDS = 60.0
ANCHOR_SECONDS = 50.0
"""A little less than the minute that is promised (invariant 4)."""
JUMP_SECONDS = 5.0
"""Between wall clock and monotonic clock, within one turn: the machine slept, or somebody set its clock (invariant 72)."""
WAIT_SECONDS = 3600.0
"""How long it waits for a lease that another desk holds, before it says so again."""
ASK_SECONDS = 1.0
"""How long it waits at a time: in between it looks whether it is to stop."""
AGAIN_SECONDS = 2.0
VERIFIED = 2_000
"""Newest facts whose chain is recomputed before it trades; `trading verify` recomputes all."""

Say = Callable[[str], None]


def attend(desk: Desk, stopped: Callable[[], bool], say: Say) -> None:
    """Hold the desk until told to stop; what loses the lease, the ledger or the broker makes it begin again."""
    while not stopped():
        try:
            say(f"Waiting for the lease of {desk.broker.account_id}.")
            with ExitStack() as held:
                fence = _taken(desk, held, stopped)
                if fence is not None:
                    pulse = Pulse(desk.ledger, fence, handover.health_name(desk), "starting")
                    _Attendance(desk, fence, say, pulse).run(stopped)
        except TradingError as lost:
            say(f"Begins again: {lost.message}")
            time.sleep(AGAIN_SECONDS)


def _taken(desk: Desk, held: ExitStack, stopped: Callable[[], bool]) -> Fence | None:
    """The lease, within WAIT_SECONDS; None when it is told to stop before.

    Raises:
        LedgerUnavailable: Another desk has it still, or the ledger does not answer.
    """
    until = time.monotonic() + WAIT_SECONDS
    while True:
        asked = time.monotonic()
        try:
            return held.enter_context(desk.ledger.lease(handover.lease_name(desk), ASK_SECONDS))
        except LedgerUnavailable:
            now = time.monotonic()
            # Refused before its time: it is the ledger that cannot give it, and whoever reads what is said learns of it.
            if now < asked + ASK_SECONDS / 2 or now >= until:
                raise
        if stopped():
            return None


@dataclass(slots=True)
class _Attendance:
    """One holding of the lease."""

    desk: Desk
    fence: Fence
    say: Say
    pulse: Pulse
    seen: int | None = None
    """The last fact looked at for requests."""
    due: dict[str, float] = field(default_factory=dict)
    """When what is done now and then comes next, monotonic seconds."""
    trouble: dict[str, str] = field(default_factory=dict)
    """What last kept it from doing so."""
    differences: list[str] | None = None
    missed: dict[str, datetime] = field(default_factory=dict)
    """Since when the broker has not shown which orders that it has by the ledger."""
    ahead: float | None = None
    """How far the wall clock is ahead of the monotonic one, seconds."""

    def run(self, stopped: Callable[[], bool]) -> None:
        desk = self.desk
        self._tell("starting")
        with self.pulse.beating() as turned:
            try:
                self._boot()
            except LedgerCorrupt as fault:
                self._read_only(fault, stopped)
                return
            self._write(EventType.DESK_STARTED)
            self._tell(handover.READY)
            self.say(f"Ready: account {desk.broker.account_id}, lease {self.fence.token}.")
            try:
                while not stopped():
                    self.turn()
                    turned()
                    time.sleep(TURN_SECONDS)
                self._write(EventType.DESK_STOPPED)
                if unanchored := anchor_head(desk):
                    self.say(f"The last facts are not anchored: {unanchored}")
            finally:
                self._tell(handover.STOPPED)

    def _read_only(self, fault: LedgerCorrupt, stopped: Callable[[], bool]) -> None:
        """Nothing is sent on a record that cannot be trusted, by nobody: the lease stays here. Stops go on."""
        self.say(f"READ ONLY: {fault}")
        self.trouble["ledger"] = fault.message
        while not stopped():
            self._tell(handover.READ_ONLY)
            with suppress(TradingError):
                self._stops()
            self.pulse.check()
            time.sleep(BEAT_SECONDS)

    def _boot(self) -> None:
        """VERIFY_LOG, LATCH_CHECK, CONNECT, RECONCILE: nothing is taken from anybody before."""
        fault = verify_newest(self.desk.ledger, VERIFIED)
        if fault:
            raise LedgerCorrupt(
                f"The ledger does not verify: {fault}.", value=fault, rule="nothing is sent on a record that cannot be trusted",
                remedy="run `trading verify`, and restore a backup; `trading stop` works meanwhile",
            )
        # The ledger has the stop whose file is missing; the first turn says so, and every one tries again.
        with suppress(StopUnfiled):
            self._stops()
        adopt_orders(self.desk, self._tally())
        self._settled(always=True)
        self._reconcile()

    def turn(self) -> None:
        """Requests at once, the rest when its time has come."""
        self._check_clock()
        head = self.desk.ledger.head()[0]
        if head != self.seen:
            for request in handover.requests(self.desk.ledger, self.seen):
                self.due.pop("settle", None)
                try:
                    place(self.desk, self.fence, request.cycle)
                except (Fenced, LedgerError):
                    raise
                except TradingError as error:
                    handover.refuse(self.desk, request, error)
            self.seen = head
        # By itself and first: what a stop has to cancel waits for nothing that can fail beside it.
        self._now_and_then("stopping", REVIEW_SECONDS, self._stops)
        self._now_and_then("settle", SETTLE_SECONDS, self._settled)
        self._now_and_then("review", REVIEW_SECONDS, self._review)
        self._now_and_then("reconcile", RECONCILE_SECONDS, self._reconcile)
        self._now_and_then("anchoring", ANCHOR_SECONDS, partial(anchor, self.desk))

    def _check_clock(self) -> None:
        """After a jump of the clock every deadline is looked at anew, before anything is sent.

        Where live time went back, nobody can tell how long what waits has waited, and no jump lengthens it (D11): it is void.
        """
        ahead = time.time() - time.monotonic()
        jump, self.ahead = ahead - (ahead if self.ahead is None else self.ahead), ahead
        if abs(jump) <= JUMP_SECONDS:
            return
        self.say(f"The clock jumped by {jump:+.0f} s: every deadline is looked at anew.")
        if jump < 0 and self.desk.world is World.LIVE:
            with self.desk.ledger.transaction() as tx:
                void_open(tx, f"the machine's clock went back by {-jump:.0f} s", self.desk.now(), "desk")
        approvals.expire(self.desk, approvals.due(self.desk).overdue)
        self.due.clear()

    def _now_and_then(self, what: str, every: float, work: Callable[[], None]) -> None:
        """Do it when it is due. What fails is said once and done again at its next time: the desk goes on with everything else."""
        now = time.monotonic()
        if now < self.due.get(what, 0.0):
            return
        self.due[what] = now + every
        trouble = ""
        try:
            work()
        except (Fenced, LedgerError):
            raise
        except TradingError as error:
            trouble = error.message
        if trouble != self.trouble.get(what, ""):
            self.trouble[what] = trouble
            self.say(f"{what.capitalize()} failed, and is tried again: {trouble}" if trouble else f"{what.capitalize()} works again.")
            self._tell(handover.READY)

    def _review(self) -> None:
        for note in breakers.review(self.desk):
            self.say(note)

    def _stops(self) -> None:
        """Go on with what a stop has to cancel still."""
        resume_stop(self.desk, told=self._say_round)

    def _say_round(self, report: Report) -> None:
        whose = report.stop.strategy or f"account {self.desk.broker.account_id}"
        self.say(f"Stop of {whose}: {len(report.ended)} orders over, {len(report.open)} open, {len(report.unknown)} unknown.")

    def _settled(self, always: bool = False) -> None:
        """Book what the broker knows and the ledger does not, and protect what is naked.

        What fails keeps nothing after it from being done: an entry is withdrawn by what the ledger has of it, and `protect` settles what
        it acts on and judges each stop by itself.

        Raises:
            TradingError: The first thing that failed, once all has been tried.
        """
        tally = self._tally()
        failed: list[TradingError] = []
        for work in (partial(self._booked, always), self._recovered, partial(withdrawn, self.desk), self._protected):
            try:
                work(tally)
            except (Fenced, LedgerError):
                raise
            except TradingError as error:
                failed.append(error)
        if not self.desk.ledger.find("orders", state=OPEN_AT_BROKER, limit=1):
            self.due["settle"] = time.monotonic() + IDLE_SECONDS
        for note in tally.notes:
            self.say(note)
        if failed:
            raise failed[0]

    def _booked(self, always: bool, tally: Tally) -> None:
        if always or news(self.desk):
            settle(self.desk, tally)

    def _recovered(self, tally: Tally) -> None:
        """What an error on the way left behind: nobody else is on the way while this process holds the lease."""
        if self.desk.ledger.find("orders", state=(OrderState.INTENT.value, OrderState.SUBMITTED.value), limit=1):
            adopt_orders(self.desk, tally)
            recover(self.desk, self.fence, tally)

    def _protected(self, tally: Tally) -> None:
        if is_exposed(self.desk):
            protect(self.desk, self.fence, tally)

    def _reconcile(self) -> None:
        """Compare the account with the book; a result is a fact when it is another one than before."""
        tally = self._tally()
        adopt_orders(self.desk, tally)
        cancel_what_is_over(self.desk, tally)
        self.missed = doubt_unshown(self.desk, self.missed, tally)
        found = list(settled_mismatches(self.desk, tally).values())
        if found != self.differences:
            key = f"reconciled:desk:{self.fence.token}:{self.desk.ledger.head()[0]}"
            with self.desk.ledger.transaction() as tx:
                tx.append(reconciled(self.desk, key, found))
            self.differences = found
        for note in [*tally.notes, *found]:
            self.say(note)

    def _tally(self) -> Tally:
        return Tally("desk", follow_up((), self.desk.today(), self.desk.now(), "desk"))

    def _tell(self, state: str) -> None:
        self.pulse.tell(state, differences=self.differences or [], trouble=[text for text in self.trouble.values() if text])

    def _write(self, type_: EventType) -> None:
        payload = {"account": self.desk.broker.account_id, "token": self.fence.token}
        key = f"{type_.value}:{self.desk.broker.account_id}:{self.fence.token}"
        with self.desk.ledger.transaction() as tx:
            tx.append(NewEvent(type_, "system", key, payload, self.desk.now(), "desk"))
