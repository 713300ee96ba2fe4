"""A broker that loses, repeats, delays and refuses, against the service (INVARIANTS section 4), and a process that dies between commits.

The oracle is the paper broker's own book: what it holds is what was really placed.
"""

from contextlib import contextmanager
from datetime import date, timedelta
from decimal import Decimal

import pytest

from tests.desks import DAY, OPEN, PERSON, Killed, at, bars, crashing, floor, market, strategy
from trading_pipeline.adapters.brokers.paper_faults import (
    Call,
    DropReply,
    Empty,
    LoseRequest,
    NotReady,
    Refuse,
    RejectLater,
    Repeat,
    Reverse,
    ShowLate,
)
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.cycles import action_id, follow_up
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.orders import client_id
from trading_pipeline.domain.strategies import FractionSizing, PauseReason, StrategyState
from trading_pipeline.errors import BrokerNotReady
from trading_pipeline.service import controls
from trading_pipeline.service.cycle import STEPS, run_cycle
from trading_pipeline.service.orders.settlement import news, settle
from trading_pipeline.service.steps import Tally
from trading_pipeline.service.submitter.closing import close_session

E = EventType
NAME = client_id(action_id("buyer", "1d@2024-08-27T20:00Z", "AAPL"), "entry")
"""The entry of the first daily cycle: a client id is fixed before anything is sent (13)."""


