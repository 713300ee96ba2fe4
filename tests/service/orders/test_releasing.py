"""What a person's release of an order does when more happens to the order before, between and after."""

from datetime import timedelta
from decimal import Decimal

from tests.desks import OPEN, PERSON, bars, floor, market, strategy
from tests.service.orders.settlement.scripted import NAME, scripted
from trading_pipeline.adapters.brokers.paper_faults import Overfill
from trading_pipeline.domain.events import EventType as E
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.portfolio import Fill
from trading_pipeline.domain.strategies import FractionSizing
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
