"""Approvals: whoever decides, whenever, over bars, waits, pauses and stops, through the real services; each step is in the diagram."""

import tempfile
from datetime import datetime, timedelta
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.desks import ALWAYS, CLOSE, PERSON, at, bars, floor, market, strategy
from tests.domain.test_state_machines import ACTIONS
from tests.state_machines.walking import walk
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import Event, instant_from
from trading_pipeline.domain.events import EventType as E
from trading_pipeline.domain.strategies import ExpressionAgent, Mode
from trading_pipeline.errors import Conflict, PermissionRequired, TradingError
from trading_pipeline.service import approvals, controls
from trading_pipeline.service.stopping import emergency

FIVE = Interval.MIN5
NAMES = ("keen", "calm")
MACHINES = ("llm:rules", "mcp:tool", "dagster", "cycle", "demo:person ")
LEADS = {
    E.APPROVAL_REQUESTED: "pending", E.APPROVAL_APPROVED: "approved", E.APPROVAL_REJECTED: "rejected", E.APPROVAL_EXPIRED: "expired",
    E.APPROVAL_VOIDED: "voided", E.ACTION_EXPIRED: "expired", E.ACTION_VOIDED: "voided", E.ACTION_READY: "ready",
}
HEARD = (*LEADS, E.LLM_ACTION_GENERATED, E.RISK_EVALUATED, E.ORDER_INTENT, E.ORDER_SUBMITTED)