@pytest.fixture
def stage(tmp_path):
    """A stop below the entry, so that each order has a child."""
    return floor(tmp_path, market(bars()), OPEN, strategy(sizing=FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.05"))))


def entry(stage):
    return stage.row("orders", part="entry")


def story(stage, name):
    """The facts about one order, in order."""
    return [e.type.value for e in stage.events() if e.payload.get("client_id") == name and e.type.value.startswith("order.")]


def placed(stage):
    """How often the entry stands in the broker's book."""
    return len(stage.broker.orders([NAME]))


def test_a_reply_lost_after_acceptance_is_unknown_and_found_by_a_query(stage):
    """12, fault 4, C5: one order."""
    stage.faults.on_submit(NAME, DropReply())
    stage.cycle()
    states = story(stage, NAME)
    assert states[:3] == ["order.intent", "order.submitted", "order.unknown"]
    assert entry(stage)["state"] == "filled"
    assert placed(stage) == 1
    assert stage.row("positions")["quantity"] == stage.broker.positions()["AAPL"] == 50
    assert stage.row("orders", part="stop-1")["state"] == "accepted"
    assert stage.verifies()


def test_a_request_that_never_arrived_is_not_placed_after_the_window_and_never_sent_again(stage):
    """14, 15, fault 5, C3."""
    stage.faults.on_submit(NAME, LoseRequest())
    stage.cycle()
    assert entry(stage)["state"] == "unknown"
    stage.go(OPEN + timedelta(seconds=59)).release()
    assert entry(stage)["state"] == "unknown"
    for seconds in (60, 65, 70):
        stage.go(OPEN + timedelta(seconds=seconds)).release()
    assert entry(stage)["state"] == "not_placed"
    assert stage.row("orders", part="stop-1")["state"] == "not_placed"
    assert len(stage.events(E.ORDER_SUBMITTED)) == 2, "the entry and its stop, once"
    assert placed(stage) == 0


def test_absence_is_proven_by_two_queries_so_that_one_empty_answer_proves_nothing(stage):
    """15, fault 24: the order is there, and one answer is empty."""
    stage.faults.on_submit(NAME, ShowLate(timedelta(seconds=61)))
    stage.cycle()
    stage.faults.on_submit(NAME)
    assert entry(stage)["state"] in ("accepted", "unknown", "partial")
    lost = stage.restarted()
    lost.go(OPEN + timedelta(seconds=62))
    lost.faults.on_call(Call.ORDERS, Empty())
    lost.release()
    assert entry(stage)["state"] != "not_placed"
    assert placed(stage) == 1


def test_one_empty_answer_after_the_window_leaves_an_unknown_order_unknown(stage):
    stage.faults.on_submit(NAME, DropReply())
    stage.faults.on_call(Call.ORDERS, Empty())
    # Once for the opening balance, once after the order.
    stage.faults.on_call(Call.EXECUTIONS, Empty(), Empty())
    stage.cycle()
    assert entry(stage)["state"] == "unknown"
    stage.faults.on_call(Call.ORDERS, Empty())
    stage.faults.on_call(Call.EXECUTIONS, Empty())
    stage.go(OPEN + timedelta(seconds=61)).release()
    assert entry(stage)["state"] == "unknown"
    stage.go(OPEN + timedelta(seconds=66)).release()
    assert entry(stage)["state"] == "filled"
    assert stage.row("positions")["quantity"] == 50


def test_while_an_order_is_unknown_its_symbol_is_blocked_and_it_counts_in_full(stage):
    """16."""
    controls.create(stage.desk, strategy("other"), actor=PERSON)
    controls.start(stage.desk, "other", actor=PERSON)
    stage.faults.on_submit(NAME, LoseRequest())
    stage.cycle()
    other = stage.row("actions", strategy="other")
    stage.go(OPEN + timedelta(seconds=2)).release()
    assert stage.row("orders", strategy="other")["state"] == "denied"
    assert "unknown_order" in stage.denials(other["action_id"])


def test_an_order_that_appears_after_it_was_given_up_is_cancelled_and_its_fills_are_booked(tmp_path):
    """15, 19, fault 6."""
    source = market(bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=DAY, volumes={at(9, 59): 200.0, at(10, 0): 200.0}))
    stage = floor(tmp_path, source, at(10, 0, 1), strategy(interval=Interval.MIN1))
    name = client_id(action_id("buyer", "1min@2024-08-28T14:00Z", "AAPL"), "entry")
    stage.faults.on_submit(name, ShowLate(timedelta(minutes=3)), DropReply())
    stage.cycle(Interval.MIN1)
    for seconds in (61, 66):
        stage.go(at(10, 0, 1 + seconds)).release()
    assert entry(stage)["state"] == "not_placed"
    stage.go(at(10, 3, 5))
    stage.release()
    stage.release()
    order = entry(stage)
    booked = stage.row("positions")["quantity"]
    assert booked == stage.broker.positions()["AAPL"] == order["filled_quantity"]
    assert stage.broker.orders() == [], "nothing of it works any more"
    assert stage.verifies()


def test_an_order_that_appears_late_and_still_works_is_cancelled(tmp_path):
    """15: NOT_PLACED, LATE_FOUND, CANCELED. No bar has volume for it, so it still works when it is seen."""
    empty = {at(9, 59): 100.0} | {at(10, minute): 0.0 for minute in range(10)}
    source = market(bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=DAY, volumes=empty))
    stage = floor(tmp_path, source, at(10, 0, 1), strategy(interval=Interval.MIN1))
    name = client_id(action_id("buyer", "1min@2024-08-28T14:00Z", "AAPL"), "entry")
    stage.faults.on_submit(name, ShowLate(timedelta(minutes=3)), DropReply())
    stage.cycle(Interval.MIN1)
    for seconds in (62, 67):
        stage.go(at(10, 0, seconds)).release()
    assert entry(stage)["state"] == "not_placed"
    stage.go(at(10, 3, 5))
    assert news(stage.desk)
    stage.release()
    told = [name for name in story(stage, name) if "fill" not in name]
    assert told[-4:] == ["order.not_placed", "order.late_found", "order.cancel_requested", "order.canceled"]
    assert entry(stage)["state"] == "canceled"
    assert entry(stage)["filled_quantity"] == stage.broker.positions().get("AAPL", 0)
    assert stage.broker.orders() == []
    assert not news(stage.desk)
    assert stage.verifies()


def test_an_order_given_up_that_filled_in_part_and_ended_before_it_was_seen_is_told_canceled(tmp_path):
    """15, 19: the ledger's state is the broker's, not only the money."""
    source = market(bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=DAY, volumes={at(9, 59): 200.0, at(10, 0): 200.0}))
    stage = floor(tmp_path, source, at(10, 0, 1), strategy(interval=Interval.MIN1))
    name = client_id(action_id("buyer", "1min@2024-08-28T14:00Z", "AAPL"), "entry")
    stage.faults.on_submit(name, ShowLate(timedelta(minutes=3)), DropReply())
    stage.cycle(Interval.MIN1)
    for seconds in (61, 66):
        stage.go(at(10, 0, 1 + seconds)).release()
    assert entry(stage)["state"] == "not_placed"
    stage.broker.cancel(name)
    stage.go(at(10, 3, 5))
    assert news(stage.desk)
    stage.release()
    order = entry(stage)
    assert order["state"] == "canceled"
    assert 0 < order["filled_quantity"] < order["quantity"]
    assert stage.row("positions")["quantity"] == stage.broker.positions()["AAPL"] == order["filled_quantity"]
    assert not news(stage.desk)
    assert stage.verifies()


