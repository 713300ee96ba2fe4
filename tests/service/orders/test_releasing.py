"""What a person's release of an order does when more happens to the order before, between and after."""

from datetime import timedelta
from decimal import Decimal

import pytest

from tests.desks import OPEN, PERSON, at, bars, floor, market, strategy
from tests.service.minutes import minute_bars
from tests.service.orders.settlement.scripted import MINUTE, NAME, scripted, settled
from trading_pipeline.adapters.brokers.latched import LatchedBroker
from trading_pipeline.adapters.brokers.paper_faults import DropReply, Overfill, ShowLate
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType as E
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.portfolio import Fill
from trading_pipeline.domain.strategies import FractionSizing
from trading_pipeline.errors import Conflict
from trading_pipeline.service.orders.releasing import release


def test_an_order_that_is_set_aside_again_is_released_again(tmp_path):
    """17, 18: 53 shares came of 50; after the release an execution of the order came that makes no sense."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy(sizing=FractionSizing(fraction=Decimal("0.05"))))
    stage.faults.on_submit(NAME, Overfill(3))
    stage.cycle()
    stage.go(OPEN + timedelta(minutes=2))
    first = release(stage.desk, NAME, actor=PERSON, typed="AAPL")
    stage, broker = scripted(stage)
    nonsense = Fill("X-1", NAME, "AAPL", Side.BUY, 5, Decimal("NaN"), Decimal(1), OPEN + timedelta(seconds=2))
    broker.more.append((NAME, nonsense))
    stage.go(OPEN + timedelta(minutes=3)).release()
    assert stage.row("orders")["state"] == "quarantined"
    second = release(stage.desk, NAME, actor=PERSON, typed="AAPL")
    assert stage.row("orders")["state"] == "canceled"
    assert [event.seq for event in stage.events(E.ORDER_RELEASED)] == [first.seq, second.seq]
    assert stage.verifies()


def test_an_order_that_is_found_at_work_while_it_is_released_works_on(tmp_path):
    """16, 17: the broker showed it after the person had looked and before the release was written down."""
    quiet = {at(9, 59): 0.0} | {at(10, minute): 0.0 for minute in range(20)}
    spec = strategy(interval=Interval.MIN1)
    stage = floor(tmp_path, minute_bars(volumes=quiet), at(10, 0, 1), spec)
    stage.faults.on_submit(MINUTE, ShowLate(timedelta(seconds=62)), DropReply())
    stage.cycle(Interval.MIN1)
    desks_own = stage.restarted()

    class Late(LatchedBroker):
        def positions(self):
            settled(desks_own, at(10, 1, 4))
            return super().positions()

    person = stage.restarted(broker=Late(stage.desk.broker, stage.desk.latch))
    stage.go(at(10, 1, 1.5))
    with pytest.raises(Conflict, match=f"The order {MINUTE} is accepted"):
        release(person.desk, MINUTE, actor=PERSON, typed="AAPL")
    assert (stage.row("orders")["state"], [order.client_id for order in stage.broker.orders()]) == ("accepted", [MINUTE])
    assert stage.events(E.ORDER_RELEASED) == []
    assert stage.verifies()
