"""26, 28, fault 22: what somebody else sells of a position, its stops and targets no longer sell."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest

from tests.desks import ALWAYS, NEVER, PERSON, Asked, at, floor, strategy
from tests.service.minutes import MINUTES, bracketed, minute_bars
from trading_pipeline.adapters.brokers.paper_faults import DropReply, ShowLate
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing
from trading_pipeline.service import controls
from trading_pipeline.service.orders.oversized import oversized
from trading_pipeline.service.orders.protection import is_exposed, protect
from trading_pipeline.service.steps import Tally
from trading_pipeline.service.stopping import emergency
from trading_pipeline.service.submitter.handover import lease_name


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


def test_what_is_called_back_at_the_next_open_is_nobodys_business_in_the_evening_and_the_rest_is_told_once(tmp_path):
    """26, fault 22: the desk looks twice a second, all night."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed(), bracketed(name="other"))
    stage.cycle(Interval.MIN1)
    for second in (20, 40):
        stage.go(at(10, 0, second)).release()
    sell(stage, 20, at(16, 30))
    notes = [looked_after(stage, at(16, 31, second)) for second in (0, 5, 10)]
    assert (told(stage), notes) == ([], [[], [], []])
    sell(stage, 40, at(16, 40))
    notes = [looked_after(stage, at(16, 41, second)) for second in (0, 5, 10)]
    assert (told(stage), notes) == ([(50, 40)], [[], [], []])
    assert resting(stage) == [("limit", 50), ("limit", 50), ("stop", 50), ("stop", 50)]
    for second in (5, 10):
        stage.go(at(9, 30, second, day=date(2024, 8, 29))).release()
    assert [many for kind, many in resting(stage) if kind == "stop"] == [50]
    assert len(told(stage)) == 1
    assert stage.verifies()


def looked_after(stage, instant):
    """What the desk's process says when it looks after what is held."""
    tally = Tally("desk", stage.go(instant).due(Interval.MIN1))
    if is_exposed(stage.desk):
        with stage.desk.ledger.lease(lease_name(stage.desk)) as fence:
            protect(stage.desk, fence, tally)
    return tally.notes


def test_an_excess_that_stays_as_large_while_its_exit_fills_is_told_once(tmp_path):
    """26: the owner sells 5 of 40 shares, and the exit of all of them fills minute by minute."""
    source = minute_bars(volumes={at(10, minute): 100.0 for minute in range(2, 30)})
    stage = floor(tmp_path, source, at(10, 0, 1), bracketed())
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 0, 5)).release()
    controls.revise(stage.desk, bracketed(agent=ExpressionAgent(NEVER, ALWAYS)), actor=PERSON)
    stage.go(at(10, 3, 1)).cycle(Interval.MIN1)
    assert stage.row("orders", part="exit")["state"] == "partial"
    stage.broker.trade_by_hand("AAPL", Side.SELL, 5, Decimal(100))
    for minute in range(3, 10):
        stage.go(at(10, minute, 30)).release()
    assert [selling - held for selling, held in told(stage)] == [5]
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


def test_stops_that_were_placed_again_for_an_exit_that_filled_after_all_are_called_back(tmp_path):
    """15, 26, 28, fault 6: the exit was given up as absent; what it sold of, another strategy's shares, would be sold at the next dip."""
    dip = {at(10, 20): (100.0, 100.0, 94.0, 100.0)}
    stage = floor(tmp_path, minute_bars(at=dip), at(10, 0, 1), bracketed(), strategy("other", **MINUTES))
    stage.cycle(Interval.MIN1)
    for second in (5, 10, 40):
        stage.go(at(10, 0, second)).release()
    assert stage.broker.positions() == {"AAPL": 100}
    controls.pause(stage.desk, "other", actor=PERSON)
    controls.revise(stage.desk, bracketed(agent=ExpressionAgent(NEVER, ALWAYS)), actor=PERSON)
    stage.faults.on_every_submit(DropReply(), ShowLate(timedelta(minutes=3)))
    stage.go(at(10, 2, 1)).cycle(Interval.MIN1)
    stage.faults.on_every_submit()
    controls.pause(stage.desk, "buyer", actor=PERSON)
    for minute, second in ((2, 30), (3, 5), (3, 10), (3, 20), (4, 0)):
        stage.go(at(10, minute, second)).release()
    assert stage.row("orders", part="exit")["state"] == "not_placed"
    assert [row["state"] for row in stage.rows("orders", part="stop-1.2")] == ["accepted"], "the position is protected again"
    for minute, second in ((5, 5), (5, 30), (6, 0), (22, 0)):
        stage.go(at(10, minute, second)).release()
    assert stage.row("orders", part="exit")["filled_quantity"] == 50
    assert resting(stage) == []
    assert stage.broker.positions() == {"AAPL": 50}
    assert told(stage) == [] and stage.events(EventType.ORDER_QUARANTINED) == []
    assert stage.verifies()
