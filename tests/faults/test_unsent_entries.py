"""C2: an entry that was meant and not sent is taken back with everything else that a pause, a revision or an end takes back."""

from contextlib import suppress
from datetime import date
from decimal import Decimal

import pytest

from tests.desks import ALWAYS, DAY, NEVER, PERSON, Killed, at, bars, crashing, floor, market
from tests.service.booting import booted
from tests.service.minutes import bracketed, decided, intended, minute_bars
from tests.service.replaying import replayed
from trading_pipeline.adapters.brokers.latched import LatchedBroker
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType as E
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing, PauseReason
from trading_pipeline.service import controls
from trading_pipeline.service.orders import protection
from trading_pipeline.service.record.judgement import judge

SMALLER = FractionSizing(fraction=Decimal("0.01"), stop=Decimal("0.02"))
REVERSED = bracketed(agent=ExpressionAgent(NEVER, ALWAYS), sizing=SMALLER)


def lost_broker(desk):
    return controls.moved_by_itself(desk, desk.ledger.get("strategies", "buyer"), E.STRATEGY_NOT_READY, reason="session: it is gone")


ACTS = {
    "a person pauses": (lambda desk: controls.pause(desk, "buyer", actor=PERSON), "the strategy was paused", PERSON),
    "it pauses": (lambda desk: controls.pause_by_itself(desk, "buyer", PauseReason.RATE, "eleven"), "the strategy was paused", "desk"),
    "the broker is gone": (lost_broker, "the strategy was not_ready", "desk"),
    "a person revises": (lambda desk: controls.revise(desk, REVERSED, actor=PERSON), "the strategy was revised", PERSON),
    "a person finishes": (lambda desk: controls.finish(desk, "buyer", actor=PERSON), "the strategy was finished", PERSON),
}


@pytest.mark.parametrize("name", ACTS)
def test_an_entry_that_was_meant_and_never_sent_is_denied_when(tmp_path, name):
    """D10, 48, C2: with its stop and its target, in the one transaction that says so; another strategy's stays as it was meant."""
    act, reason, actor = ACTS[name]
    stage = floor(tmp_path, minute_bars("AAPL", "IBM"), at(10, 0, 1), bracketed(), bracketed(name="other", symbols=("IBM",)))
    cycle = decided(stage)
    for strategy in ("buyer", "other"):
        intended(stage, cycle, strategy=strategy)
    with suppress(Killed), crashing(stage.desk.ledger, "transaction", on=2):
        act(stage.desk)
    told = stage.events(E.ORDER_DENIED)
    assert {event.payload["client_id"] for event in told} == {row["client_id"] for row in stage.rows("orders", strategy="buyer")}
    assert [(event.payload["reason"], event.actor) for event in told] == [(reason, actor)] * 3
    assert {row["state"] for row in stage.rows("orders", strategy="buyer")} == {"denied"}
    assert {row["state"] for row in stage.rows("orders", strategy="other")} == {"intent"}


@pytest.mark.parametrize("what", ["paused and resumed", "revised"])
def test_the_desk_that_comes_up_within_thirty_seconds_does_not_send_what_a_person_has_taken_back(tmp_path, what):
    """D10, 48, C2: killed between the intent and the submission; what it would send is not what the strategy is any more."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    intended(stage, decided(stage))
    stage.go(at(10, 0, 5))
    if what == "revised":
        controls.revise(stage.desk, REVERSED, actor=PERSON)
    else:
        controls.pause(stage.desk, "buyer", actor=PERSON)
        controls.resume(stage.go(at(10, 0, 8)).desk, "buyer", actor=PERSON)
    stage = stage.restarted().go(at(10, 0, 12))
    booted(stage)
    assert (stage.broker.positions(), stage.broker.orders(), stage.events(E.ORDER_SUBMITTED)) == ({}, [], [])
    assert judge(stage.desk.ledger).violations == ()
    assert replayed(stage).difference is None
    assert stage.verifies()


def test_a_submitter_that_is_about_to_send_finds_it_taken_back(tmp_path):
    """D10, 57: a person pauses and resumes while the broker is asked between the intent and the gate."""

    class Interrupted(LatchedBroker):
        def positions(self):
            if stage.rows("orders", state="intent") and not stage.events(E.STRATEGY_PAUSED):
                controls.pause(stage.desk, "buyer", actor=PERSON)
                controls.resume(stage.desk, "buyer", actor=PERSON)
            return super().positions()

    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    stage = stage.restarted(broker=Interrupted(stage.broker, stage.desk.latch))
    stage.cycle(Interval.MIN1)
    assert stage.row("strategies")["state"] == "running"
    assert {(row["state"], row["reason"]) for row in stage.rows("orders")} == {("denied", "the strategy was paused")}
    assert (stage.events(E.ORDER_SUBMITTED), stage.denials()) == ([], [])
    assert judge(stage.desk.ledger).violations == ()
    assert replayed(stage).difference is None


def test_a_pause_leaves_exits_and_what_protects_as_they_were_meant(tmp_path):
    """D10: of a sale, a stop and a target in the place of those that are gone, and a purchase, only the purchase is taken back."""
    dear = {at(10, minute): (101.0,) * 4 for minute in range(-30, 2)}
    days = Interval.MIN1, date(2024, 8, 27), DAY
    agent = ExpressionAgent("close == 100", "close == 100")
    spec = bracketed(symbols=("AAPL", "IBM"), agent=agent)
    stage = floor(tmp_path, market(bars("AAPL", *days), bars("IBM", *days, at=dear)), at(10, 0, 1), spec)
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 0, 5)).release()
    stage.broker.cancel(stage.row("orders", order_type="stop")["client_id"])
    stage.go(at(10, 0, 10)).release()
    with pytest.raises(Killed), crashing(protection, "gate_and_submit"):
        stage.go(at(10, 0, 15)).release()
    cycle = decided(stage.go(at(10, 3, 1)))
    for side in ("buy", "sell"):
        intended(stage, cycle, side=side, state="ready")
    assert len(stage.rows("orders", state="intent")) == 6
    controls.pause(stage.desk, "buyer", actor=PERSON)
    left = stage.rows("orders", state="intent")
    assert {(row["symbol"], row["part"], row["order_class"]) for row in left} == {
        ("AAPL", "stop-1.2", "P"), ("AAPL", "target-1.2", "P"), ("AAPL", "exit", "X"),
    }
    assert {(row["symbol"], row["state"]) for row in stage.rows("orders", reason="the strategy was paused")} == {("IBM", "denied")}
