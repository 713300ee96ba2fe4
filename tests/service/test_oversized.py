"""26, 28, fault 22: what somebody else sells of a position, its stops and targets no longer sell."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from tests.desks import PERSON, Asked, at, floor
from tests.service.minutes import bracketed, minute_bars
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.strategies import FractionSizing
from trading_pipeline.service import emergency
from trading_pipeline.service.oversized import oversized


@pytest.fixture
def stage(tmp_path):
    """Fifty shares under a stop and a target."""
    made = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    made.cycle(Interval.MIN1)
    return made


def sell(stage, quantity, when=None):
    stage.go(when or at(10, 1, 0)).broker.trade_by_hand("AAPL", Side.SELL, quantity, Decimal(100))
    for _ in range(2):
        stage.release()
        stage.go(stage.clock.now() + timedelta(seconds=5))


def resting(stage):
    return sorted((order.ticket.order_type.value, order.ticket.quantity) for order in stage.broker.orders())


def told(stage):
    """(shares that could be sold, shares left) of what a person has been told."""
    return [(event.payload["selling"], event.payload["held"]) for event in stage.events(EventType.PROTECTION_OVERSIZED)]


def test_they_are_placed_again_for_what_is_left(stage):
    sell(stage, 20)
    assert told(stage) == []
    assert resting(stage) == [("limit", 30), ("stop", 30)]
    assert stage.events(EventType.POSITION_UNPROTECTED) == []
    assert oversized(stage.desk) == []
    sent = stage.rows("orders")
    stage.release()
    assert stage.rows("orders") == sent
    assert stage.verifies()


def test_nothing_rests_for_shares_that_are_all_gone(stage):
    sell(stage, 50)
    assert resting(stage) == []


def test_what_others_hold_of_their_own_they_may_sell(stage):
    stage.go(at(10, 0, 30)).broker.trade_by_hand("AAPL", Side.BUY, 20, Decimal(100))
    sell(stage, 20)
    assert resting(stage) == [("limit", 50), ("stop", 50)]


def test_under_a_stop_nothing_is_called_back(stage):
    """56: what the settings keep stays, for it could not be placed again."""
    kept = replace(stage, desk=replace(stage.desk, keep_protective_stops=True))
    emergency.stop(kept.desk, reason="enough", actor=PERSON)
    sell(kept, 20)
    assert ("stop", 50) in resting(kept)
    assert told(kept) == [(50, 30)]
    sell(kept, 10, at(10, 2, 0))
    assert told(kept) == [(50, 30), (50, 20)]


@pytest.mark.parametrize(("sold", "left", "said"), [(20, [30, 50], []), (60, [50], [(50, 40)]), (100, [], [])])
def test_whose_shares_are_gone_nobody_can_tell_and_what_is_left_stays_covered(tmp_path, sold, left, said):
    """Of two strategies' 50 each: the newest bracket gives way, and none whose shares could not be covered again. A person knows."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed(), bracketed(name="other"))
    stage.cycle(Interval.MIN1)
    for second in (20, 40):
        stage.go(at(10, 0, second)).release()
    assert resting(stage) == [("limit", 50), ("limit", 50), ("stop", 50), ("stop", 50)]
    sell(stage, sold, at(10, 2, 30))
    assert [many for kind, many in resting(stage) if kind == "stop"] == left
    for second in (40, 50):
        stage.go(at(10, 2, second)).release()
    assert told(stage) == said, "once"
    assert stage.verifies()


def test_what_is_left_of_two_strategies_shares_is_told_for_the_account_when_its_stop_is_gone(tmp_path):
    """27, 28, 85: of 100 shares 60 were sold by somebody else, which is more than either strategy has."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed(), bracketed(name="other"))
    stage.cycle(Interval.MIN1)
    for second in (20, 40):
        stage.go(at(10, 0, second)).release()
    sell(stage, 60, at(10, 2, 30))
    assert stage.events(EventType.POSITION_UNPROTECTED) == []
    for order in stage.broker.orders():
        stage.broker.cancel(order.client_id)
    for second in (0, 5, 40):
        stage.go(at(10, 4, second)).release()
    [told] = stage.events(EventType.POSITION_UNPROTECTED)
    assert (told.stream, told.payload["strategy"], told.payload["symbol"], told.payload["quantity"]) == ("account", "EXTERNAL", "AAPL", 40)
    assert "nobody can tell" in told.payload["reason"]
    assert stage.verifies()


class Insistent(Asked):
    """Wants more of what it holds already."""

    def decide(self, questions):
        return super().decide([replace(question, bars_held=None) for question in questions])


def test_a_target_without_its_stop_gives_way_to_the_stop_of_another_entry(tmp_path):
    """26, 28, fault 22: of two entries with 40 shares each somebody sold 40, and the broker drops the stop that is left."""
    sizing = FractionSizing(fraction=Decimal("0.0405"), stop=Decimal("0.05"), target=Decimal("0.05"))
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed(sizing=sizing), deciders={"rules": Insistent()})
    for minute in (0, 1):
        stage.go(at(10, minute, 1)).cycle(Interval.MIN1)
    assert resting(stage) == [("limit", 40), ("limit", 40), ("stop", 40), ("stop", 40)]
    sell(stage, 40, at(10, 1, 30))
    assert resting(stage) == [("limit", 40), ("stop", 40)]
    [stop] = [order.client_id for order in stage.broker.orders() if order.ticket.stop_price]
    older, newer = stage.rows("orders", part="stop-1", order_by="intent_seq")
    assert (stop, newer["state"]) == (older["client_id"], "canceled")

    stage.broker.cancel(stop)
    for second in (50, 52, 54):
        stage.go(at(10, 1, second)).release()
    assert resting(stage) == [("limit", 40), ("stop", 40)]
    assert stage.events(EventType.POSITION_UNPROTECTED) == []
    assert stage.verifies()
