"""A quarantine blocks its symbol until a person has released the order: the oracle accuses what is sent before that, and nothing after."""

from datetime import date, timedelta
from decimal import Decimal

import pytest

from tests.desks import OPEN, PERSON, Floor, at, bars, floor, market, strategy
from tests.oracle.forging import Forgery, record
from trading_pipeline.adapters.brokers.paper_faults import Overfill
from trading_pipeline.domain.cycles import action_id
from trading_pipeline.domain.events import EventType as E
from trading_pipeline.domain.orders import client_id
from trading_pipeline.domain.strategies import FractionSizing
from trading_pipeline.oracle import check
from trading_pipeline.service.orders.releasing import release

NAME = client_id(action_id("buyer", "1d@2024-08-27T20:00Z", "AAPL"), "entry")
NEXT_OPEN = at(9, 30, day=date(2024, 8, 29))


@pytest.fixture
def released(tmp_path) -> Floor:
    """53 shares came of 50; a person released the order, and on the next day another strategy bought the same symbol."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy(sizing=FractionSizing(fraction=Decimal("0.05"))))
    stage.faults.on_submit(NAME, Overfill(3))
    stage.cycle()
    stage.go(OPEN + timedelta(minutes=2))
    release(stage.desk, NAME, actor=PERSON, typed="AAPL")
    stage.run(strategy("other")).go(NEXT_OPEN).cycle()
    assert len(stage.events(E.ORDER_SUBMITTED)) == 2
    return stage


def test_an_entry_after_the_release_is_no_violation(released):
    """17: the gate let it pass."""
    assert check(record(released.desk.ledger)) == []


def test_an_entry_without_a_release_is_one(released):
    """17: the same record, and nobody released anything."""
    forgery = Forgery(record(released.desk.ledger))
    [found] = check(forgery.drop(forgery.find("order.released")).chained())
    assert (found.number, "is under quarantine" in found.says) == (17, True)
