"""Strategies: every command at any time, through the real controls, breakers' moves, stops and closes; and who is asked in between."""

import tempfile
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.desks import CLOSE, NEVER, PERSON, at, bars, floor, market, strategy
from tests.domain.test_state_machines import STRATEGIES
from tests.state_machines.walking import walk
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType as E
from trading_pipeline.domain.strategies import ExpressionAgent, Lifetime, PauseReason, StrategyState
from trading_pipeline.errors import TradingError
from trading_pipeline.service import controls, emergency
from trading_pipeline.service.closing import close_session

NAMES = ("keen", "calm")
BEGUN = {"running", "paused_user", "paused_risk", "not_ready"}
LEADS = {
    "start": {"draft": "running", "not_ready": "running"},
    "pause": {"running": "paused_user", "not_ready": "paused_user"},
    "resume": {"paused_user": "running", "paused_risk": "running", "not_ready": "running"},
    "finish": dict.fromkeys(BEGUN, "finished"),
    "stop": dict.fromkeys({"draft", *BEGUN}, "emergency_stopped"),
}
"""What each command makes of a strategy (INVARIANTS 3.3); from any other state it is refused."""
FIVE = Interval.MIN5


class Strategies(RuleBasedStateMachine):
    """Two strategies, one of the session and one that stays open, their states beside the ledger's."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        source = market(bars(interval=FIVE, first=at(0).date() - timedelta(days=1), last=at(0).date()))
        self.stage = floor(Path(self.folder.name), source, at(9, 35, 1))
        self.state: dict[str, str] = {}
        self.stopped = False
        self.most = Decimal(10_000)
        self.lost_at: dict[str, datetime] = {}

    def _spec(self, name: str):
        lifetime = Lifetime.SESSION if name == "keen" else Lifetime.OPEN
        return strategy(name, interval=FIVE, agent=ExpressionAgent(NEVER), lifetime=lifetime)

    def _expect(self, command: str, name: str, allowed: bool, run) -> None:
        """It happens if it may, and leaves no trace if not."""
        head = self.stage.desk.ledger.head()
        try:
            run()
        except TradingError:
            assert not allowed, f"{command} of {name}, which is {self.state.get(name)}, was refused"
            assert self.stage.desk.ledger.head() == head
        else:
            assert allowed, f"{command} of {name}, which is {self.state.get(name)}, was not refused"

    def _command(self, command: str, name: str, run) -> None:
        after = LEADS[command].get(self.state.get(name, ""))
        barred = self.stopped and command in ("start", "resume")
        self._expect(command, name, after is not None and not barred, run)
        if after is not None and not barred:
            self.state[name] = after

    @initialize()
    def begin(self) -> None:
        """The session is open: a bar was decided on."""
        self.create("keen")
        self.start("keen")
        self.next_bar()

    @rule(name=st.sampled_from(NAMES))
    def create(self, name: str) -> None:
        """A name is used once, for good."""
        allowed = name not in self.state
        self._expect("create", name, allowed, lambda: controls.create(self.stage.desk, self._spec(name), actor=PERSON))
        if allowed:
            self.state[name] = "draft"

    @rule(name=st.sampled_from(NAMES))
    def start(self, name: str) -> None:
        self._command("start", name, lambda: controls.start(self.stage.desk, name, actor=PERSON))

    @rule(name=st.sampled_from(NAMES))
    def pause(self, name: str) -> None:
        self._command("pause", name, lambda: controls.pause(self.stage.desk, name, actor=PERSON))

    @rule(name=st.sampled_from(NAMES))
    def resume(self, name: str) -> None:
        self._command("resume", name, lambda: controls.resume(self.stage.desk, name, actor=PERSON))

    @rule(name=st.sampled_from(NAMES))
    def finish(self, name: str) -> None:
        self._command("finish", name, lambda: controls.finish(self.stage.desk, name, actor=PERSON))

    @rule(name=st.sampled_from(NAMES))
    def tighten(self, name: str) -> None:
        """A revision moves no state, and is refused once a strategy is over."""
        self.most /= 2
        spec = self._spec(name)
        tighter = replace(spec, limits=replace(spec.limits, max_order_value=self.most))
        allowed = self.state.get(name) in {"draft", *BEGUN}
        self._expect("revise", name, allowed, lambda: controls.revise(self.stage.desk, tighter, actor=PERSON))

    @rule(name=st.sampled_from(NAMES), why=st.sampled_from([PauseReason.RUN_FAILED, PauseReason.REJECTS]))
    def pause_by_itself(self, name: str, why: PauseReason) -> None:
        """Only one that runs; whatever else it is, it stays."""
        ran = controls.pause_by_itself(self.stage.desk, name, why, "as it had to")
        assert ran is (self.state.get(name) == "running")
        if ran:
            self.state[name] = "paused_risk"

    @rule(name=st.sampled_from(NAMES))
    def lose_the_broker(self, name: str) -> None:
        """What the breakers do when it does not answer; here it answers again by the next bar."""
        moved = controls.moved_by_itself(
            self.stage.desk, name, StrategyState.RUNNING, E.STRATEGY_NOT_READY, reason="session: the broker is gone"
        )
        assert moved is (self.state.get(name) == "running")
        if moved:
            self.state[name], self.lost_at[name] = "not_ready", self.stage.clock.now()

    @rule(name=st.sampled_from(NAMES))
    def stop(self, name: str) -> None:
        """For good, and again without effect."""
        if name in self.state:
            emergency.stop(self.stage.desk, strategy=name, reason="enough", actor=PERSON)
            self.state[name] = LEADS["stop"].get(self.state[name], self.state[name])

    @precondition(lambda self: len(self.state) == 2)
    @rule()
    def stop_all(self) -> None:
        """The account's latch: every strategy ends, and none begins."""
        emergency.stop(self.stage.desk, reason="enough", actor=PERSON)
        self.stopped = True
        self.state = {name: LEADS["stop"].get(state, state) for name, state in self.state.items()}

    @precondition(lambda self: self.stage.clock.now() < CLOSE - timedelta(minutes=30))
    @rule(bars_later=st.sampled_from([1, 1, 3]))
    def next_bar(self, bars_later: int = 1) -> None:
        """Who was not ready goes on, or waits for a person after a quarter of an hour; exactly those that run are asked."""
        now = self.stage.clock.now() + timedelta(minutes=5) * bars_later
        self.stage.go(now)
        for name in [name for name, state in self.state.items() if state == "not_ready"]:
            self.state[name] = "running" if now - self.lost_at[name] < timedelta(minutes=15) else "paused_user"
        head = self.stage.desk.ledger.head()[0]
        self.stage.cycle(FIVE)
        asked = {event.payload["strategy"] for event in self.stage.desk.ledger.events(after=head, types=(E.LLM_REQUESTED,))}
        assert asked == {name for name, state in self.state.items() if state == "running"}

    @precondition(lambda self: self.stage.clock.now() < CLOSE)
    @rule()
    def close(self) -> None:
        """Those of the session finish once they have begun; those that stay open stay as they are."""
        self.stage.go(CLOSE + timedelta(seconds=1))
        close_session(self.stage.desk, self.stage.desk.calendar.session(CLOSE.date()))
        if self.state.get("keen") in BEGUN:
            self.state["keen"] = "finished"

    @invariant()
    def they_are_in_the_states_that_the_commands_led_to(self) -> None:
        assert {row["name"]: row["state"] for row in self.stage.rows("strategies")} == self.state

    def teardown(self) -> None:
        try:
            self._check_the_record()
        finally:
            self.folder.cleanup()

    def _check_the_record(self) -> None:
        """Each step that was written is one of the diagram's."""
        now: dict[str, str] = {}
        first = {E.STRATEGY_CREATED: "draft", E.STRATEGY_STARTING: "starting", E.STRATEGY_STARTED: "running", E.STRATEGY_RESUMED: "running"}
        first |= {E.STRATEGY_FINISHED: "finished", E.STRATEGY_EMERGENCY_STOPPED: "emergency_stopped", E.STRATEGY_NOT_READY: "not_ready"}
        for event in self.stage.events(*first, E.STRATEGY_PAUSED):
            name, to = event.payload["strategy"], event.payload.get("state") or first[event.type]
            assert event.type is E.STRATEGY_CREATED or (now[name], to) in STRATEGIES
            now[name] = to
        assert now == self.state
        assert self.stage.verifies()


def test_a_strategy_is_where_its_commands_led_it_and_stopped_for_good() -> None:
    """17, 49, 51, 54, 57, 58, D9, D10."""
    walk(Strategies, examples=15, steps=20)
