"""What settling does with what the broker says: executions booked, ends written down, cancels sent, differences told."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest

from tests.desks import DAY, OPEN, PERSON, at, bars, calendar, floor, market, strategy
from tests.service.minutes import MINUTES, bracketed, minute_bars
from tests.service.orders.settlement.scripted import MINUTE, scripted, settled, tally, told
from trading_pipeline.adapters.brokers.paper_faults import Call, LoseRequest, NotReady, RejectLater
from trading_pipeline.domain.adjustments import Split
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType as E
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.portfolio import Fill
from trading_pipeline.domain.strategies import FractionSizing
from trading_pipeline.errors import BrokerNotReady
from trading_pipeline.ports import BrokerOrder, BrokerStatus
from trading_pipeline.service.orders.settlement import cancel, news, settled_mismatches

D = Decimal


# Executions


def test_an_execution_is_booked_after_the_last_fact_of_its_order_and_counted_by_what_it_leaves(thin):
    """18: twenty of fifty shares, and then the rest."""
    stage, broker = scripted(thin)
    [first] = stage.events(E.ORDER_PARTIALLY_FILLED)
    accepted = next(event for event in stage.events(E.ORDER_ACCEPTED) if event.payload["client_id"] == MINUTE)
    assert first.cause == accepted.seq
    broker.more = [(MINUTE, Fill("X-1", MINUTE, "AAPL", Side.BUY, 10, D(100), D(1), at(10, 0, 2)))]
    assert settled(stage, at(10, 0, 5)).counts == {"partially_filled": 1}
    broker.more.append((MINUTE, Fill("X-2", MINUTE, "AAPL", Side.BUY, 20, D(100), D(1), at(10, 0, 3))))
    assert settled(stage, at(10, 0, 6)).counts["filled"] == 1
    [whole] = stage.events(E.ORDER_FILLED)
    assert (whole.payload["part"], whole.payload["order_class"], whole.payload["strategy"]) == ("entry", "E", "buyer")


# Ends


@pytest.mark.parametrize(("status", "state"), [("canceled", "canceled"), ("expired", "expired"), ("rejected", "rejected")])
def test_an_end_that_the_broker_states_is_written_down_with_its_words(thin, status, state):
    stage, broker = scripted(thin)
    entry = stage.row("orders", part="entry")["client_id"]
    ended = BrokerStatus(status)
    broker.restate = lambda order: replace(order, status=ended, reason="so it is") if order.client_id == entry else order
    found = settled(stage, at(10, 0, 5))
    row = stage.row("orders", part="entry")
    assert (row["state"], row["reason"], row["filled_quantity"]) == (state, "so it is", 20)
    assert found.counts == {{"expired": "order_expired"}.get(status, status): 1}
    assert told(stage, entry)[-1][1] == "broker:paper"


def test_an_order_that_filled_before_it_ended_is_over_once_its_executions_are_told(thin):
    """16, 26, fault 17: over at once, it would leave shares to be sold that it has sold already."""
    stage, broker = scripted(thin)
    entry = stage.row("orders", part="entry")["client_id"]
    broker.restate = lambda order: (
        replace(order, status=BrokerStatus.CANCELED, filled_quantity=30, reason="gone") if order.client_id == entry else order
    )
    assert settled(stage, at(10, 0, 5)).counts == {"fills_untold": 1}
    assert stage.row("orders", part="entry")["state"] == "partial"
    broker.more = [(entry, Fill("X-1", entry, "AAPL", Side.BUY, 10, D(100), D(1), at(10, 0, 4)))]
    assert settled(stage, at(10, 0, 6)).counts == {"partially_filled": 1, "canceled": 1}
    row = stage.row("orders", part="entry")
    assert (row["state"], row["filled_quantity"]) == ("canceled", 30)


def ended_untold(stage, name, more):
    """The broker has ended an order of ours by itself, having filled more of it than it will ever tell."""
    stage.broker.cancel(name)
    stage, broker = scripted(stage)
    broker.restate = lambda order: replace(order, filled_quantity=order.filled_quantity + more) if order.client_id == name else order
    return stage, broker


def test_a_stop_that_ended_with_fills_that_are_not_told_protects_nothing_and_somebody_is_told(tmp_path):
    """C12, 85: nothing is placed beside it while the shares differ, and a person is asked in the end."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 1, 1)).release()
    stop, held = stage.row("orders", part="stop-1")["client_id"], stage.row("positions")["quantity"]
    stage.broker.cancel(stage.row("orders", part="target-1")["client_id"])
    stage, broker = ended_untold(stage, stop, 5)
    broker.holds = {"AAPL": held - 5}
    settled(stage, at(10, 1, 5))
    assert stage.row("orders", part="stop-1")["state"] == "accepted", "its executions may follow"
    settled(stage, at(10, 1, 12))
    doubted = stage.row("orders", part="stop-1")
    assert (doubted["state"], doubted["reason"]) == ("unknown", "the broker has canceled it with 5 filled, and told of 0")
    stage.go(at(10, 1, 30)).release()
    assert [event.payload["quantity"] for event in stage.events(E.POSITION_UNPROTECTED)] == [held]
    settled(stage, at(10, 20))
    assert "not resolved" in stage.row("orders", part="stop-1")["reason"]
    broker.more = [(stop, Fill("X-1", stop, "AAPL", Side.SELL, 5, D(95), D(1), at(10, 1, 4)))]
    stage.go(at(10, 20, 5)).release()
    stage.go(at(10, 20, 9)).release()
    assert stage.row("orders", part="stop-1")["state"] == "canceled"
    assert [order.ticket.quantity for order in stage.broker.orders()] == [held - 5] * 2, "protected again"


