"""An exit goes out once what it takes the place of is confirmed to be over, and none is lost because a broker was silent for a moment."""

import time
from dataclasses import replace

import pytest

from tests.desks import ALWAYS, NEVER, PERSON, at, floor
from tests.service.minutes import bracketed, minute_bars
from trading_pipeline.adapters.brokers.paper_book import PaperSettings
from trading_pipeline.adapters.brokers.paper_faults import Call, NotReady
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.risk import World
from trading_pipeline.domain.strategies import ExpressionAgent
from trading_pipeline.service import controls, execution
from trading_pipeline.service.orders.settlement import cancel
from trading_pipeline.service.steps import Tally


def leaving(tmp_path, *, deduplicates=True):
    """Fifty shares under a stop and a target, and a strategy that wants to sell them with the next bar."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed(), settings=PaperSettings(deduplicates=deduplicates))
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 0, 5)).release()
    controls.revise(stage.desk, bracketed(agent=ExpressionAgent(NEVER, ALWAYS)), actor=PERSON)
    return stage.go(at(10, 3, 1))


def sold_once(stage):
    """Go on until nothing is held."""
    stage.cycle(Interval.MIN1)
    for second in (5, 10, 40, 50):
        stage.go(at(10, 3, second)).release()
    assert stage.broker.positions() == {}
    assert [row["state"] for row in stage.rows("orders", order_class="X")] == ["filled"]
    assert stage.broker.orders() == []
    assert stage.verifies()


@pytest.mark.parametrize("deduplicates", [True, False])
@pytest.mark.parametrize("blind", range(1, 11))
def test_an_exit_goes_out_whichever_look_at_the_brokers_orders_fails(tmp_path, blind, deduplicates):
    """C12, 26, fault 10: its stop and target were cancelled for it already, or not yet."""
    stage = leaving(tmp_path, deduplicates=deduplicates)
    stage.faults.on_call(Call.ORDERS, *[None] * (blind - 1), NotReady())
    sold_once(stage)


@pytest.mark.parametrize("call", [Call.POSITIONS, Call.EXECUTIONS, Call.CANCEL])
@pytest.mark.parametrize("blind", range(3, 10))
def test_an_exit_in_slices_goes_out_whole_whichever_call_fails(tmp_path, monkeypatch, call, blind):
    """C12, 27, fault 10: that nobody can compare for a moment is no reason to keep what was to be sold."""
    monkeypatch.setattr(execution, "exit_slices", lambda quantity, reference: [20] * (quantity // 20) + [10] * (quantity % 20 // 10))
    stage = leaving(tmp_path, deduplicates=blind % 2 == 0)
    stage.faults.on_call(call, *[None] * (blind - 1), NotReady())
    stage.cycle(Interval.MIN1)
    for minute in (3, 4):
        for second in (5, 10, 40, 50):
            stage.go(at(10, minute, second)).release()
    assert (stage.broker.positions(), stage.broker.orders()) == ({}, [])
    assert sum(row["filled_quantity"] for row in stage.rows("orders", order_class="X")) == 50
    assert stage.verifies()


class Tardy:
    """A broker that takes a while to cancel: as many looks at its orders."""

    def __init__(self, broker, looks):
        self._broker, self._looks, self._asked = broker, looks, {}

    def __getattr__(self, name):
        return getattr(self._broker, name)

    def cancel(self, client_id):
        self._asked.setdefault(client_id, self._looks)

    def orders(self, client_ids=None):
        for client_id in [name for name, looks in self._asked.items() if looks <= 0]:
            self._broker.cancel(client_id)
        self._asked = {name: looks - 1 for name, looks in self._asked.items() if looks > 0}
        return self._broker.orders(client_ids)


@pytest.mark.parametrize("looks", [1, 12, 40])
def test_an_exit_waits_for_a_broker_that_takes_a_while_to_cancel(tmp_path, looks):
    """C12, 26: sent beside its stop it could sell twice; the gate would deny it, and the signal would be lost."""
    stage = leaving(tmp_path)
    stage.desk = replace(stage.desk, broker=Tardy(stage.desk.broker, looks))
    sold_once(stage)
    exits = [event.seq for event in stage.events(EventType.ORDER_SUBMITTED) if event.payload["ticket"]["side"] == "sell"]
    over = [event.seq for event in stage.events(EventType.ORDER_CANCELED)]
    assert max(over) < exits[-1]


def test_an_exit_whose_stop_cannot_be_cancelled_is_not_sent_beside_it(tmp_path):
    """26: it stays ready, and the stop goes on."""
    stage = leaving(tmp_path)
    stage.desk = replace(stage.desk, broker=Tardy(stage.desk.broker, 10_000))
    result = stage.cycle(Interval.MIN1)["orders"]
    assert result.counts["waiting"] == 1
    assert stage.row("actions", side="sell")["state"] == "ready"
    assert stage.rows("orders", order_class="X") == []
    assert {order.ticket.order_type.value for order in stage.broker.orders()} == {"stop", "limit"}
    assert stage.verifies()


@pytest.mark.parametrize(("looks", "over"), [(3, True), (10_000, False)])
def test_where_time_goes_on_by_itself_a_broker_is_given_a_moment_and_no_more(tmp_path, monkeypatch, looks, over):
    """C12: whoever looks holds the lease meanwhile."""
    monkeypatch.setattr(execution, "_MOST_SECONDS", 0.5)
    stage = leaving(tmp_path)
    live = replace(stage.desk, world=World.LIVE, broker=Tardy(stage.desk.broker, looks))
    tally = Tally("test", stage.due(Interval.MIN1))
    stops = live.ledger.find("orders", order_class="P", state="accepted")
    cancel(live, stops, "test", PERSON, tally)
    began = time.monotonic()
    assert execution._are_over(live, stops, tally) is over
    assert time.monotonic() - began >= 0.1, "it has paused"
