"""A day as it happens: closes of bars, releases, people, weather and crashes, each at an instant that the seed chose.

Runs are the real steps in the order of the sensors. A run that dies is launched again or recorded as failed, as an operator would see
it; whatever raises what its contract does not name is a violation like any other. After the close everything that was late comes in.
"""

from datetime import datetime, timedelta

from tests.desks import Killed, calendar
from tests.evidence.daysim import people, world
from tests.evidence.daysim.stage import Stage, one_after_the_other
from tests.evidence.daysim.watch import Watch
from trading_pipeline.domain.cycles import follow_up
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.portfolio import EXTERNAL
from trading_pipeline.domain.sessions import Session
from trading_pipeline.errors import BrokerNotReady
from trading_pipeline.service import approvals
from trading_pipeline.service.actors import RECOVERY
from trading_pipeline.service.cycle import run_cycle, run_follow_up
from trading_pipeline.service.orders import settlement
from trading_pipeline.service.orders.gaps import gaps, shortages
from trading_pipeline.service.record.anchoring import restored
from trading_pipeline.service.steps import Tally
from trading_pipeline.service.submitter.closing import close_session, sessions_to_close
from trading_pipeline.service.timetable import due_cycles, record_missed

AFTERWARDS = tuple(timedelta(minutes=each) for each in (2, 4, 7, 12, 20))
"""When the day is looked at again after its close: beyond every visibility window and both looks of invariant 15."""


class Day(Stage):
    """One seed, played."""

    def play(self) -> Watch:
        """From the first open to the last look."""
        with one_after_the_other():
            for spec in self.plan.specs:
                self.person("start", lambda spec=spec: self.start(spec))
            for session in self.plan.sessions:
                self._session(session)
            self._end()
        self.end_process()
        return self.watch

    def _session(self, session: Session) -> None:
        for instant in self._agenda(session):
            self._until(instant)
            if self.desk.now() > instant:
                self.struck["clock: jumped past"] += 1
                continue
            self.floor.go(instant)
            self._turn()
        self.floor.go(max(self.desk.now(), session.close + timedelta(seconds=self.dice.choice((0, 1, 40)))))
        for _ in range(6):
            world.weather(self)
            self._run_all()
            self._close()
        if self.plan.sessions[-1] is session or self.dice.random() < 0.8:
            self.line.settle()
            self.fuse.left = None
            self._close()
            for after in AFTERWARDS:
                self.floor.go(max(self.desk.now(), session.close + after))
                self._run_all()

    def _agenda(self, session: Session) -> list[datetime]:
        """Closes of bars, a little late, and instants at which nothing closes."""
        late = (0.0, 0.5, 2.0, 20.0)
        ends = [session.open, *(slot.end for slot in calendar().slots(session, self.plan.interval)[:-1])]
        found = [end + timedelta(seconds=self.dice.choice(late)) for end in ends]
        length = (session.close - session.open).total_seconds()
        found += [session.open + timedelta(seconds=self.dice.uniform(5, length - 1)) for _ in range(8)]
        return sorted(found)

    def _until(self, instant: datetime) -> None:
        """Releases and expiries on the way, as the sensors launch them; people decide in between."""
        for _ in range(6):
            due = approvals.next_instant(self.desk)
            if due is None or due >= instant:
                return
            self.floor.go(due)
            if self.dice.random() < 0.7:
                people.decide(self)
            self._run_all()

    def _turn(self) -> None:
        world.weather(self)
        if self.dice.random() < 0.06:
            self._jump()
        if self.dice.random() < self.plan.trouble / 2:
            self.fuse.left = self.dice.randint(1, 80)
        if self.dice.random() < 0.12:
            world.others(self)
        people.control(self)
        if self.plan.attended:
            self.step("the desk's turn", self.turn_of_process)
        self._run_all()
        people.decide(self)
        self._run_all()
        if self.dice.random() < 0.5:
            self.fuse.left = None

    def _jump(self) -> None:
        """The machine slept."""
        self.struck["clock: jump"] += 1
        self.floor.go(self.desk.now() + timedelta(seconds=self.dice.choice((6, 61, 200, 700, 2_400))))

    # Runs

    def _run_all(self) -> None:
        """What the sensors launch at this instant."""
        if self.plan.attended and self.process is None and self.dice.random() < 0.7:
            self.step("the desk starts", self.turn_of_process)
        for session in sessions_to_close(self.desk):
            if session.close < self.desk.now() - timedelta(hours=3):
                self._close()
        for cycle in due_cycles(self.desk):
            self.run(f"cycle {cycle.cycle_id}", cycle, lambda cycle=cycle: (record_missed(self.desk, cycle), run_cycle(self.desk, cycle)))
        self.step("expiries", lambda: approvals.expire(self.desk, approvals.due(self.desk).overdue))
        due = approvals.due(self.desk)
        heard = ""
        try:
            heard = settlement.news(self.desk)
        except BrokerNotReady:
            pass
        except Killed:
            self.restart()
        if due.released or heard:
            turn = follow_up(due.released, self.desk.today(), self.desk.now(), "release" if due.released else "orders")
            self.run(f"follow-up {turn.cycle_id}", turn, lambda: run_follow_up(self.desk, turn))
        if self.plan.attended:
            self.step("the desk's turn", self.turn_of_process)

    def _close(self) -> None:
        for session in sessions_to_close(self.desk):
            self.step("the session's close", lambda session=session: close_session(self.desk, session))

    def _end(self) -> None:
        """After the last look: what must be so when everything has come through."""
        turn = follow_up((), self.desk.today(), self.desk.now(), "last look")
        self.run("the last look", turn, lambda: run_follow_up(self.desk, turn))
        self.step("the last comparison", lambda: settlement.settled_mismatches(self.desk, Tally("days", turn)))
        self.watch.end()
        for session in self.plan.sessions:
            known = self.ledger.get("sessions", session.day.isoformat())
            if known is not None and known["state"] != "closed":
                self.watch.say(f"the session {session.day} is {known['state']}", "the day's end")
        if restored(self.desk):
            self.watch.say(f"an anchor differs: {restored(self.desk)}", "the day's end")
        for event in self.ledger.events():
            if event.type.value == "account.latched" and event.actor == RECOVERY:
                self.watch.say(f"latched by itself: {event.payload['reason']}", "the day's end")
        alarms = [event.payload for event in self.ledger.events(types=(EventType.POSITION_UNPROTECTED,))]
        told = {(alarm["strategy"], alarm["symbol"], alarm["quantity"]) for alarm in alarms}
        for gap in gaps(self.ledger):
            if (gap.strategy, gap.symbol, gap.quantity) not in told:
                self.watch.say(f"naked: {gap.quantity} {gap.symbol} of {gap.strategy} have no stop, and no alarm", "the day's end")
        for short in shortages(self.ledger):
            if (EXTERNAL, short.symbol, short.quantity) not in told:
                self.watch.say(f"naked: {short.quantity} {short.symbol} of the account have no stop, and no alarm", "the day's end")