def test_a_definite_refusal_is_rejected_at_once(stage):
    """15."""
    stage.faults.on_submit(NAME, Refuse("not today"))
    stage.cycle()
    assert (entry(stage)["state"], stage.row("orders", part="stop-1")["state"]) == ("rejected", "rejected")
    assert "not today" in entry(stage)["reason"]
    assert placed(stage) == 0


def test_a_broker_that_is_not_ready_was_sent_nothing(stage):
    """21, fault 10."""
    stage.faults.on_submit(NAME, NotReady())
    stage.cycle()
    assert entry(stage)["state"] == "rejected"
    assert placed(stage) == 0


def test_five_refusals_in_a_row_stop_a_strategy(tmp_path):
    """43: it pauses until a person has looked, and no sixth order is sent."""
    source = market(bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=DAY))
    stage = floor(tmp_path, source, at(10, 0, 1), strategy(interval=Interval.MIN1))
    for minute in range(0, 12, 2):
        stage.go(at(10, minute, 1))
        name = client_id(action_id("buyer", f"1min@2024-08-28T14:{minute:02}Z", "AAPL"), "entry")
        stage.faults.on_submit(name, Refuse("no"))
        stage.cycle(Interval.MIN1)
    assert [row["state"] for row in stage.rows("orders")] == ["rejected"] * 5
    paused = stage.row("strategies")
    assert (paused["state"], paused["reason"]) == ("paused_risk", "rejects: 5 orders in a row were rejected")


def test_a_venue_that_rejects_after_accepting_frees_the_reserve(tmp_path):
    """fault 19: accepted, rejected a minute later."""
    source = market(bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=DAY))
    stage = floor(tmp_path, source, at(10, 0, 1), strategy(interval=Interval.MIN1))
    name = client_id(action_id("buyer", "1min@2024-08-28T14:00Z", "AAPL"), "entry")
    stage.faults.on_submit(name, RejectLater(timedelta(seconds=30), "halted"))
    stage.cycle(Interval.MIN1)
    assert entry(stage)["state"] == "accepted"
    stage.go(at(10, 0, 40)).release()
    assert (entry(stage)["state"], entry(stage)["reason"]) == ("rejected", "halted")
    stage.go(at(10, 2, 1)).cycle(Interval.MIN1)
    assert stage.row("positions")["quantity"] == 50


def test_a_fill_that_arrives_before_the_answer_is_booked_and_the_answer_moves_nothing(stage):
    """fault 7."""
    submit = stage.desk.broker.submit

    def slow_answer(ticket, permit):
        answer = submit(ticket, permit)
        settle(stage.desk, Tally("elsewhere", follow_up((), DAY, OPEN, "elsewhere")))
        return answer

    stage.desk.broker.submit = slow_answer
    stage.cycle()
    told = story(stage, NAME)
    assert told == ["order.intent", "order.submitted", "order.filled"]
    assert stage.row("orders", part="stop-1")["state"] == "accepted"
    assert stage.verifies()


def test_executions_delivered_twice_and_backwards_are_booked_once(tmp_path):
    """18, fault 7."""
    source = market(bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=DAY, volumes={at(9, 59): 200.0, at(10, 0): 200.0}))
    stage = floor(tmp_path, source, at(10, 0, 1), strategy(interval=Interval.MIN1))
    stage.faults.on_executions(Repeat(), Reverse())
    stage.cycle(Interval.MIN1)
    for minute in (1, 2, 3):
        stage.go(at(10, minute, 1)).release()
    assert sorted(row["quantity"] for row in stage.rows("fills")) == [10, 20, 20]
    assert stage.row("positions")["quantity"] == 50
    assert stage.verifies()


def test_a_cancel_that_did_not_get_through_is_sent_again(tmp_path):
    """C10: the pause is a fact, the order still works; the next look sends the cancel once more."""
    thin = {at(9, 59): 200.0, at(10, 0): 0.0, at(10, 1): 0.0}
    source = market(bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=DAY, volumes=thin))
    stage = floor(tmp_path, source, at(10, 0, 1), strategy(interval=Interval.MIN1))
    stage.cycle(Interval.MIN1)
    assert entry(stage)["state"] == "partial"
    stage.faults.on_call(Call.CANCEL, NotReady())
    with pytest.raises(BrokerNotReady):
        controls.pause(stage.desk, "buyer", actor=PERSON)
    assert stage.row("strategies")["state"] == StrategyState.PAUSED_USER.value
    assert entry(stage)["state"] == "cancel_pending"
    assert len(stage.broker.orders()) == 1
    stage.go(at(10, 0, 10)).release()
    assert entry(stage)["state"] == "canceled"
    assert stage.broker.orders() == []


