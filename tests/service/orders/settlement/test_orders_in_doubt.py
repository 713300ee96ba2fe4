"""Orders in doubt: absence is proven to the second, what shows after all is compared, and what nobody can resolve becomes a person's."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from tests.desks import OPEN, PERSON, Floor, at, bars, floor, market, strategy
from tests.service.minutes import MINUTES, bracketed, minute_bars
from tests.service.orders.settlement.scripted import MINUTE, NAME, Scripted, scripted, settled, tally, told
from trading_pipeline.adapters.brokers.paper_faults import DropReply, ShowLate, Withhold
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType as E
from trading_pipeline.domain.events import NewEvent
from trading_pipeline.ports import BrokerStatus
from trading_pipeline.service.orders.absence import UNRESOLVED
from trading_pipeline.service.orders.settlement import cancel


def test_absence_is_looked_for_a_minute_after_the_submission_and_again_five_seconds_later(lost):
    """15, fault 5: to the second, IBKR's visibility window, and what is written each time."""
    for seconds, state in ((59.999, "unknown"), (60, "unknown"), (64.999, "unknown"), (65, "not_placed")):
        settled(lost, OPEN + timedelta(seconds=seconds))
        assert lost.row("orders")["state"] == state
    assert told(lost, NAME)[1:] == [("order.unknown", "recovery"), ("order.not_placed", "broker:paper")]
    first, second = [event.payload["reason"] for event in lost.events(E.ORDER_UNKNOWN, E.ORDER_NOT_PLACED)][-2:]
    assert first == "absent 60 s after its submission: looked for once more in 5 s"
    assert second == "absent twice from orders, executions and positions, 60 s after its submission and later"


def test_an_answer_that_was_long_on_its_way_counts_from_when_it_was_asked_for(lost):
    """15: it may be from before the order showed."""
    stage, broker = scripted(lost)
    broker.before_orders = lambda: stage.go(OPEN + timedelta(seconds=70))
    settled(stage, OPEN + timedelta(seconds=59))
    assert told(stage, NAME) == [("order.unknown", "broker:paper")]


def test_an_order_that_is_absent_while_the_positions_differ_stays_in_doubt_and_becomes_a_persons(lost):
    """15, 27: shares that nobody has booked may be its own; told once, a quarter of an hour after its submission."""
    stage, broker = scripted(lost)
    broker.holds = {"AAPL": 50}
    for seconds in (60, 70, 899.999):
        assert settled(stage, OPEN + timedelta(seconds=seconds)).notes == []
    assert len(told(stage, NAME)) == 1
    reason = "not resolved within 15 minutes: compare the account with the ledger by hand"
    assert settled(stage, OPEN + timedelta(seconds=900)).notes == [f"the order {NAME} of AAPL: {reason}"]
    assert settled(stage, OPEN + timedelta(seconds=950)).notes == []
    assert (stage.row("orders")["state"], stage.row("orders")["reason"]) == ("unknown", reason)
    assert told(stage, NAME)[1:] == [("order.unknown", "recovery")]
    broker.holds = None
    for seconds in (960, 965):
        settled(stage, OPEN + timedelta(seconds=seconds))
    assert stage.row("orders")["state"] == "not_placed"


def test_a_cancel_in_doubt_that_nobody_can_resolve_becomes_a_persons_and_stays_asked_for(lost):
    """15, 53."""
    stage, broker = scripted(lost)
    cancel(stage.desk, stage.rows("orders"), "test", PERSON, tally(stage))
    broker.holds = {"AAPL": 50}
    found = settled(stage, OPEN + timedelta(seconds=900))
    assert "not resolved within 15 minutes" in found.notes[0]
    assert stage.row("orders")["state"] == "cancel_pending"
    assert told(stage, NAME)[-1] == ("order.cancel_requested", "recovery")


def test_an_order_that_was_to_be_cancelled_and_is_absent_twice_is_canceled(lost):
    """15, 53."""
    cancel(lost.desk, lost.rows("orders"), "test", PERSON, tally(lost))
    settled(lost, OPEN + timedelta(seconds=60))
    assert lost.row("orders")["state"] == "cancel_pending"
    found = settled(lost, OPEN + timedelta(seconds=65))
    assert (lost.row("orders")["state"], found.counts) == ("canceled", {"canceled": 1})
    assert [type_ for type_, _ in told(lost, NAME)] == [
        "order.unknown", "order.cancel_requested", "order.cancel_requested", "order.canceled"
    ]


