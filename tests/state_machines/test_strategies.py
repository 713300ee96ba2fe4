"""Strategies: every command at any time, through the real controls, breakers' moves, stops and closes; and who is asked in between."""

import random
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.desks import CLOSE, NEVER, PERSON, at, bars, floor, market, strategy
from tests.domain.test_state_machines import STRATEGIES
from tests.state_machines.walking import walk
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType as E
from trading_pipeline.domain.strategies import ExpressionAgent, Lifetime, PauseReason, StrategySpec
from trading_pipeline.errors import TradingError
from trading_pipeline.service import controls
from trading_pipeline.service.stopping import emergency
from trading_pipeline.service.submitter.closing import close_session

ACTS = {
    "create": 6, "start": 12, "pause": 8, "resume": 8, "finish": 2, "tighten": 3, "pause_by_itself": 6, "pause_for_now": 6,
    "lose_the_broker": 6, "stop": 2, "next_bar": 12, "close": 1, "stop_all": 1,
}
WAITS = "paused for now"
"""PAUSED_RISK for what clears by itself, which a person or something graver may hold; of the rest a person decides."""
BEGUN = {"running", "paused_user", "paused_risk", WAITS, "not_ready"}
LEADS = {
    "start": {"draft": "running", "not_ready": "running"},
    "pause": {"running": "paused_user", "not_ready": "paused_user", WAITS: "paused_user"},
    "pause_by_itself": dict.fromkeys(("running", "not_ready", WAITS), "paused_risk"),
    "pause_for_now": {"running": WAITS},
    "resume": {"paused_user": "running", "paused_risk": "running", WAITS: "running", "not_ready": "running"},
    "finish": dict.fromkeys(BEGUN, "finished"),
    "stop": dict.fromkeys({"draft", *BEGUN}, "emergency_stopped"),
}
"""What each command makes of a strategy (INVARIANTS 3.3); from any other state it is refused."""
FIVE = Interval.MIN5