# Crashes at every commit of the orders step


CRASHES = [("transaction", call) for call in range(1, 8)] + [("submit", 1), ("answer", 1)]


@pytest.mark.parametrize(("where", "call"), CRASHES, ids=[f"{where}-{call}" for where, call in CRASHES])
@pytest.mark.parametrize("again_after", [timedelta(seconds=1), timedelta(seconds=31), timedelta(seconds=120)], ids=["1s", "31s", "120s"])
def test_wherever_the_process_dies_there_is_no_second_order_and_no_lost_one(stage, where, call, again_after):
    """11, 12, 15, C1-C8: killed while sending, found again by a fresh process 1, 31 or 120 seconds later."""
    due = stage.due()
    for step in ("bars", "indicators", "charts", "signals", "verdicts"):
        STEPS[step](stage.desk, due)
    try:
        if where == "transaction":
            with crashing(stage.desk.ledger, "transaction", on=call):
                run_cycle(stage.desk, due)
        elif where == "submit":
            with crashing(stage.desk.broker, "submit"):
                run_cycle(stage.desk, due)
        else:
            with _dying_after_the_broker_answered(stage):
                run_cycle(stage.desk, due)
    except Killed:
        pass
    else:
        pytest.fail("it was not killed")
    sent = placed(stage)
    again = stage.restarted().go(OPEN + again_after)
    run_cycle(again.desk, due)
    for seconds in (130, 200, 270):
        again.go(OPEN + timedelta(seconds=seconds)).release()

    assert placed(stage) <= 1
    assert len([event for event in stage.events(E.ORDER_SUBMITTED) if event.payload["client_id"] == NAME]) <= 1
    assert stage.broker.positions().get("AAPL", 0) == sum(row["quantity"] for row in stage.rows("positions"))
    assert not {row["state"] for row in stage.rows("orders")} & {"intent", "submitted", "unknown", "quarantined"}
    assert stage.verifies()
    if sent:
        assert entry(stage)["state"] == "filled"
    elif stage.events(E.ORDER_SUBMITTED) and not placed(stage):
        assert entry(stage)["state"] == "not_placed", "submitted by the record and absent at the broker: never sent again"
    elif again_after < timedelta(seconds=30):
        assert entry(stage)["state"] == "filled", "nothing was sent and the intent is fresh: it goes out now, once"


@contextmanager
def _dying_after_the_broker_answered(stage):
    submit = stage.desk.broker.submit

    def dying(ticket, permit):
        submit(ticket, permit)
        raise Killed("after the answer")

    stage.desk.broker.submit = dying
    try:
        yield
    finally:
        stage.desk.broker.submit = submit


@pytest.mark.parametrize("what", ["pause", "safety", "close"])
def test_after_a_crash_in_the_send_a_strategy_can_still_be_paused_and_its_session_closed(stage, what):
    """The submission without an answer is in doubt: it is asked about and cancelled, and blocks nobody."""
    due = stage.due()
    with pytest.raises(Killed), crashing(stage.desk.broker, "submit"):
        run_cycle(stage.desk, due)
    assert entry(stage)["state"] == "submitted"
    again = stage.restarted().go(OPEN + timedelta(seconds=3))
    if what == "pause":
        controls.pause(again.desk, "buyer", actor=PERSON)
        assert stage.row("strategies")["state"] == "paused_user"
    elif what == "safety":
        controls.record_failed_run(again.desk, "0123456789ab", "cycle", "killed", [due])
        row = stage.row("strategies")
        assert (row["state"], row["reason"].split(":")[0]) == ("paused_risk", PauseReason.RUN_FAILED.value)
    else:
        again.go(at(16, 0, 1))
        close_session(again.desk, again.desk.calendar.session(DAY))
        assert stage.row("sessions")["state"] == "closed"
    assert entry(stage)["state"] in ("cancel_pending", "unknown", "not_placed", "canceled")
    assert placed(stage) == 0
    assert stage.verifies()


def test_a_broker_that_is_not_ready_is_asked_again_and_fails_no_cycle(tmp_path):
    """21, D23, fault 10: not ready is a state to wait in, not a failure."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    stage.cycle()
    close_session(stage.go(at(16, 5)).desk, stage.desk.calendar.session(DAY))
    stage.go(at(9, 30, day=date(2024, 8, 29)))
    stage.faults.on_call(Call.EXECUTIONS, NotReady())
    assert stage.cycle()["fills"].counts["broker_not_ready"] == 1
    assert stage.row("strategies", name="buyer")["state"] == "running"
