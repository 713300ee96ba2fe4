"""A broker that loses orders which it had accepted: what the ledger has at work is held against what the broker shows (invariant 20)."""

from datetime import timedelta
from decimal import Decimal

import pytest

from tests.desks import OPEN, Floor, at, bars, floor, market, strategy
from tests.service.attending import attended
from tests.service.minutes import bracketed, minute_bars
from tests.service.orders.settlement.scripted import settled, tally
from tests.waiting import until
from trading_pipeline.adapters.brokers.latched import LatchedBroker
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType as E
from trading_pipeline.domain.strategies import FractionSizing
from trading_pipeline.service.orders.absence import doubt_unshown
from trading_pipeline.service.orders.protection import protect
from trading_pipeline.service.record.judgement import judge
from trading_pipeline.service.submitter import desk_process
from trading_pipeline.service.submitter.handover import lease_name


class Forgetful(LatchedBroker):
    """Shows nothing of some orders; those it has dropped do not work any more either."""

    def __init__(self, stage: Floor) -> None:
        super().__init__(stage.broker, stage.desk.latch)
        self.hidden: set[str] = set()
        self.answers = 0

    def orders(self, client_ids=None):
        self.answers += 1
        return [order for order in super().orders(client_ids) if order.client_id not in self.hidden]

    def drop(self, client_id: str) -> None:
        self.cancel(client_id)
        self.hidden.add(client_id)


def forgetful(stage: Floor) -> tuple[Floor, Forgetful]:
    """A fresh process over the same record with such a broker."""
    broker = Forgetful(stage)
    return stage.restarted(broker=broker), broker


