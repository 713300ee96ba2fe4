"""The gate's own promises: an order is sent as it was written down, held to what was shown, and its answer names its question."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from tests.desks import OPEN, PERSON, Floor, at, bars, floor, market, strategy
from tests.service.minutes import approved, bracketed, minute_bars
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.orders import OrderClass, OrderType, Side, TimeInForce
from trading_pipeline.domain.strategies import Mode
from trading_pipeline.service.book import Book, intent_of
from trading_pipeline.service.gate import judged, stored_intent
from trading_pipeline.service.outside import look
from trading_pipeline.service.steps import spec_of

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
