"""The desk's process: it answers requests of runs, protects, and says that it is well; who loses the lease begins again."""

import threading
import time
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from tests.desks import DAY, OPEN, Floor, bars, floor, market, strategy
from tests.service.attending import attended
from tests.service.minutes import bracketed, minute_bars
from tests.waiting import until
from trading_pipeline import __version__
from trading_pipeline.adapters.brokers.latched import LatchedBroker
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.limits import AccountLimits
from trading_pipeline.domain.risk import World
from trading_pipeline.domain.strategies import Mode
from trading_pipeline.errors import MarketDataError, ServiceError
from trading_pipeline.service.cycle import STEPS
from trading_pipeline.service.execution import place_orders
from trading_pipeline.service.submitter import handover
from trading_pipeline.service.submitter.desk_process import attend

E = EventType


def decided(stage: Floor, interval: Interval = Interval.DAY1):
    """A cycle up to its verdicts."""
    cycle = stage.due(interval)
    for step in ("bars", "indicators", "charts", "signals", "verdicts"):
        STEPS[step](stage.desk, cycle)
    return cycle


def test_a_run_asks_the_desk_and_gets_its_answer(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    cycle = decided(stage)
    with attended(stage):
        result = place_orders(stage.desk, cycle)
    assert result.counts == {"submitted": 1, "accepted": 1}
    assert stage.row("orders")["state"] in ("accepted", "filled")
    [asked] = stage.events(E.ORDERS_REQUESTED)
    [submitted] = stage.events(E.ORDER_SUBMITTED)
    assert asked.seq < submitted.seq
    assert [event.type for event in stage.events(E.DESK_STARTED, E.DESK_STOPPED)] == [E.DESK_STARTED, E.DESK_STOPPED]


def test_without_a_desk_the_run_places_by_itself(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    result = place_orders(stage.desk, decided(stage))
    assert result.counts == {"submitted": 1, "accepted": 1}
    assert stage.events(E.ORDERS_REQUESTED) == []


def test_a_request_that_nobody_answered_is_found_by_the_next_desk(tmp_path):
    """The desk died with it: the run that asked is gone too, and what it wanted is still fresh."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    cycle = decided(stage)
    stage.desk.ledger.beat(handover.health_name(stage.desk), {"state": handover.READY, "version": __version__})
    asking = threading.Thread(target=place_orders, args=(stage.desk, cycle))
    asking.start()
    until(lambda: stage.events(E.ORDERS_REQUESTED), "the run has asked")
    with attended(stage):
        asking.join(20)
    assert stage.row("orders")["filled_quantity"] > 0
    assert len(stage.events(E.ORDER_SUBMITTED)) == 1


@pytest.mark.parametrize(("jump", "state"), [(-3600, "voided"), (-4, "pending"), (4, "pending"), (3600, "expired")])
def test_after_a_jump_of_the_machines_clock_no_approval_lives_longer_than_it_was_given(tmp_path, monkeypatch, jump, state):
    """72, D11, fault 45: five minutes were given; nobody can tell how many are left once the clock has gone back."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy(mode=Mode.APPROVAL))
    decided(stage)
    stage = replace(stage, desk=replace(stage.desk, world=World.LIVE))
    assert stage.row("approvals")["state"] == "pending"
    with attended(stage) as said:
        if jump > 0:
            stage.go(OPEN + timedelta(seconds=jump))
        wall = time.time
        monkeypatch.setattr("trading_pipeline.service.submitter.desk_process.time.time", lambda: wall() + jump)
        if abs(jump) > 5:
            until(lambda: any(f"jumped by {jump:+}" in each for each in said), "the jump is noticed")
        until(lambda: stage.row("approvals")["state"] == state, "its deadline is looked at anew")
        assert sum("jumped" in each for each in said) == (abs(jump) > 5)


def test_limits_that_are_tightened_while_a_desk_runs_bind_the_next_order_that_it_sends(tmp_path):
    """48, D17: the run that asks has read the settings anew; the desk keeps those that it was started with."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    cycle = decided(stage)
    with attended(stage):
        edited = replace(stage.desk, limits=AccountLimits(max_order_value=Decimal(1_000)))
        assert place_orders(edited, cycle).counts.get("accepted", 0) == 0
    assert stage.events(E.ORDER_SUBMITTED) == []
    assert [event.payload["version"] for event in stage.events(E.LIMITS_SET)] == [1, 2]
    assert stage.row("actions")["state"] == "voided"


def test_what_the_desk_cannot_do_is_told_to_the_run_that_asked(tmp_path, monkeypatch):
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    cycle = decided(stage)
    with attended(stage):
        def without_prices(*_: object) -> None:
            raise MarketDataError("AAPL has no price.", value="AAPL")

        monkeypatch.setattr(stage.desk.market, "quotes", without_prices)
        with pytest.raises(ServiceError, match="AAPL has no price"):
            place_orders(stage.desk, cycle)
        assert stage.events(E.ORDER_SUBMITTED) == []
        monkeypatch.undo()
        assert place_orders(stage.desk, cycle).counts["accepted"] == 1, "asked again, it tries again"
    assert len(stage.events(E.ORDERS_REFUSED)) == 1


def test_the_desk_books_fills_and_protects_without_being_asked(tmp_path):
    """C12: the broker has dropped the stop; nobody runs a cycle, and it is placed again."""
    stage = floor(tmp_path, minute_bars(), OPEN.replace(hour=14, minute=0, second=1), bracketed())
    stage.cycle(Interval.MIN1)
    for order in stage.broker.orders():
        stage.broker.cancel(order.client_id)
    with attended(stage):
        until(lambda: len(stage.broker.orders()) == 2, "stop and target are there again")
    assert [row["part"] for row in stage.rows("orders", order_type="stop", state="accepted")] == ["stop-1.2"]


def test_a_second_desk_waits_for_the_first(tmp_path):
    """22, T20."""
    stage = floor(tmp_path, market(bars()), OPEN)
    second = threading.Event()
    said: list[str] = []
    with attended(stage):
        waiting = threading.Thread(target=attend, args=(stage.desk, second.is_set, said.append))
        waiting.start()
        until(lambda: said, "the second has come")
        assert said == ["Waiting for the lease of PAPER-1."]
        assert len(stage.events(E.DESK_STARTED)) == 1
    until(lambda: len(stage.events(E.DESK_STARTED)) == 2, "the second has taken over")
    second.set()
    waiting.join(20)
    tokens = [event.payload["token"] for event in stage.events(E.DESK_STARTED)]
    assert tokens == sorted(set(tokens))


def test_a_desk_that_waits_for_another_one_stops_when_it_is_told_to(tmp_path):
    """22: the first goes on, and the second has begun nothing."""
    stage = floor(tmp_path, market(bars()), OPEN)
    stop = threading.Event()
    said: list[str] = []
    with attended(stage):
        waiting = threading.Thread(target=attend, args=(stage.desk, stop.is_set, said.append), daemon=True)
        waiting.start()
        until(lambda: said, "the second has come")
        stop.set()
        waiting.join(5)
        assert not waiting.is_alive()
    assert said == ["Waiting for the lease of PAPER-1."]
    assert len(stage.events(E.DESK_STARTED)) == 1


def test_a_desk_whose_lease_was_revoked_begins_again_from_the_start(tmp_path):
    """52: an emergency stop of the account raises the fence."""
    stage = floor(tmp_path, market(bars()), OPEN)
    with attended(stage) as said:
        stage.desk.ledger.revoke(handover.lease_name(stage.desk))
        until(lambda: len(stage.events(E.DESK_STARTED)) == 2, "it has begun again")
    assert any(line.startswith("Begins again") for line in said)


def test_a_broker_that_needs_a_session_is_never_used_in_place(tmp_path):
    """78: without the desk's process nothing is sent to it."""

    class Remote(LatchedBroker):
        @property
        def capabilities(self):
            from dataclasses import replace

            return replace(super().capabilities, in_place=False)

    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    stage = stage.restarted(broker=Remote(stage.broker, stage.desk.latch))
    result = place_orders(stage.desk, decided(stage))
    assert result.notes == ("the desk's process does not run: nothing was sent",)
    assert stage.rows("orders") == []
    assert stage.due().session == DAY


def test_a_desk_of_another_version_is_asked_nothing(tmp_path):
    """Fault 68."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    cycle = decided(stage)
    stage.desk.ledger.beat(handover.health_name(stage.desk), {"state": handover.READY, "version": "0.0.1"})
    with pytest.raises(ServiceError, match=r"version 0\.0\.1"):
        place_orders(stage.desk, cycle)
    assert stage.rows("orders") == []


def test_a_run_that_meets_a_desk_coming_up_waits_for_it(tmp_path):
    """The lease is taken, and nobody answers yet: a moment later the desk does."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    cycle = decided(stage)
    with stage.desk.ledger.lease(handover.lease_name(stage.desk)):
        asking = threading.Thread(target=place_orders, args=(stage.desk, cycle))
        asking.start()
        time.sleep(0.1)
        assert stage.rows("orders") == []
    with attended(stage):
        asking.join(20)
    assert len(stage.events(E.ORDER_SUBMITTED)) == 1
