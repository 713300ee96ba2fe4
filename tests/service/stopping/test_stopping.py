"""52-56: the emergency stop: the latch first, nothing sent after it, every order asked for until it is over."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from tests.desks import OPEN, PERSON, Killed, bars, crashing, floor, market, strategy
from tests.service.stopping.stopping import PROTECTED, Gone, states, stop
from trading_pipeline.adapters.brokers.paper_faults import Call, DropReply, Empty, LoseRequest, NotReady
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.strategies import Mode
from trading_pipeline.errors import Conflict, StorageError, TradingError
from trading_pipeline.ports import Stop
from trading_pipeline.service import approvals, controls
from trading_pipeline.service.stopping import emergency
from trading_pipeline.service.submitter import recovery

E = EventType


# The order of work


def test_the_latch_stands_before_anything_else_is_tried(stage):
    """52, 55, fault 61."""
    gone = replace(stage.desk, ledger=Gone(), broker=Gone(), journal=Gone(StorageError("full")))
    report = emergency.stop(gone, reason="enough", actor=PERSON)
    assert (report.clean, report.complete, "full" in report.record) == (False, False, True)
    assert stage.desk.latch.standing("buyer").reason == "enough"


def test_the_facts_come_in_the_order_of_the_document(stage):
    """53."""
    before = len(stage.types())
    stop(stage)
    assert stage.types()[before:] == [
        "account.latched", "strategy.emergency_stopped", "order.cancel_requested", "order.cancel_requested",
        "order.canceled", "order.canceled", "stop.reported",
    ]
    assert stage.verifies()


def test_stops_and_targets_are_cancelled_and_the_position_stays(stage):
    """53, 56, D9."""
    report = stop(stage)
    assert (report.clean, {line.state for line in report.ended}) == (True, {"canceled"})
    assert stage.broker.positions() == {"AAPL": 50}
    assert [(naked.symbol, naked.quantity) for naked in report.unprotected] == [("AAPL", 50)]


def test_protective_orders_stay_where_the_settings_keep_them(stage):
    """D9."""
    stage = replace(stage, desk=replace(stage.desk, keep_protective_stops=True))
    report = stop(stage)
    assert (report.clean, len(report.kept), report.unprotected) == (True, 2, ())
    assert states(stage) == {"accepted"}


def test_an_entry_that_waits_is_cancelled_with_its_children_even_where_protection_is_kept(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy(sizing=PROTECTED), keep_protective_stops=True)
    stage.faults.on_every_submit(LoseRequest())
    stage.cycle()
    stop(stage)
    assert {row["state"] for row in stage.rows("orders")} == {"cancel_pending"}


def test_what_waits_for_a_person_is_voided_and_nobody_can_approve_it(tmp_path):
    """48, 54."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy(mode=Mode.APPROVAL))
    stage.cycle()
    proposal = stage.row("approvals")["action_id"]
    stage.desk.latch.stop(Stop(None, "enough", PERSON, OPEN))
    with pytest.raises(Conflict):
        approvals.approve(stage.desk, proposal, actor=PERSON)
    stop(stage)
    assert stage.row("approvals")["state"] == "voided"


