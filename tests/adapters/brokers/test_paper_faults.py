"""Each fault of INVARIANTS section 4 that concerns a broker can be scripted; the row is named in each test."""

import time
from datetime import timedelta
from decimal import Decimal

import pytest

from tests.adapters.brokers.paper_venue import CALM, OPEN, Venue, at, bracketed, buy, market_of, minutes, sell, venue
from trading_pipeline.adapters.brokers.paper_faults import (
    Call,
    CancelAfter,
    Correct,
    DropReply,
    Empty,
    FaultPlan,
    LoseRequest,
    NotReady,
    Overfill,
    Refuse,
    RejectLater,
    Repeat,
    Reverse,
    ShowLate,
    Slow,
    Withhold,
)
from trading_pipeline.domain.orders import Side
from trading_pipeline.errors import BrokerNotReady, BrokerRefused, MarketDataError, OutcomeUnknown
from trading_pipeline.ports import BrokerStatus

A = buy("A", 100, "105.00")


def faulty(plan: FaultPlan, *bars, **options) -> Venue:
    return venue(*(bars or (CALM, CALM, CALM)), faults=plan, **options)


def test_row_4_the_reply_is_dropped_and_the_order_is_placed_once():
    here = faulty(FaultPlan().on_submit("A", DropReply()))
    with pytest.raises(OutcomeUnknown):
        here.submit(A)
    assert here.order("A").status is BrokerStatus.FILLED
    assert here.broker.positions() == {"AAPL": 100}


@pytest.mark.parametrize("row", [5, 8])
def test_rows_5_and_8_the_request_never_arrives(row):
    here = faulty(FaultPlan().on_submit("A", LoseRequest()))
    with pytest.raises(OutcomeUnknown):
        here.submit(A)
    assert here.broker.orders(["A"]) == []
    assert here.fills() == []
    assert here.broker.positions() == {}


def test_row_6_an_order_with_its_fills_and_shares_is_visible_late():
    here = faulty(FaultPlan().on_submit("A", ShowLate(timedelta(seconds=90))))
    here.submit(A)
    here.go_to(at(1, 29))
    assert (here.broker.orders(["A"]), here.fills(), here.broker.positions()) == ([], [], {})
    here.go_to(at(1, 30))
    assert here.order("A").status is BrokerStatus.FILLED
    assert here.fills() == [("A", 100, "100.0300", OPEN)]
    assert here.broker.positions() == {"AAPL": 100}


def test_row_7_executions_come_twice_and_out_of_order():
    plan = FaultPlan().on_executions(Repeat(), Reverse())
    here = faulty(plan)
    here.submit(A)
    here.submit(buy("B", 10, "105.00"), at(1))
    assert [name for name, *_ in here.fills()] == ["B", "B", "A", "A"]
    plan.on_executions()
    assert [name for name, *_ in here.fills()] == ["A", "B"]


@pytest.mark.parametrize("call", list(Call))
def test_rows_9_10_24_any_call_can_find_no_session(call):
    here = faulty(FaultPlan().on_call(call, NotReady()))
    calls = {
        Call.SUBMIT: lambda: here.submit(A), Call.CANCEL: lambda: here.broker.cancel("A"), Call.ORDERS: here.broker.orders,
        Call.EXECUTIONS: here.fills, Call.POSITIONS: here.broker.positions, Call.ACCOUNT: here.broker.account,
    }
    with pytest.raises(BrokerNotReady):
        calls[call]()
    assert here.broker.orders(["A"]) == []
    calls[call]()


def test_row_10_a_submit_without_a_session_sends_nothing():
    here = faulty(FaultPlan().on_submit("A", NotReady()))
    with pytest.raises(BrokerNotReady):
        here.submit(A)
    assert here.broker.orders(["A"]) == []


def test_row_14_a_stream_that_drops_fills_shows_them_in_the_positions():
    plan = FaultPlan().on_executions(Withhold("A"))
    here = faulty(plan)
    here.submit(A)
    assert here.fills() == []
    assert here.broker.positions() == {"AAPL": 100}
    plan.on_executions()
    assert len(here.fills()) == 1


def test_row_16_a_slow_broker_takes_real_time():
    here = faulty(FaultPlan().on_submit("A", Slow(0.05)).on_call(Call.ORDERS, Slow(0.05)))
    began = time.monotonic()
    here.submit(A)
    here.broker.orders()
    assert time.monotonic() - began >= 0.1


def test_row_17_a_partial_fill_then_a_cancel_by_the_broker_leaves_the_bought_part_protected():
    here = faulty(FaultPlan().on_submit("E", CancelAfter(30)), CALM, ("97.00", "97.00", "97.00", "97.00", 10_000))
    here.submit(bracketed(100))
    assert (here.order("E").status, here.order("E").filled_quantity) == (BrokerStatus.CANCELED, 30)
    assert here.order("S").status is BrokerStatus.WORKING
    here.go_to(at(1))
    assert [fill[:2] for fill in here.fills()] == [("E", 30), ("S", 30)]
    assert here.broker.positions() == {}