@pytest.fixture
def stage(tmp_path) -> Floor:
    """Holds fifty shares of AAPL under a stop."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy(sizing=FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.05"))))
    stage.cycle()
    return stage


def looked(stage: Floor, *seconds: float) -> dict[str, str]:
    """Look so long after the open; the states of all orders by part."""
    missed = {}
    for each in seconds:
        missed = doubt_unshown(stage.go(OPEN + timedelta(seconds=each)).desk, missed, tally(stage))
    return {row["part"]: row["state"] for row in stage.rows("orders")}


def test_a_stop_that_the_broker_lost_is_placed_again(stage, monkeypatch):
    """20, 15, C12: the desk misses it twice, doubts it, finds it absent twice more, and protects the position anew."""
    monkeypatch.setattr(desk_process, "RECONCILE_SECONDS", 0.05)
    monkeypatch.setattr(desk_process, "SETTLE_SECONDS", 0.05)
    stage, broker = forgetful(stage)
    broker.drop(stage.row("orders", part="stop-1")["client_id"])
    with attended(stage) as said:
        for seconds, state in ((66, "accepted"), (72, "unknown"), (78, "canceled")):
            stage.go(OPEN + timedelta(seconds=seconds))
            until(lambda state=state: stage.rows("orders", part="stop-1", state=state), f"its stop is {state}")
            taken = broker.answers
            until(lambda taken=taken: broker.answers > taken + 9, "some turns more")
        until(lambda: stage.rows("orders", part="stop-1.2", state="accepted"), "it is protected")
    assert stage.row("orders", part="stop-1")["state"] == "canceled"
    assert [order.ticket.quantity for order in stage.broker.orders()] == [50]
    assert any("the broker has it no more" in line for line in said)
    assert judge(stage.desk.ledger).violations == ()
    assert stage.verifies()


def test_an_order_is_doubted_after_two_looks_past_the_visibility_window_and_five_seconds_apart(stage):
    """20, 15: to the second, and one empty answer says nothing."""
    stage, broker = forgetful(stage)
    broker.drop(stage.row("orders", part="stop-1")["client_id"])
    assert looked(stage, 40, 59.999, 60, 64.999)["stop-1"] == "accepted"
    assert looked(stage, 70)["stop-1"] == "accepted", "what was missed by another process is looked for anew"
    assert looked(stage, 80, 85) == {"entry": "filled", "stop-1": "unknown"}
    assert [event.payload["reason"] for event in stage.events(E.ORDER_UNKNOWN)] == [
        "the broker has it no more: it was accepted, and two answers did not show it"
    ]
    assert stage.verifies()


def test_an_order_that_shows_again_between_two_looks_is_not_doubted(stage):
    """20, 15."""
    stage, broker = forgetful(stage)
    stop = stage.row("orders", part="stop-1")["client_id"]
    missed = {}
    for seconds, hidden in ((60, {stop}), (70, set()), (80, {stop})):
        broker.hidden = hidden
        missed = doubt_unshown(stage.go(OPEN + timedelta(seconds=seconds)).desk, missed, tally(stage))
    assert stage.row("orders", part="stop-1")["state"] == "accepted"


def test_a_doubted_order_that_shows_again_works_on_with_what_it_has_filled_as_often_as_that_happens(tmp_path):
    """20, 19: its stop counts for the position again, and what it fills afterwards is booked."""
    volumes = {at(9, 59): 200.0} | {at(10, minute): 0.0 for minute in range(8)}
    stage = floor(tmp_path, minute_bars(volumes=volumes), at(10, 0, 1), bracketed())
    stage.cycle(Interval.MIN1)
    stage, broker = forgetful(stage)
    shares = stage.row("positions")["quantity"]
    names = {row["client_id"] for row in stage.rows("orders")}
    for minute in (2, 4):
        broker.hidden, missed = names, {}
        for seconds in (0, 6):
            missed = doubt_unshown(stage.go(at(10, minute, seconds)).desk, missed, tally(stage))
        assert {row["state"] for row in stage.rows("orders")} == {"unknown"}
        broker.hidden = set()
        settled(stage)
        assert {row["state"] for row in stage.rows("orders")} == {"accepted"}
        assert stage.row("orders", part="entry")["filled_quantity"] == shares == 20
    settled(stage, at(10, 12))
    assert stage.row("orders", part="entry")["state"] == "filled"
    assert (stage.row("positions")["quantity"], len(stage.broker.orders())) == (50, 2)
    assert judge(stage.desk.ledger).violations == ()
    assert stage.verifies()


def test_an_entry_that_was_doubted_while_it_filled_is_cancelled_when_its_stop_is_gone(tmp_path):
    """C12: found again it is accepted, and has bought something."""
    volumes = {at(9, 59): 200.0} | {at(10, minute): 0.0 for minute in range(8)}
    stage = floor(tmp_path, minute_bars(volumes=volumes), at(10, 0, 1), bracketed())
    stage.cycle(Interval.MIN1)
    stage, broker = forgetful(stage)
    entry, stop = (stage.row("orders", part=part)["client_id"] for part in ("entry", "stop-1"))
    broker.hidden, missed = {entry}, {}
    broker.drop(stop)
    for seconds in (0, 6):
        missed = doubt_unshown(stage.go(at(10, 2, seconds)).desk, missed, tally(stage))
    broker.hidden = {stop}
    for seconds in (7, 13):
        settled(stage, at(10, 2, seconds))
    assert [stage.row("orders", part=part)["state"] for part in ("entry", "stop-1")] == ["accepted", "canceled"]
    with stage.desk.ledger.lease(lease_name(stage.desk)) as fence:
        protect(stage.desk, fence, tally(stage))
    assert stage.row("orders", part="entry")["state"] == "canceled"


def test_a_vanished_order_whose_shares_are_not_explained_becomes_a_persons(stage):
    """20, 27: the position is gone and nobody told of a sale: nothing is placed in its place."""

    class Sold(Forgetful):
        def positions(self):
            return {}

    broker = Sold(stage)
    stage = stage.restarted(broker=broker)
    stop = stage.row("orders", part="stop-1")["client_id"]
    broker.drop(stop)
    assert looked(stage, 1000, 1006)["stop-1"] == "unknown"
    notes = settled(stage, OPEN + timedelta(seconds=1010)).notes
    assert notes == [f"the order {stop} of AAPL: not resolved within 15 minutes: compare the account with the ledger by hand"]
    settled(stage, OPEN + timedelta(seconds=1020))
    assert {row["part"]: row["state"] for row in stage.rows("orders")} == {"entry": "filled", "stop-1": "unknown"}
