"""The gate's own promises: an order is sent as it was written down, held to what was shown, and its answer names its question."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from tests.desks import OPEN, PERSON, Floor, at, bars, floor, market, strategy
from tests.service.minutes import approved, bracketed, decided, intended, minute_bars
from trading_pipeline.adapters.brokers.latched import LatchedBroker
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.orders import Bracket, OrderClass, OrderType, Side, TimeInForce
from trading_pipeline.domain.strategies import Mode
from trading_pipeline.ports import BrokerOrder, Permit, Stop, Ticket
from trading_pipeline.service.judging.book import Book, intent_of
from trading_pipeline.service.judging.outside import look
from trading_pipeline.service.orders.gate import gate_and_submit, judged, stored_intent, ticket_of
from trading_pipeline.service.orders.settlement import settle
from trading_pipeline.service.steps import Tally, spec_of
from trading_pipeline.service.stopping import emergency
from trading_pipeline.service.submitter.handover import lease_name

E = EventType
PROTECTIVE = OrderClass.PROTECTIVE


@pytest.fixture
def stage(tmp_path) -> Floor:
    """An entry at $100 with a stop at $95 and a target at $105, sent."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    stage.cycle(Interval.MIN1)
    return stage


@pytest.mark.parametrize(
    ("part", "order_type", "limit_price", "stop_price"),
    [("stop-1", OrderType.STOP, None, Decimal("95.00")), ("target-1", OrderType.LIMIT, Decimal("105.00"), None)],
)
def test_what_protects_is_sent_after_a_crash_as_it_was_written_down(stage, part, order_type, limit_price, stop_price):
    """13, C2."""
    row = stage.row("orders", part=part)
    intent = stored_intent(row, stage.row("actions"))
    assert (intent.client_id, intent.part, intent.quantity) == (row["client_id"], part, 50)
    assert (intent.order_type, intent.limit_price, intent.stop_price) == (order_type, limit_price, stop_price)
    assert (intent.order_class, intent.side, intent.time_in_force) == (PROTECTIVE, Side.SELL, TimeInForce.GTC)
    assert (intent.account, intent.environment, intent.strategy, intent.symbol) == ("PAPER-1", "demo", "buyer", "AAPL")
    assert (intent.reference, intent.oco) == (Decimal(100), row["oco"])
    assert row["oco"] is not None


def test_a_slice_is_sent_after_a_crash_as_the_slice_it_was(stage):
    row, action = stage.row("orders", part="entry"), stage.row("actions")
    assert stored_intent(row, action) == intent_of(action)
    slice_ = stored_intent(row | {"part": "exit-2", "quantity": 7}, action)
    assert slice_ == replace(intent_of(action), part="exit-2", quantity=7)


def test_a_stop_without_a_target_cancels_nothing_when_it_fills(stage):
    lone = Bracket(50, Decimal("95.00"), None)
    entry = ticket_of(replace(intent_of(stage.row("actions")), brackets=(lone, Bracket(50, Decimal("95.00"), Decimal("105.00")))))
    assert [(child.order_type, child.oco is None) for child in entry.children] == [
        (OrderType.STOP, True), (OrderType.STOP, False), (OrderType.LIMIT, False),
    ]


def test_what_was_sent_already_is_not_sent_by_the_gate(stage):
    """12, 14: whoever comes with the same intent finds that it is none any more."""
    before, tally = stage.desk.ledger.head(), Tally("test", stage.due(Interval.MIN1))
    with stage.desk.ledger.lease(lease_name(stage.desk)) as fence:
        assert not gate_and_submit(stage.desk, fence, intent_of(stage.row("actions")), tally)
    assert (stage.desk.ledger.head(), tally.counts) == (before, {})


def test_the_brokers_answer_names_the_submission_it_answers(stage):
    """11: each order of the family has a submission, and the answer's cause is the first of them."""
    submitted, answers = stage.events(E.ORDER_SUBMITTED), stage.events(E.ORDER_ACCEPTED)
    assert [event.payload["client_id"] for event in submitted] == [event.payload["client_id"] for event in answers]
    assert len(answers) == 3
    assert {event.cause for event in answers} == {submitted[0].seq}