@pytest.fixture
def hidden(tmp_path) -> tuple[Floor, Scripted]:
    """An entry without an answer that works at the broker, which does not show it and takes no cancel; it was to be cancelled."""
    stage = floor(tmp_path, minute_bars(volumes={at(10, minute): 0.0 for minute in range(-1, 20)}), at(10, 0, 1), strategy(**MINUTES))
    stage.faults.on_submit(MINUTE, DropReply(), ShowLate(timedelta(seconds=2)))
    stage.cycle(Interval.MIN1)
    stage, broker = scripted(stage)
    broker.restate, broker.deaf = (lambda _: None), True
    cancel(stage.desk, stage.rows("orders"), "test", PERSON, tally(stage))
    settled(stage, at(10, 1, 1))
    assert stage.row("orders")["state"] == "cancel_pending"
    return stage, broker


def states(stage: Floor, *seconds: int) -> list[str]:
    """Of the one order, settled so long after a minute past ten."""
    return [settled(stage, at(10, 1, each)) and stage.row("orders")["state"] for each in seconds]


def test_an_order_that_shows_between_two_looks_is_given_up_after_two_new_ones(hidden):
    """15, 53: what showed since was not absent."""
    stage, broker = hidden
    broker.restate = lambda order: order
    assert states(stage, 3) == ["cancel_pending"]
    broker.restate = lambda _: None
    assert states(stage, 10, 14, 15) == ["cancel_pending", "cancel_pending", "canceled"]
    assert stage.verifies()


def test_an_order_that_was_canceled_as_absent_and_came_late_is_canceled_again(hidden):
    """15, 53: it came, its cancel was asked for, and it went before the broker said so."""
    stage, broker = hidden
    assert states(stage, 6) == ["canceled"]
    broker.restate = lambda order: order
    assert states(stage, 10) == ["cancel_pending"]
    broker.restate = lambda _: None
    assert states(stage, 20, 25) == ["cancel_pending", "canceled"]
    assert len(stage.events(E.ORDER_LATE_FOUND)) == 1
    assert stage.verifies()


def test_an_order_in_doubt_that_has_filled_in_part_and_is_absent_is_canceled_not_unplaced(thin):
    """15, 19: it was there, and so were its stop and its target."""
    stage, broker = scripted(thin)
    entry = stage.row("orders", part="entry")
    for row in stage.rows("orders"):
        with stage.desk.ledger.transaction() as tx:
            payload = {"client_id": row["client_id"], "reason": "asked for by hand"}
            tx.append(NewEvent(E.ORDER_CANCEL_REQUESTED, "strategy:buyer", f"c:{row['part']}", payload, stage.clock.now(), PERSON))
            tx.append(NewEvent(E.ORDER_UNKNOWN, "strategy:buyer", f"u:{row['part']}", payload, stage.clock.now(), PERSON))
    assert stage.row("orders", part="entry")["state"] == "unknown"
    broker.restate = lambda order: None
    broker.deaf = True
    for seconds in (61, 66):
        settled(stage, at(10, 0, 1 + seconds))
    assert stage.row("orders", part="entry")["state"] == "canceled"
    assert {row["state"] for row in stage.rows("orders", parent=entry["client_id"])} == {"canceled"}


def test_an_order_whose_stop_has_sold_was_there_though_the_broker_shows_nothing_of_it(tmp_path):
    """15, 17, 19: of an entry everything comes late, of its stop the sale is told at once; nothing is given up and nothing set aside."""
    fallen = {at(10, minute): (90.0,) * 4 for minute in range(1, 20)}
    stage = floor(tmp_path, minute_bars(at=fallen), at(10, 0, 1), bracketed())
    stage.faults.on_submit(MINUTE, DropReply())
    stage, broker = scripted(stage)
    said = broker.executions
    broker.restate = lambda order: None if order.client_id == MINUTE else order
    broker.executions = lambda since: [each for each in said(since) if each[0] != MINUTE]
    broker.holds = {}
    stage.cycle(Interval.MIN1)
    broker.holds = {"AAPL": -50}
    cancel(stage.desk, stage.rows("orders", part="entry"), "test", PERSON, tally(stage))
    for seconds in (60, 65, 70, 75):
        settled(stage, at(10, 1, 1 + seconds - 60))
    assert {row["part"]: row["state"] for row in stage.rows("orders")} | {"target-1": ""} == {
        "entry": "cancel_pending", "stop-1": "filled", "target-1": "",
    }
    del broker.executions
    broker.restate, broker.holds = (lambda order: order), None
    for seconds in (90, 95):
        settled(stage, at(10, 1, 1 + seconds - 60))
    assert {row["state"] for row in stage.rows("orders", order_type="stop")} == {"filled"}
    assert stage.row("orders", part="entry")["filled_quantity"] == stage.row("orders", part="stop-1")["filled_quantity"] == 50
    assert (stage.row("positions")["quantity"], stage.events(E.ORDER_QUARANTINED)) == (0, [])
    assert stage.verifies()