class Approvals(RuleBasedStateMachine):
    """Two strategies that always want to buy three symbols, sell them a bar later, and ask a person each time."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        symbols = ("AAPL", "IBM", "MSFT")
        day = at(0).date()
        source = market(*(bars(symbol, FIVE, day - timedelta(days=1), day) for symbol in symbols))
        keen, calm = (
            strategy(name, symbols=each, mode=Mode.APPROVAL, interval=FIVE, agent=ExpressionAgent(ALWAYS, max_bars=1))
            for name, each in zip(NAMES, (symbols[:2], symbols[2:]), strict=True)
        )
        self.stage = floor(Path(self.folder.name), source, at(9, 35, 1), keen, calm)
        self.seen = 0
        self.state: dict[str, str] = {}
        self.strategy: dict[str, str] = {}
        self.until: dict[str, datetime] = {}
        """When a proposal, or an approved action, is over."""
        self.hash: dict[str, str] = {}
        self.approved_by: dict[str, str] = {}
        self.submitted: set[str] = set()

    @initialize()
    def begin(self) -> None:
        """The first proposals wait."""
        self.stage.cycle(FIVE)

    # What people do

    def _proposal(self, number: int) -> str | None:
        """One of the newest, most of which are over."""
        known = list(self.hash)[-4:]
        return known[number % len(known)] if known else None

    @rule(number=st.integers(0, 3), who=st.sampled_from(["user:anna", "user:bert"]), shown=st.sampled_from(["", "right", "right", "other"]))
    def approve(self, number: int, who: str, shown: str) -> None:
        """Valid while it is pending, strictly in time, for a strategy that runs, of exactly what was shown; the same again is the same."""
        name = self._proposal(number)
        if name is None:
            return
        digest = {"": None, "right": self.hash[name], "other": "0" * 64}[shown]
        runs = self.stage.row("strategies", name=self.strategy[name])["state"] == "running"
        valid = self.state[name] == "pending" and self.stage.clock.now() < self.until[name] and runs and shown != "other"
        again = self.state[name] == "approved" and shown == "right" and self.approved_by[name] == who
        head = self.stage.desk.ledger.head()
        try:
            event = approvals.approve(self.stage.desk, name, actor=who, shown_hash=digest)
        except Conflict:
            assert not valid
            assert not again
        else:
            assert valid or again
            assert (event.payload["action_id"], event.actor) == (name, who)
        if not valid:
            assert self.stage.desk.ledger.head() == head, "what was refused or repeated has left a trace"

    @rule(number=st.integers(0, 3), seconds=st.sampled_from([0, 1, 29, 30]))
    def approve_and_look(self, number: int, seconds: int) -> None:
        """As it mostly goes: approved, and sent within thirty seconds or not at all."""
        self.approve(number, PERSON, "right")
        self.wait(seconds)
        self.look()

    @rule(number=st.integers(0, 3), decide=st.sampled_from([approvals.approve, approvals.reject]), actor=st.sampled_from(MACHINES))
    def let_a_machine_decide(self, number: int, decide, actor: str) -> None:
        """Nothing of the pipeline can, nor a name that only looks like a person's."""
        name = self._proposal(number)
        if name is None:
            return
        head = self.stage.desk.ledger.head()
        try:
            decide(self.stage.desk, name, actor=actor)
        except PermissionRequired:
            assert self.stage.desk.ledger.head() == head
        else:
            raise AssertionError(f"{actor} has decided")

    @rule(number=st.integers(0, 3))
    def reject(self, number: int) -> None:
        """While it is pending."""
        name = self._proposal(number)
        if name is None:
            return
        try:
            approvals.reject(self.stage.desk, name, actor=PERSON)
        except Conflict:
            assert self.state[name] != "pending"
        else:
            assert self.state[name] == "pending"

    @rule(name=st.sampled_from(NAMES), command=st.sampled_from([controls.pause, controls.resume, controls.resume]))
    def pause_or_resume(self, name: str, command) -> None:
        """Whatever waits is void after a pause."""
        try:
            command(self.stage.desk, name, actor=PERSON)
        except TradingError:
            return
        if command is controls.pause:
            self._hear()
            assert not self._waiting(name)

    @precondition(lambda self: self.stage.clock.now() > at(9, 50))
    @rule()
    def stop(self) -> None:
        """One of them, for good."""
        emergency.stop(self.stage.desk, strategy="calm", reason="enough", actor=PERSON)
        self._hear()
        assert not self._waiting("calm")

    # What time does

    @rule(seconds=st.sampled_from([1, 10, 29, 30, 31, 60, 299, 300]))
    def wait(self, seconds: int) -> None:
        """Nobody looks meanwhile."""
        self.stage.go(min(self.stage.clock.now() + timedelta(seconds=seconds), CLOSE - timedelta(minutes=20)))

    @rule()
    def look(self) -> None:
        """The sensors' turn: what is due goes out, what is overdue expires."""
        self.stage.release()
        self._hear()
        now = self.stage.clock.now()
        assert not [name for name, state in self.state.items() if state in ("pending", "approved") and now >= self.until[name]]

    @precondition(lambda self: self.stage.clock.now() < CLOSE - timedelta(minutes=30))
    @rule()
    def next_bar(self) -> None:
        now = self.stage.clock.now()
        minute = now.replace(second=1, microsecond=0)
        self.stage.go(minute + timedelta(minutes=5 - minute.minute % 5)).cycle(FIVE)

    # What must hold

    def _waiting(self, strategy: str) -> list[str]:
        return [name for name, state in self.state.items() if state in ("pending", "approved") and self.strategy[name] == strategy]

    def _hear(self) -> None:
        """Follow what was written since, fact by fact."""
        for event in self.stage.desk.ledger.events(after=self.seen, types=HEARD):
            self._follow(event)
        self.seen = self.stage.desk.ledger.head()[0]

    def _follow(self, event: Event) -> None:
        data = event.payload
        name = data.get("action_id", "")
        match event.type:
            case E.LLM_ACTION_GENERATED if data["action"] != "hold":
                assert name not in self.state
                self.state[name], self.strategy[name] = "proposed", data["strategy"]
            case E.RISK_EVALUATED if data["stage"] == "proposal" and not data["passed"]:
                self._move(name, "denied")
            case E.APPROVAL_REQUESTED:
                self._move(name, "pending")
                self.until[name], self.hash[name] = instant_from(data["expires_at"]), data["hash"]
            case E.APPROVAL_APPROVED:
                assert event.at < self.until[name], "approved when it was over"
                assert event.actor.startswith("user:")
                assert data["hash"] == self.hash[name]
                self._move(name, "approved")
                assert instant_from(data["expires_at"]) == instant_from(data["not_before"]) + timedelta(seconds=30)
                self.until[name], self.approved_by[name] = instant_from(data["expires_at"]), event.actor
            case E.APPROVAL_EXPIRED | E.ACTION_EXPIRED:
                assert event.at >= self.until[name], "expired before its time"
                self._move(name, "expired")
            case E.ORDER_INTENT if data["part"] == "entry" or data["order_class"] == "X":
                if self.state[name] != "consumed":
                    assert self.state[name] == "approved", "intended without an approval"
                    assert event.at < self.until[name], "intended when its time was over"
                    self._move(name, "consumed")
            case E.ORDER_SUBMITTED:
                assert name in self.approved_by
                assert self.state[name] == "consumed"
                assert event.at < self.until[name]
                assert data["client_id"] not in self.submitted
                self.submitted.add(data["client_id"])
            case type_ if type_ in LEADS:
                self._move(name, LEADS[type_])

    def _move(self, name: str, to: str) -> None:
        assert (self.state[name], to) in ACTIONS, f"{name} went from {self.state[name]} to {to}"
        self.state[name] = to

    @invariant()
    def the_tables_are_what_was_heard(self) -> None:
        self._hear()
        assert {row["action_id"]: row["state"] for row in self.stage.rows("actions")} == self.state
        for row in self.stage.rows("approvals"):
            assert row["state"] == self.state[row["action_id"]]

    def teardown(self) -> None:
        try:
            assert self.stage.verifies()
        finally:
            self.folder.cleanup()


def test_an_approval_is_given_once_in_time_by_a_person_and_used_once() -> None:
    """17, 44-50, 54, 57, C1, C2, D10, D11, D20, fault 58, T10."""
    walk(Approvals, examples=15, steps=25)