@pytest.mark.parametrize(
    ("last", "outcome"), [("price_low", "allow"), ("price_high", "allow"), ("below", "deny"), ("above", "deny")],
)
def test_an_approval_holds_at_the_very_ends_of_the_prices_that_were_shown(tmp_path, last, outcome):
    """48."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy(mode=Mode.APPROVAL))
    stage.cycle()
    name = approved(stage)
    stage.go(OPEN + timedelta(seconds=2)).release()
    desk, intent = stage.desk, intent_of(stage.row("actions", action_id=name))
    approval = stage.row("approvals")
    ends = {"below": approval["price_low"] - Decimal("0.0001"), "above": approval["price_high"] + Decimal("0.0001")}
    spec = spec_of(stage.row("strategies"))
    outside = look(desk, desk.ledger, ["AAPL"], spec.interval, mismatched={})
    quote = replace(outside.quotes["AAPL"], last=ends.get(last) or approval[last])
    book = Book.read(desk, desk.ledger, replace(outside, quotes={"AAPL": quote}))
    [verdict] = [each for each in judged(desk.ledger, book, spec, intent).verdicts if each.rule == "approval"]
    under = "approved under limits 1 of the account and 1 of the strategy"
    assert (verdict.outcome.value, verdict.limit) == (outcome, under)
    assert verdict.measured == under if outcome == "allow" else verdict.measured.startswith(f"the price moved to {quote.last}")
    assert approval["decided_by"] == PERSON


def test_the_gates_verdict_keeps_what_it_looked_at(stage):
    """8: prices, bars and stops as they were, so that it is derived again without asking anybody."""
    [verdict] = [event for event in stage.events(E.RISK_EVALUATED) if event.payload["stage"] == "gate"]
    seen = verdict.payload["outside"]
    assert seen["now"] == "2024-08-28T14:00:01.000000Z"
    assert Decimal(seen["quotes"]["AAPL"]["last"]) == 100
    assert seen["bar_ends"] == {"AAPL": "2024-08-28T14:00:00.000000Z"}
    assert (seen["stopped"], seen["mismatched"]) == ([], {})


# Answers to what is not wanted any more


class OnTheWire(LatchedBroker):
    """Something happens while a submission is on its way, past the latch; the answer may be about another order than was sent."""

    def __init__(self, stage: Floor, meanwhile: Callable[[], object] = lambda: None, *, times: int = 1) -> None:
        super().__init__(stage.broker, stage.desk.latch)
        self.meanwhile, self.times = meanwhile, times
        self.cancels: list[str] = []

    def submit(self, ticket: Ticket, permit: Permit) -> BrokerOrder:
        self.meanwhile()
        order = self._broker.submit(ticket, permit)
        return replace(order, ticket=replace(order.ticket, quantity=self.times * ticket.quantity))

    def cancel(self, client_id: str) -> None:
        self.cancels.append(client_id)
        super().cancel(client_id)


@pytest.fixture
def still(tmp_path) -> Floor:
    """A bracketed entry goes out after a minute in which nothing traded: what is sent works until it is cancelled."""
    volumes = {at(10, minute): 0.0 for minute in range(-1, 10)}
    return floor(tmp_path, minute_bars(volumes=volumes), at(10, 0, 1), bracketed())


def gated(stage: Floor, broker: LatchedBroker) -> tuple[Floor, Tally]:
    """Only the gate: no step after it that would settle what it leaves."""
    stage = stage.restarted(broker=broker)
    cycle = decided(stage)
    intended(stage, cycle)
    tally = Tally("orders", cycle)
    with stage.desk.ledger.lease(lease_name(stage.desk)) as fence:
        assert gate_and_submit(stage.desk, fence, intent_of(stage.row("actions")), tally)
    return stage, tally


def test_an_order_that_is_answered_as_it_was_sent_works_and_nothing_is_cancelled(still):
    broker = OnTheWire(still)
    stage, tally = gated(still, broker)
    assert (broker.cancels, tally.notes) == ([], [])
    assert [row["state"] for row in stage.rows("orders")] == ["accepted"] * 3
    assert {order.client_id for order in stage.broker.orders()} == {row["client_id"] for row in stage.rows("orders")}


def test_an_order_that_was_heard_otherwise_is_cancelled_by_the_gate_itself_and_a_person_is_told_why(still):
    """24: it does not work until somebody settles."""
    broker = OnTheWire(still, times=10)
    stage, tally = gated(still, broker)
    name = stage.row("orders", part="entry")["client_id"]
    assert (broker.cancels, stage.broker.orders()) == ([name], [])
    assert tally.notes == [f"the order {name} is set aside and cancelled: quantity 50 was sent, 500 was heard"]
    assert stage.row("orders", part="entry")["state"] == "quarantined"


def test_an_order_that_is_answered_after_a_stop_is_cancelled_by_the_gate_itself(still):
    """53, 55: the stop's own cancel found nothing to cancel; the order had not arrived."""
    pressed = Stop(None, "enough", PERSON, at(10, 0, 1))
    broker = OnTheWire(still, lambda: emergency.write_down(still.desk, pressed, resumed=False))
    stage, _ = gated(still, broker)
    name = stage.row("orders", part="entry")["client_id"]
    assert (broker.cancels, stage.broker.orders()) == ([name], [])
    assert {row["state"] for row in stage.rows("orders")} == {"cancel_pending"}
    settle(stage.desk, Tally("test", stage.due(Interval.MIN1)))
    assert {row["state"] for row in stage.rows("orders")} == {"canceled"}


def test_an_order_that_was_given_up_and_is_answered_is_found_late_under_the_brokers_number(still):
    """15: the number is the parent's, and its children have numbers of their own."""

    def give_up() -> None:
        emergency.stop(still.desk, reason="enough", actor=PERSON)
        for seconds in (63, 69, 75):
            settle(still.go(at(10, 0, seconds)).desk, Tally("test", still.due(Interval.MIN1)))
        assert {row["state"] for row in still.rows("orders")} == {"canceled"}

    broker = OnTheWire(still, give_up)
    stage, tally = gated(still, broker)
    entry, [stop, target] = stage.row("orders", part="entry"), stage.rows("orders", order_class=PROTECTIVE.value, order_by="part")
    [placed] = stage.broker.orders([entry["client_id"]])
    found = {event.payload["client_id"]: event.payload["broker_order_id"] for event in stage.events(E.ORDER_LATE_FOUND)}
    assert placed.broker_order_id
    assert found == {entry["client_id"]: placed.broker_order_id, stop["client_id"]: "", target["client_id"]: ""}
    assert [row["broker_order_id"] for row in (entry, stop, target)] == [placed.broker_order_id, None, None]
    assert (tally.counts["late_found"], stage.broker.orders()) == (3, [])
