"""26, 28, fault 22: what somebody else sells of a position, its stops and targets no longer sell."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest

from tests.desks import ALWAYS, NEVER, PERSON, Asked, at, floor, strategy
from tests.service.minutes import MINUTES, bracketed, minute_bars
from trading_pipeline.adapters.brokers.paper_faults import DropReply, Overfill, ShowLate, Withhold
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.cycles import action_id
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.orders import Side, client_id
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing
from trading_pipeline.service import controls
from trading_pipeline.service.orders.oversized import oversized
from trading_pipeline.service.orders.protection import is_exposed, protect
from trading_pipeline.service.orders.releasing import release
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


def test_under_a_stop_what_stands_for_shares_that_are_all_gone_is_called_back(stage):
    """26, 56: it covers nothing, and nothing has to be placed for it."""
    kept = replace(stage, desk=replace(stage.desk, keep_protective_stops=True))
    emergency.stop(kept.desk, reason="enough", actor=PERSON)
    sell(kept, 50)
    assert (resting(kept), told(kept)) == ([], [])


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


BUYERS_ENTRY, BUYERS_STOP = (client_id(action_id("buyer", "1min@2024-08-28T14:00Z", "AAPL"), part) for part in ("entry", "stop-1"))
LOWER = FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.1"), target=Decimal("0.05"))
"""Of strategies whose stops a dip to the buyer's does not reach."""


def overfilled(tmp_path, by, *names, withheld=(), **bars):
    """Fifty shares each; at the dip of 10:05 the buyer's stop sells more than its own, by so many."""
    source = minute_bars(**({"at": {at(10, 5): (100.0, 100.0, 94.0, 100.0)}} | bars))
    others = [bracketed(name=name, sizing=LOWER) for name in names]
    stage = floor(tmp_path, source, at(10, 0, 1), bracketed(), *others)
    stage.faults.on_submit(BUYERS_STOP, *([Overfill(by)] if by else [])).on_executions(*map(Withhold, withheld))
    stage.cycle(Interval.MIN1)
    for second in (20, 40):
        stage.go(at(10, 0, second)).release()
    assert stage.broker.positions() == {"AAPL": 50 * (1 + len(names))}
    for name in ("buyer", *names):
        controls.pause(stage.desk, name, actor=PERSON)
    return stage


def looked_at(stage, *instants):
    """The stops that rest, and what was told, once nothing changes any more."""
    for instant in instants:
        stage.go(instant).release()
    sent = stage.rows("orders")
    for _ in range(3):
        stage.go(stage.clock.now() + timedelta(seconds=40)).release()
    assert [(row["client_id"], row["state"]) for row in stage.rows("orders")] == [(row["client_id"], row["state"]) for row in sent]
    assert stage.verifies()
    return [many for kind, many in resting(stage) if kind == "stop"], told(stage)


AFTER = [at(10, 6, second) for second in (0, 5, 10)]
RELEASED = [at(10, 12, second) for second in (0, 5, 10)]


@pytest.mark.parametrize(
    ("by", "names", "left", "said", "released"),
    [
        (50, ("other",), [], [], []),
        (20, ("other",), [50], [(50, 30)], [30]),
        (50, ("other", "third"), [50], [], [50]),
        (30, ("other", "third"), [50, 50], [(100, 70)], [20, 50]),
        (60, ("other", "third"), [50], [(50, 40)], [50]),
    ],
)
def test_of_what_a_strategys_stop_has_sold_beyond_its_own_the_others_stops_sell_nothing(tmp_path, by, names, left, said, released):
    """26, 18, fault 18: book and account agree, and whose shares are gone nobody can tell. Until a person has released the symbol nothing
    could be placed in it: a stop goes only where the others cover all that is left.
    """
    stage = overfilled(tmp_path, by, *names)
    assert looked_at(stage, *AFTER) == (left, said)
    assert stage.broker.positions().get("AAPL", 0) == 50 * len(names) - by
    position = stage.row("positions", strategy="buyer")
    assert position["quantity"] == -by
    assert {event.cause for event in stage.events(EventType.PROTECTION_OVERSIZED)} <= {position["last_seq"]}
    release(stage.desk, BUYERS_STOP, actor=PERSON, typed="AAPL")
    assert looked_at(stage, *RELEASED) == (released, said)