def test_row_18_an_overfill_is_booked_as_it_is():
    here = faulty(FaultPlan().on_submit("A", Overfill(7)))
    here.submit(A)
    assert (here.order("A").status, here.order("A").filled_quantity) == (BrokerStatus.FILLED, 107)
    assert here.broker.positions() == {"AAPL": 107}


def test_row_19_an_accepted_order_is_rejected_later_and_its_cash_is_free_again():
    here = faulty(FaultPlan().on_submit("E", RejectLater(timedelta(seconds=2), "no longer allowed")))
    assert here.submit(bracketed()).status is BrokerStatus.WORKING
    assert here.broker.account().buying_power < 90_000
    here.go_to(at(0, 2))
    assert (here.order("E").status, here.order("E").reason) == (BrokerStatus.REJECTED, "no longer allowed")
    assert here.order("S").status is BrokerStatus.CANCELED
    assert here.broker.account().buying_power == 100_000
    assert here.fills() == []


def test_row_20_an_execution_is_delivered_again_with_another_price():
    plan = FaultPlan().on_executions(Correct("PAPER-1-1", Decimal("99.5")))
    here = faulty(plan)
    here.submit(A)
    assert [(fill.execution_id, fill.price) for _, fill in here.broker.executions(OPEN)] == [
        ("PAPER-1-1", Decimal("100.0300")), ("PAPER-1-1", Decimal("99.5")),
    ]


def test_rows_21_and_22_somebody_else_trades_in_the_account():
    here = faulty(FaultPlan())
    name = here.broker.trade_by_hand("AAPL", Side.BUY, 50, Decimal("99.00"))
    here.submit(A)
    here.broker.trade_by_hand("AAPL", Side.SELL, 150, Decimal("98.00"))
    assert here.broker.positions() == {}
    assert name.startswith("EXTERNAL")
    assert [fill[:3] for fill in here.fills()] == [(name, 50, "99.0000"), ("A", 100, "100.0300"), ("EXTERNAL-3", 150, "98.0000")]
    assert here.order(name).status is BrokerStatus.FILLED


def test_row_24_queries_can_answer_with_nothing():
    plan = FaultPlan().on_call(Call.POSITIONS, Empty()).on_call(Call.ORDERS, Empty()).on_call(Call.EXECUTIONS, Empty())
    here = faulty(plan)
    here.submit(A)
    assert (here.broker.positions(), here.broker.orders(["A"]), here.fills()) == ({}, [], [])
    assert (here.broker.positions(), len(here.broker.orders(["A"])), len(here.fills())) == ({"AAPL": 100}, 1, 1)


def test_a_structured_refusal_places_nothing():
    here = faulty(FaultPlan().on_submit("A", Refuse("margin call")))
    with pytest.raises(BrokerRefused, match="margin call"):
        here.submit(A)
    assert here.broker.orders(["A"]) == []


def test_a_market_source_that_fails_is_a_broker_that_is_not_ready_and_changes_nothing():
    class Silent:
        def __init__(self, inner):
            self.inner, self.silent = inner, False

        def __getattr__(self, name):
            if self.silent:
                raise MarketDataError("No answer.", rule="a source answers", remedy="wait")
            return getattr(self.inner, name)

    market = Silent(market_of(minutes(CALM, CALM, CALM)))
    here = Venue(market)
    here.submit(bracketed())
    market.silent = True
    here.go_to(at(1, 30))
    for call in (here.broker.orders, here.broker.account, here.fills, lambda: here.submit(A)):
        with pytest.raises(BrokerNotReady):
            call()
    market.silent = False
    assert here.broker.orders(["A"]) == []
    assert len(here.broker.orders()) == 2


def test_a_broker_can_be_one_that_never_answers_in_time():
    here = faulty(FaultPlan().on_every_submit(DropReply()).on_submit("B"))
    with pytest.raises(OutcomeUnknown):
        here.submit(A)
    here.submit(buy("B", 10, "105.00"))
    assert here.broker.positions() == {"AAPL": 110}


def test_a_broker_can_be_one_that_shows_every_order_late():
    here = faulty(FaultPlan().on_every_submit(ShowLate(timedelta(seconds=20))))
    here.submit(A)
    assert here.broker.orders(["A"]) == []
    here.go_to(at(0, 20))
    assert here.order("A").filled_quantity == 100
    here.submit(sell("B", 100, "95.00"))
    assert here.broker.positions() == {"AAPL": 100}