def test_an_order_in_doubt_that_the_broker_has_as_another_is_set_aside(tmp_path):
    """24: it is not the one that was sent, whatever its name."""
    volumes = {at(10, minute): 0.0 for minute in range(-1, 20)}
    stage = floor(tmp_path, minute_bars(volumes=volumes), at(10, 0, 1), strategy(**MINUTES))
    stage.faults.on_submit(MINUTE, DropReply(), ShowLate(timedelta(seconds=2)))
    stage.cycle(Interval.MIN1)
    stage, broker = scripted(stage)
    broker.restate = lambda order: replace(order, ticket=replace(order.ticket, quantity=500))
    found = settled(stage, at(10, 0, 5))
    reason = "quantity 50 was sent, 500 was heard"
    assert (stage.row("orders")["state"], stage.row("orders")["reason"]) == ("quarantined", reason)
    assert found.notes == [f"the order {MINUTE} is set aside: {reason}"]
    assert broker.cancels == [MINUTE]


def test_an_order_given_up_that_had_ended_before_it_was_seen_is_found_under_the_brokers_number(tmp_path):
    """15."""
    volumes = {at(10, minute): 0.0 for minute in range(-1, 20)}
    stage = floor(tmp_path, minute_bars(volumes=volumes), at(10, 0, 1), strategy(**MINUTES))
    stage.faults.on_submit(MINUTE, ShowLate(timedelta(minutes=3)), DropReply())
    stage.cycle(Interval.MIN1)
    for seconds in (61, 66):
        settled(stage, at(10, 0, 1 + seconds))
    assert stage.row("orders")["state"] == "not_placed"
    stage.broker.cancel(MINUTE)
    settled(stage, at(10, 3, 5))
    [placed] = stage.broker.orders([MINUTE])
    assert [event.payload["broker_order_id"] for event in stage.events(E.ORDER_LATE_FOUND)] == [placed.broker_order_id]
    assert (stage.row("orders")["state"], stage.row("orders")["broker_order_id"]) == ("canceled", placed.broker_order_id)


def test_an_order_that_was_given_up_is_watched_until_the_end_of_the_next_session_and_no_longer(lost):
    """15."""
    stage, broker = scripted(lost)
    for seconds in (60, 65):
        settled(stage, OPEN + timedelta(seconds=seconds))
    assert stage.row("orders")["state"] == "not_placed"
    for instant, watched in ((at(15, 59, day=date(2024, 8, 29)), True), (at(9, 30, day=date(2024, 8, 30)), False)):
        broker.asked_for.clear()
        settled(stage, instant)
        assert (NAME in broker.asked_for) is watched


def test_an_order_in_doubt_that_the_broker_has_filled_without_telling_of_it_becomes_a_persons(tmp_path):
    """15: no execution of it comes, as when it was booked as a stranger's."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    stage.faults.on_submit(NAME, DropReply())
    stage.faults.on_executions(Withhold(NAME))
    stage.cycle()
    assert [order.status for order in stage.broker.orders([NAME])] == [BrokerStatus.FILLED]
    before = told(stage, NAME)
    settled(stage, OPEN + UNRESOLVED - timedelta(seconds=1))
    assert told(stage, NAME) == before
    found = settled(stage, OPEN + UNRESOLVED + timedelta(seconds=1))
    assert told(stage, NAME) == [*before, ("order.unknown", "recovery")]
    assert "not resolved within 15 minutes" in found.notes[0]