def test_an_order_whose_end_counts_what_was_never_traded_is_over_once_the_shares_have_agreed_for_long(thin):
    """16: a trade that the venue has undone is in its count for good; for as long it would block its symbol."""
    entry = thin.row("orders", part="entry")["client_id"]
    stage, _ = ended_untold(thin, entry, 3)
    settled(stage, at(10, 14))
    assert stage.row("orders", part="entry")["state"] == "unknown"
    settled(stage, at(10, 16))
    row = stage.row("orders", part="entry")
    assert (row["state"], row["filled_quantity"], row["reason"]) == ("canceled", 20, "canceled on request")


def test_an_order_from_before_a_split_is_over_whatever_it_says_that_it_has_filled(tmp_path):
    """31: shares of two scales cannot be compared, so none can be missing."""
    quarter = {session.open: (25.0,) * 4 for session in calendar().between(DAY, date(2024, 9, 6))}
    spec = strategy(sizing=FractionSizing(fraction=D("0.05"), stop=D("0.05")))
    source = market(bars(at=quarter), splits=[Split("AAPL", DAY, D(4))])
    stage = floor(tmp_path, source, at(9, 30, 5, day=DAY - timedelta(days=1)), spec)
    stage.cycle()
    stage, broker = scripted(stage.go(at(9, 30, 5)))
    stage.cycle()
    broker.restate = lambda order: replace(order, status=BrokerStatus.CANCELED, filled_quantity=3)
    settled(stage)
    assert stage.row("orders", part="stop-1")["state"] == "canceled"


@pytest.mark.parametrize("status", ["canceled", "expired", "rejected"])
def test_however_an_order_ends_that_was_to_be_cancelled_it_is_canceled(thin, status):
    """C11."""
    stage, broker = scripted(thin)
    entry = stage.row("orders", part="entry")["client_id"]
    broker.deaf = True
    cancel(stage.desk, stage.rows("orders", part="entry"), "test", PERSON, tally(stage))
    assert stage.row("orders", part="entry")["state"] == "cancel_pending"
    ended = BrokerStatus(status)
    broker.restate = lambda order: replace(order, status=ended, reason="so it is") if order.client_id == entry else order
    assert settled(stage, at(10, 0, 5)).counts == {"canceled": 1}
    assert stage.row("orders", part="entry")["state"] == "canceled"


# Cancels


def test_a_cancel_is_asked_for_once_and_sent_until_it_gets_through(thin):
    """53, C10."""
    stage, broker = scripted(thin)
    rows = stage.rows("orders", part="entry")
    broker.deaf = True
    first = tally(stage)
    cancel(stage.desk, rows, "enough", PERSON, first)
    again = tally(stage)
    cancel(stage.desk, rows, "enough", PERSON, again)
    [request] = stage.events(E.ORDER_CANCEL_REQUESTED)
    assert (request.payload["reason"], request.actor) == ("enough", PERSON)
    assert first.counts["cancel_requested"] == again.counts["cancel_requested"] == 1
    assert set(broker.cancels) == {rows[0]["client_id"]}
    assert len(broker.cancels) == 4, "asked for and asked again by the look after it, twice"
    broker.deaf = False
    settled(stage, at(10, 0, 5))
    assert stage.row("orders", part="entry")["state"] == "canceled"


def test_what_is_over_or_was_never_sent_is_not_cancelled(thin):
    stage, broker = scripted(thin)
    rows = stage.rows("orders", part="entry")
    cancel(stage.desk, rows, "enough", PERSON, tally(stage))
    assert stage.row("orders", part="entry")["state"] == "canceled"
    many = len(broker.cancels)
    cancel(stage.desk, [*rows, rows[0] | {"client_id": "NOBODY"}], "enough", PERSON, counted := tally(stage))
    assert (len(broker.cancels), counted.counts.get("cancel_requested")) == (many, None)