class Strategies(RuleBasedStateMachine):
    """A strategy of the session and one that stays open, their states beside the ledger's."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        source = market(bars(interval=FIVE, first=at(0).date() - timedelta(days=1), last=at(0).date()))
        self.stage = floor(Path(self.folder.name), source, at(9, 35, 1))
        self.state: dict[str, str] = {}
        self.stopped = False
        self.most = Decimal(10_000)
        self.lost_at: dict[str, datetime] = {}
        for name in ("session-0", "open-0"):
            self.create(name)

    def _spec(self, name: str) -> StrategySpec:
        lifetime = Lifetime.SESSION if name.startswith("session") else Lifetime.OPEN
        return strategy(name, interval=FIVE, agent=ExpressionAgent(NEVER), lifetime=lifetime)

    def _expect(self, command: str, name: str, allowed: bool, run: Callable[[], object]) -> None:
        """It happens if it may, and leaves no trace if not."""
        head = self.stage.desk.ledger.head()
        try:
            run()
        except TradingError:
            assert not allowed, f"{command} of {name}, which is {self.state.get(name)}, was refused"
            assert self.stage.desk.ledger.head() == head
        else:
            assert allowed, f"{command} of {name}, which is {self.state.get(name)}, was not refused"

    def _command(self, command: str, name: str, run: Callable[[], object]) -> None:
        after = LEADS[command].get(self.state.get(name, ""))
        barred = self.stopped and command in ("start", "resume")
        self._expect(command, name, after is not None and not barred, run)
        if after is not None and not barred:
            self.state[name] = after

    @rule(seed=st.integers(0, 2**32))
    def act(self, seed: int) -> None:
        """Anything to either of the two, as often as its weight says.

        One rule for all of it: Hypothesis leaves some rules out of each walk, and a strategy's life needs every kind of command.
        """
        chance = random.Random(seed)
        name = chance.choice([self._newest("session"), self._newest("open")])
        act = chance.choice([act for act, weight in ACTS.items() for _ in range(weight)])
        getattr(self, act)(name)

    def _newest(self, kind: str) -> str:
        """A name is used once: when a strategy is over, the next one takes its place."""
        known = [name for name in self.state if name.startswith(kind)]
        return known[-1] if known else f"{kind}-0"

    def create(self, name: str) -> None:
        """The next one once this is over; the same name never again."""
        kind, _, number = name.partition("-")
        if self.state.get(name) in ("finished", "emergency_stopped"):
            self._create(name, allowed=False)
            name = f"{kind}-{int(number) + 1}"
        self._create(name, allowed=name not in self.state)

    def _create(self, name: str, *, allowed: bool) -> None:
        self._expect("create", name, allowed, lambda: controls.create(self.stage.desk, self._spec(name), actor=PERSON))
        if allowed:
            self.state[name] = "draft"

    def start(self, name: str) -> None:
        """Of a draft, or of one that was not ready."""
        self._command("start", name, lambda: controls.start(self.stage.desk, name, actor=PERSON))

    def pause(self, name: str) -> None:
        """By a person."""
        self._command("pause", name, lambda: controls.pause(self.stage.desk, name, actor=PERSON))

    def resume(self, name: str) -> None:
        """Whatever it paused for."""
        self._command("resume", name, lambda: controls.resume(self.stage.desk, name, actor=PERSON))

    def finish(self, name: str) -> None:
        """For good."""
        self._command("finish", name, lambda: controls.finish(self.stage.desk, name, actor=PERSON))

    def tighten(self, name: str) -> None:
        """A revision moves no state, and is refused once a strategy is over."""
        self.most /= 2
        spec = self._spec(name)
        tighter = replace(spec, limits=replace(spec.limits, max_order_value=self.most))
        allowed = self.state.get(name) in {"draft", *BEGUN}
        self._expect("revise", name, allowed, lambda: controls.revise(self.stage.desk, tighter, actor=PERSON))

    def pause_by_itself(self, name: str) -> None:
        """One that runs, or would by itself: for what a person has to look at."""
        self._paused("pause_by_itself", name, PauseReason.RUN_FAILED)

    def pause_for_now(self, name: str) -> None:
        """Only one that runs: it goes on with the next bar, when there is room for orders again."""
        self._paused("pause_for_now", name, PauseReason.RATE)

    def _paused(self, command: str, name: str, why: PauseReason) -> None:
        after = LEADS[command].get(self.state.get(name, ""))
        assert controls.pause_by_itself(self.stage.desk, name, why, "as it had to") is (after is not None)
        if after is not None:
            self.state[name] = after

    def lose_the_broker(self, name: str) -> None:
        """What the breakers do when it does not answer; here it answers again by the next bar."""
        if self.state.get(name) == "running":
            seen = self.stage.row("strategies", name=name)
            assert controls.moved_by_itself(self.stage.desk, seen, E.STRATEGY_NOT_READY, reason="session: the broker is gone")
            assert not controls.moved_by_itself(self.stage.desk, seen, E.STRATEGY_RESUMED), "it is not as it was seen any more"
            self.state[name], self.lost_at[name] = "not_ready", self.stage.clock.now()

    def stop(self, name: str) -> None:
        """For good, and again without effect."""
        if name in self.state:
            emergency.stop(self.stage.desk, strategy=name, reason="enough", actor=PERSON)
            self.state[name] = LEADS["stop"].get(self.state[name], self.state[name])

    def stop_all(self, _name: str) -> None:
        """The account's latch: every strategy ends, and none begins."""
        emergency.stop(self.stage.desk, reason="enough", actor=PERSON)
        self.stopped = True
        self.state = {name: LEADS["stop"].get(state, state) for name, state in self.state.items()}

    def next_bar(self, _name: str) -> None:
        """Who was not ready goes on, or waits for a person after a quarter of an hour, and who waited goes on; those that run are asked."""
        now = self.stage.clock.now() + timedelta(minutes=5) * (1 + len(self.state) % 3)
        if now > CLOSE - timedelta(minutes=15):
            return
        self.stage.go(now)
        for name in [name for name, state in self.state.items() if state == "not_ready"]:
            self.state[name] = "running" if now - self.lost_at[name] < timedelta(minutes=15) else "paused_user"
        self.state |= {name: "running" for name, state in self.state.items() if state == WAITS}
        head = self.stage.desk.ledger.head()[0]
        self.stage.cycle(FIVE)
        asked = {event.payload["strategy"] for event in self.stage.desk.ledger.events(after=head, types=(E.LLM_REQUESTED,))}
        assert asked == {name for name, state in self.state.items() if state == "running"}

    def close(self, _name: str) -> None:
        """Those of the session finish once they have begun; those that stay open stay as they are."""
        if self.stage.clock.now() > CLOSE or self.stage.desk.ledger.get("sessions", CLOSE.date().isoformat()) is None:
            return
        self.stage.go(CLOSE + timedelta(seconds=1))
        close_session(self.stage.desk, self.stage.desk.calendar.session(CLOSE.date()))
        for name, state in self.state.items():
            if name.startswith("session") and state in BEGUN:
                self.state[name] = "finished"

    @invariant()
    def they_are_in_the_states_that_the_commands_led_to(self) -> None:
        assert {row["name"]: row["state"] for row in self.stage.rows("strategies")} == self._told()

    def _told(self) -> dict[str, str]:
        return {name: "paused_risk" if state == WAITS else state for name, state in self.state.items()}

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
        assert now == self._told()
        assert self.stage.verifies()


def test_a_strategy_is_where_its_commands_led_it_and_stopped_for_good() -> None:
    """17, 49, 51, 54, 57, 58, D9, D10."""
    walk(Strategies, examples=20, steps=30)