def test_shares_of_the_owner_are_there_as_well_and_what_the_owner_has_sold_is_not(tmp_path):
    """26, 28, fault 18: the other strategy's stop over 50 stands while the account has 50, whoever they are booked for."""
    stage = overfilled(tmp_path, 50, "other")
    stage.broker.trade_by_hand("AAPL", Side.BUY, 50, Decimal(100))
    assert looked_at(stage, *AFTER) == ([50], [])
    stage.broker.trade_by_hand("AAPL", Side.SELL, 20, Decimal(100))
    assert looked_at(stage, *RELEASED) == ([50], [(50, 30)])
    stage.broker.trade_by_hand("AAPL", Side.SELL, 30, Decimal(100))
    assert looked_at(stage, *(at(10, 16, second) for second in (0, 5, 10))) == ([], [(50, 30)])


def test_a_target_whose_stop_is_gone_sells_nothing_that_another_strategys_stop_has_sold(tmp_path):
    """26, 18, fault 18: it is no stop, and would sell short all the same; beside a stop it is the one that goes."""
    stage = overfilled(tmp_path, 50, "other", "third")
    stage.broker.cancel(stage.row("orders", strategy="other", part="stop-1")["client_id"])
    stage.go(at(10, 6)).release()
    looked_at(stage, *AFTER[1:])
    assert resting(stage) == [("limit", 50), ("stop", 50)]
    assert {row["strategy"] for row in stage.rows("orders", state="accepted")} == {"third"}


def test_a_stop_that_sells_in_part_is_called_back_once_nothing_is_left_for_the_rest(tmp_path):
    """26, 18, fault 18: it sells 30 of its 50 shares, which are all that the account has, and is told of once."""
    dips = {at(10, 5): (100.0, 100.0, 94.0, 100.0)} | {at(10, minute): (100.0, 100.0, 88.0, 89.0) for minute in range(9, 16)}
    stage = overfilled(tmp_path, 20, "other", at=dips, volumes={at(10, minute): 100.0 for minute in range(8, 16)})
    assert looked_at(stage, *AFTER) == ([50], [(50, 30)])
    stage.go(at(10, 10, 30)).release()
    row = stage.row("orders", strategy="other", part="stop-1")
    assert (row["filled_quantity"], told(stage)) == (20, [(50, 30)])
    assert looked_at(stage, *(at(10, minute, 30) for minute in range(11, 15))) == ([], [(50, 30)])
    assert stage.broker.positions() == {}


def test_what_the_owner_buys_back_has_no_stop_and_a_person_is_told(tmp_path):
    """C12, 18, 27, fault 18: whose the shares are nobody can tell, so no stop is placed for them."""
    stage = overfilled(tmp_path, 50, "other")
    assert looked_at(stage, *AFTER) == ([], [])
    assert stage.events(EventType.POSITION_UNPROTECTED) == []
    stage.broker.trade_by_hand("AAPL", Side.BUY, 50, Decimal(100))
    assert looked_at(stage, *RELEASED) == ([], [])
    [alarm] = stage.events(EventType.POSITION_UNPROTECTED)
    assert (alarm.payload["strategy"], alarm.payload["symbol"], alarm.payload["quantity"]) == ("EXTERNAL", "AAPL", 50)


def test_what_is_not_placed_again_is_called_back_in_the_evening_too(tmp_path):
    """26, 18, fault 18: at the next open it would sell short at the first price."""
    stage = overfilled(tmp_path, 50, "other", at={at(15, 59): (100.0, 100.0, 94.0, 100.0)})
    assert looked_at(stage, *(at(16, 1, second) for second in (0, 5, 10))) == ([], [])


def test_a_sale_that_is_told_before_its_purchase_calls_nothing_back(tmp_path):
    """26, 19, 27: the buyer is below zero in the book alone, and the account's count says that the other's shares are there."""
    stage = overfilled(tmp_path, 0, "another", withheld=[BUYERS_ENTRY])
    assert looked_at(stage, *AFTER) == ([50], [])
    stage.faults.on_executions()
    assert looked_at(stage, *RELEASED) == ([50], [])