def test_orders_of_other_hands_are_listed_and_left_alone(tmp_path):
    """28, D9."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy(sizing=PROTECTED))
    stage.cycle()
    name = stage.broker.trade_by_hand("AAPL", Side.BUY, 5, Decimal(100))
    report = stop(stage)
    assert name not in {line.client_id for line in (*report.ended, *report.external)}
    assert stage.broker.positions() == {"AAPL": 55}


# One strategy, and everything


def test_one_strategy_is_stopped_for_good_and_the_other_goes_on(tmp_path):
    stage = floor(
        tmp_path, market(bars(), bars("IBM")), OPEN, strategy(sizing=PROTECTED), strategy("other", symbols=("IBM",), sizing=PROTECTED)
    )
    stage.cycle()
    stage.go(OPEN + timedelta(seconds=2)).release()
    stop(stage, strategy="buyer")
    assert {row["name"]: row["state"] for row in stage.rows("strategies")} == {"buyer": "emergency_stopped", "other": "running"}
    assert {row["strategy"]: row["state"] for row in stage.rows("orders", order_class="P")} == {"buyer": "canceled", "other": "accepted"}
    assert stage.rows("latches") == []


def test_nothing_starts_under_the_accounts_latch_and_a_stopped_strategy_never(stage):
    """51."""
    stop(stage)
    controls.create(stage.desk, strategy("next"), actor=PERSON)
    with pytest.raises(Conflict, match="the account is under an emergency stop"):
        controls.start(stage.desk, "next", actor=PERSON)
    emergency.clear(stage.desk, actor=PERSON, typed="PAPER-1")
    controls.start(stage.desk, "next", actor=PERSON)
    for again in (controls.start, controls.resume):
        with pytest.raises(TradingError, match="stopped"):
            again(stage.desk, "buyer", actor=PERSON)


def test_a_strategy_of_a_stopped_name_cannot_be_made(stage):
    stage.desk.latch.stop(Stop("later", "enough", PERSON, OPEN))
    with pytest.raises(Conflict):
        controls.create(stage.desk, strategy("later"), actor=PERSON)


# Nothing follows a stop


def test_nobody_is_asked_after_the_latch(stage):
    """54."""
    stage.desk.latch.stop(Stop("buyer", "enough", PERSON, OPEN))
    asked = len(stage.asked.questions)
    stage.go(OPEN + timedelta(days=1, seconds=1)).cycle()
    assert len(stage.asked.questions) == asked
    assert [event.payload["reason"] for event in stage.events(E.SIGNAL_MISSED)][-1] == "an emergency stop is in force"


def test_a_reply_that_comes_after_the_latch_is_discarded(tmp_path):
    """54."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())

    class Pressed:
        provider, needs = "rules", stage.asked.needs

        def decide(self, questions):
            stop(stage)
            return stage.asked.decide(questions)

    replace(stage, desk=replace(stage.desk, deciders={"rules": Pressed()})).cycle()
    types = stage.types()
    assert ("llm.discarded" in types, "llm.responded" in types, "llm.action_generated" in types) == (True, False, False)
    assert stage.rows("orders") == []


def test_what_was_ready_before_the_latch_is_not_sent_after_it(tmp_path):
    """52."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    with pytest.raises(Killed), crashing(stage.desk.ledger, "lease"):
        stage.cycle()
    assert stage.row("actions")["state"] == "ready"
    stage.desk.latch.stop(Stop("buyer", "enough", PERSON, OPEN))
    stage.restarted().cycle()
    assert "order.submitted" not in stage.types()
    assert stage.broker.orders(None) == []


# Never done before it is


def test_a_broker_that_is_not_ready_is_asked_again_until_it_is(stage):
    """53, 55, fault 61."""
    stage.faults.on_call(Call.CANCEL, *[NotReady()] * 3)
    report = stop(stage)
    assert (report.clean, len(report.open)) == (False, 2)
    assert stop(stage, wait_seconds=5).clean


def test_an_order_without_an_answer_is_unknown_until_its_absence_is_proven(tmp_path):
    """53, fault 60."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    stage.faults.on_every_submit(LoseRequest())
    stage.cycle()
    assert [line.state for line in stop(stage).unknown] == ["cancel_pending"]
    for seconds in (70, 80):
        stage.go(OPEN + timedelta(seconds=seconds))
        [report] = recovery.resume_stop(stage.desk)
    assert report.clean
    assert recovery.resume_stop(stage.desk) == []


def test_an_order_that_lands_although_its_answer_was_lost_is_cancelled(tmp_path):
    """53, fault 60."""
    stage = floor(tmp_path, market(bars(volume=1)), OPEN, strategy(sizing=PROTECTED))
    stage.faults.on_every_submit(DropReply())
    stage.cycle()
    assert stop(stage).clean
    assert stage.broker.orders(None) == []


def test_an_empty_answer_is_no_end(stage):
    """53, fault 24."""
    stage.faults.on_call(Call.ORDERS, *[Empty()] * 12)
    stage.faults.on_call(Call.CANCEL, NotReady(), NotReady())
    assert not stop(stage).clean


def test_a_fill_that_beats_the_cancel_is_booked(tmp_path):
    """19, C11, fault 60."""
    stage = floor(tmp_path, market(bars(at={OPEN: (100, 104, 100, 100)})), OPEN, strategy(sizing=PROTECTED))
    stage.cycle()
    stage.go(OPEN + timedelta(hours=8))
    stop(stage)
    assert "filled" in {row["state"] for row in stage.rows("orders", part="target-1")}
    assert stage.broker.positions() == {}