@pytest.mark.parametrize("leased", [True, False])
def test_a_submission_on_its_way_is_cancelled_by_whoever_has_the_lease_and_left_alone_by_others(tmp_path, leased):
    """22: without the lease it may be going out at this moment; with it, it is a crashed one."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    stage.faults.on_submit(MINUTE, LoseRequest())
    stage, broker = scripted(stage)
    seen = []

    def submitting(ticket: object, permit: object) -> BrokerOrder:
        rows = stage.rows("orders", part="entry")
        cancel(stage.desk, rows, "enough", PERSON, tally(stage), leased=leased)
        seen.append(stage.row("orders", part="entry")["state"])
        raise BrokerNotReady("busy")

    broker.submit = submitting  # type: ignore[assignment, method-assign]
    stage.cycle(Interval.MIN1)
    assert seen == ["cancel_pending" if leased else "submitted"]
    assert bool(broker.cancels) is leased
    facts = [type_ for type_, _ in told(stage, MINUTE)]
    assert facts[:2] == (["order.unknown", "order.cancel_requested"] if leased else ["order.rejected"])
    for request in stage.events(E.ORDER_CANCEL_REQUESTED):
        assert request.cause == stage.events(E.ORDER_UNKNOWN)[0].seq


# From when on it asks


def test_executions_are_asked_for_from_the_calendars_first_day_and_then_from_a_day_before_the_last_one(tmp_path):
    """20: none may lie between two looks."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    stage, broker = scripted(stage)
    settled(stage)
    assert broker.asked_since[-1] == stage.desk.calendar.first.open
    stage.cycle()
    stage.go(at(9, 30, day=date(2024, 9, 5)))
    settled(stage)
    assert broker.asked_since[-1] == stage.row("fills")["at"] - timedelta(days=1)
    noon = at(12, day=date(2024, 9, 5))
    stage.broker.trade_by_hand("IBM", Side.BUY, 1, D(100))
    broker.more = [("SOMEBODY", Fill("0", "SOMEBODY", "IBM", Side.BUY, 1, D(100), D(0), noon))]
    settled(stage.go(noon))
    settled(stage)
    assert broker.asked_since[-1] == noon - timedelta(days=1), "the last by its time, whatever it is called"


def test_executions_of_an_order_that_rests_are_asked_for_from_a_day_before_it_went_out(tmp_path):
    """20, 25: another strategy's fills move the watermark on."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    stage.cycle(Interval.MIN1)
    stage, broker = scripted(stage)
    sent = stage.row("orders", part="stop-1")["submitted_at"]
    stage.broker.trade_by_hand("IBM", Side.BUY, 1, D(100))
    stage.go(at(12, day=date(2024, 8, 29)))
    broker.more = [("SOMEBODY", Fill("X-1", "SOMEBODY", "IBM", Side.BUY, 1, D(100), D(0), at(12, day=date(2024, 8, 29))))]
    settled(stage)
    assert stage.rows("fills", order_by="at")[-1]["execution_id"] == "X-1"
    settled(stage)
    assert broker.asked_since[-1] == min(sent, stage.rows("fills", order_by="at")[-1]["at"]) - timedelta(days=1)


# The rest


def test_a_broker_without_a_session_is_a_note_and_no_failure(thin):
    """D23."""
    thin.faults.on_call(Call.EXECUTIONS, NotReady())
    found = settled(thin, at(10, 0, 5))
    assert (found.counts, len(found.notes)) == ({"broker_not_ready": 1}, 1)


def test_a_difference_between_book_and_broker_is_told_only_when_settling_does_not_explain_it(tmp_path):
    """27."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), strategy(**MINUTES))
    stage.cycle(Interval.MIN1)
    assert settled_mismatches(stage.desk, tally(stage)) == {}
    stage.broker.trade_by_hand("AAPL", Side.SELL, 10, D(100))
    counted = tally(stage)
    assert settled_mismatches(stage.desk, counted) == {}
    assert stage.row("positions", strategy="EXTERNAL")["quantity"] == -10
    stage, broker = scripted(stage)
    broker.holds = {"AAPL": 17}
    assert list(settled_mismatches(stage.desk, tally(stage))) == ["AAPL"]
    assert broker.asked_since[-1] == stage.rows("fills", order_by="at")[-1]["at"] - timedelta(days=7)


def test_a_venue_that_rejects_what_it_had_accepted_says_why(tmp_path):
    """Fault 19."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), strategy(**MINUTES))
    stage.faults.on_submit(MINUTE, RejectLater(timedelta(seconds=30), "halted"))
    stage.cycle(Interval.MIN1)
    assert news(stage.go(at(10, 0, 40)).desk).startswith(f"rejected:{MINUTE}:")
    assert settled(stage).counts == {"rejected": 1}
    assert stage.row("orders")["reason"] == "halted"
