"""What a ledger that was put back knows of stops and exits that went to the broker in the lost stretch, and protects all the same (C14)."""

from datetime import date, timedelta
from decimal import Decimal

import pytest

from tests.desks import ALWAYS, DAY, NEVER, OPEN, PERSON, Floor, at, bars, floor, market, strategy
from tests.faults.restored import backup, before_its_orders
from tests.service.replaying import replayed
from trading_pipeline.adapters.brokers.paper_book import PaperSettings
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.cycles import action_id
from trading_pipeline.domain.events import EventType as E
from trading_pipeline.domain.orders import Side, client_id
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing
from trading_pipeline.service import controls
from trading_pipeline.service.stopping import emergency

ACTION = action_id("buyer", "1d@2024-08-27T20:00Z", "AAPL")
STOP, AGAIN = client_id(ACTION, "stop-1"), client_id(ACTION, "stop-1.2")
STOPPED = FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.05"))
PAIRED = FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.05"), target=Decimal("0.1"))


def released(stage: Floor, *seconds: int) -> None:
    """Turns so many seconds after the open."""
    for each in seconds:
        stage.go(OPEN + timedelta(seconds=each)).release()


def stops(stage: Floor, symbol: str = "AAPL") -> list[tuple[str, str, int]]:
    """(part, state, shares) of every stop of a symbol, as the ledger has them."""
    rows = stage.rows("orders", symbol=symbol, order_type="stop", order_by="last_seq")
    return [(row["part"], row["state"], row["quantity"]) for row in rows]


def unprotected(stage: Floor) -> list[tuple[str, int, str]]:
    """What was told to have no stop."""
    told = [event.payload for event in stage.events(E.POSITION_UNPROTECTED)]
    return [(each["symbol"], each["quantity"], each["reason"]) for each in told]


def replaced_in_a_lost_stretch(tmp_path, sizing: FractionSizing = STOPPED) -> Floor:
    """Two strategies' positions under stops; AAPL's is dropped by the broker and placed again, and the ledger knows nothing of that."""
    other = strategy("other", symbols=("MSFT",), sizing=STOPPED)
    stage = floor(tmp_path, market(bars(), bars("MSFT")), OPEN, strategy(sizing=sizing), other)
    stage.cycle()
    released(stage, 3)
    earlier = backup(stage)
    stage.broker.cancel(STOP)
    released(stage, 5, 6, 7)
    assert stage.row("orders", client_id=AGAIN)["state"] == "accepted"
    return stage.restarted(ledger=earlier)


@pytest.mark.parametrize("sizing", [STOPPED, PAIRED])
def test_a_stop_that_was_taken_over_under_the_next_ones_name_keeps_nobody_else_from_being_protected(tmp_path, sizing):
    """C14, 26, 28, fault 35: its position is told once, with its name; another strategy's stop that the broker drops is placed again."""
    older = replaced_in_a_lost_stretch(tmp_path, sizing)
    released(older, 20, 30)
    assert older.row("orders", client_id=AGAIN)["part"] == "adopted"
    [(symbol, quantity, reason)] = unprotected(older)
    assert (symbol, quantity, AGAIN in reason) == ("AAPL", 50, True)
    emergency.clear(older.desk, actor=PERSON, typed="PAPER-1")
    older.broker.cancel(older.row("orders", symbol="MSFT", order_type="stop")["client_id"])
    released(older, 60, 120, 180)
    assert stops(older, "MSFT") == [("stop-1", "canceled", 50), ("stop-1.2", "accepted", 50)]
    assert sorted(order.ticket.symbol for order in older.broker.orders() if order.ticket.stop_price) == ["AAPL", "MSFT"]
    older.go(at(9, 30, 5, day=date(2024, 8, 29))).cycle()
    assert len(unprotected(older)) == 1
    assert older.verifies()


@pytest.mark.parametrize("sizing", [STOPPED, PAIRED])
def test_a_position_whose_stop_was_taken_over_and_ended_is_protected_under_the_name_after_it(tmp_path, sizing):
    """C14, 26, fault 35: the name that would be next has been the broker's already."""
    older = replaced_in_a_lost_stretch(tmp_path, sizing)
    released(older, 20)
    emergency.clear(older.desk, actor=PERSON, typed="PAPER-1")
    for order in older.broker.orders():
        if order.ticket.symbol == "AAPL":
            older.broker.cancel(order.client_id)
    released(older, 60, 70)
    assert stops(older) == [("stop-1", "canceled", 50), ("adopted", "canceled", 50), ("stop-1.3", "accepted", 50)]
    working = [order.ticket.stop_price for order in older.broker.orders() if order.ticket.symbol == "AAPL" and order.ticket.stop_price]
    assert working == [Decimal(95)]
    assert older.verifies()
    assert replayed(older).difference is None


def test_a_stop_that_ended_unfilled_in_a_lost_stretch_is_not_sent_again_under_its_name(tmp_path):
    """C14, 14, 26, fault 35: the broker would take the name twice; the position is protected under the one after it."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy(sizing=STOPPED), settings=PaperSettings(deduplicates=False))
    stage.cycle()
    released(stage, 3)
    earlier = backup(stage)
    stage.broker.cancel(STOP)
    released(stage, 5, 6)
    assert stage.row("orders", client_id=AGAIN)["state"] == "accepted"
    stage.broker.cancel(AGAIN)
    older = stage.restarted(ledger=earlier)
    released(older, 20, 30)
    assert (older.row("latches")["state"], len(older.broker.orders([AGAIN]))) == ("latched", 1)
    emergency.clear(older.desk, actor=PERSON, typed="PAPER-1")
    released(older, 60, 70)
    found = [(part, state) for part, state, _ in stops(older)]
    assert found == [("stop-1", "canceled"), ("adopted", "canceled"), ("stop-1.3", "accepted")]
    assert older.verifies()
    assert replayed(older).difference is None


def test_a_stop_that_sold_some_in_a_lost_stretch_and_ended_is_not_sent_again_under_its_name(tmp_path):
    """C14, 14, 26, fault 35: the ledger knows its name from an execution alone."""
    minutes = {"interval": Interval.MIN1, "sizing": STOPPED}
    fallen = {at(10, 3): (94.0,) * 4}
    table = bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=DAY, at=fallen, volumes={at(10, 2): 100.0, at(10, 3): 0.0})
    stage = floor(tmp_path, market(table), at(10, 0, 1), strategy(**minutes))
    stage.cycle(Interval.MIN1)
    entry = stage.row("orders", part="entry")
    stage.go(at(10, 0, 5)).release()
    earlier = backup(stage)
    stage.broker.cancel(client_id(entry["action_id"], "stop-1"))
    for second in (7, 9):
        stage.go(at(10, 0, second)).release()
    again = client_id(entry["action_id"], "stop-1.2")
    stage.go(at(10, 4, 5)).release()
    assert stage.row("orders", client_id=again)["filled_quantity"] == 10
    stage.broker.cancel(again)

    older = stage.restarted(ledger=earlier).go(at(10, 6, 5))
    older.release()
    emergency.clear(older.desk, actor=PERSON, typed="PAPER-1")
    for second in (10, 15):
        older.go(at(10, 6, second)).release()
    assert stops(older) == [("stop-1", "canceled", 50), ("stop-1.3", "accepted", 40)]
    assert len(older.broker.orders([again])) == 1
    assert older.verifies()
    assert replayed(older).difference is None, "the name that it skipped follows from the ledger"


def test_no_stop_goes_out_on_shares_that_a_sale_sells_which_was_taken_over(tmp_path):
    """C14, 26, 28, fault 35: the gate denies it before the broker would, and it is placed once the sale has ended."""
    table = bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=DAY, volumes={at(10, minute): 100.0 for minute in range(2, 30)})
    spec = strategy(interval=Interval.MIN1, sizing=STOPPED)
    stage = floor(tmp_path, market(table), at(10, 0, 1), spec)
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 0, 5)).release()
    earlier = backup(stage)
    leaving = strategy(interval=Interval.MIN1, sizing=STOPPED, agent=ExpressionAgent(NEVER, ALWAYS))
    controls.revise(stage.desk, leaving, actor=PERSON)
    stage.go(at(10, 3, 1)).cycle(Interval.MIN1)
    sale = stage.row("orders", part="exit")
    assert (sale["state"], sale["quantity"], sale["filled_quantity"]) == ("partial", 50, 10)

    older = stage.restarted(ledger=earlier).go(at(10, 3, 10))
    older.release()
    emergency.clear(older.desk, actor=PERSON, typed="PAPER-1")
    for second in (40, 45):
        older.go(at(10, 3, second)).release()
    assert stops(older) == [("stop-1", "canceled", 50)], "none was sent, and none refused"
    [(symbol, quantity, reason)] = unprotected(older)
    assert (symbol, quantity, "oversell" in reason) == ("AAPL", 40, True)

    older.broker.cancel(sale["client_id"])
    for second in (50, 55):
        older.go(at(10, 3, second)).release()
    assert stops(older) == [("stop-1", "canceled", 50), ("stop-1.2", "accepted", 40)]
    assert older.broker.positions() == {"AAPL": 40}
    assert older.verifies()


def test_a_pair_that_was_taken_over_sells_its_shares_once(tmp_path):
    """C14, 26, fault 35: another strategy's stop on the same symbol is placed again beside a stop and its target."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy(sizing=PAIRED), strategy("other", sizing=STOPPED))
    stage.cycle()
    released(stage, 3, 40, 45)
    earlier = backup(stage)
    stage.broker.cancel(STOP)
    released(stage, 50, 51, 52)
    older = stage.restarted(ledger=earlier)
    released(older, 60)
    emergency.clear(older.desk, actor=PERSON, typed="PAPER-1")
    older.broker.cancel(older.row("orders", strategy="other", order_type="stop")["client_id"])
    released(older, 90, 100)
    assert [(row["part"], row["state"]) for row in older.rows("orders", strategy="other", order_type="stop", order_by="last_seq")] == [
        ("stop-1", "canceled"), ("stop-1.2", "accepted"),
    ]
    assert [told[1] for told in unprotected(older)] == [50], "the one that the taken-over pair protects"
    assert older.verifies()


@pytest.mark.parametrize("sizing", [STOPPED, PAIRED])
def test_of_a_stop_that_was_taken_over_and_is_too_large_after_a_sale_by_hand_a_person_is_told(tmp_path, sizing):
    """C14, 26, 28, fault 22, fault 35: whose shares are gone nobody can tell, and it could sell more than are left."""
    older = replaced_in_a_lost_stretch(tmp_path, sizing)
    released(older, 20)
    emergency.clear(older.desk, actor=PERSON, typed="PAPER-1")
    older.go(OPEN + timedelta(seconds=60)).broker.trade_by_hand("AAPL", Side.SELL, 30, Decimal(100))
    released(older, 70, 80, 90)
    [told] = [event.payload for event in older.events(E.PROTECTION_OVERSIZED)]
    assert (told["symbol"], told["selling"], told["held"]) == ("AAPL", 50, 20)
    assert older.verifies()
    assert replayed(older).difference is None


def test_of_a_sale_that_was_taken_over_and_sells_more_than_is_left_a_person_is_told(tmp_path):
    """C14, 26, 28, fault 22, fault 35: what it was meant for nobody knows; it is no stop's target."""
    table = bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=DAY, volumes={at(10, minute): 0.0 for minute in range(2, 30)})
    stage = floor(tmp_path, market(table), at(10, 0, 1), strategy(interval=Interval.MIN1))
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 0, 5)).release()
    earlier = backup(stage)
    controls.revise(stage.desk, strategy(interval=Interval.MIN1, agent=ExpressionAgent(NEVER, ALWAYS)), actor=PERSON)
    stage.go(at(10, 3, 1)).cycle(Interval.MIN1)
    assert stage.row("orders", part="exit")["state"] == "accepted"

    older = stage.restarted(ledger=earlier).go(at(10, 3, 10))
    older.release()
    emergency.clear(older.desk, actor=PERSON, typed="PAPER-1")
    older.broker.trade_by_hand("AAPL", Side.SELL, 30, Decimal(100))
    for second in (20, 30, 40):
        older.go(at(10, 3, second)).release()
    [told] = [event.payload for event in older.events(E.PROTECTION_OVERSIZED)]
    assert (told["symbol"], told["selling"], told["held"]) == ("AAPL", 50, 20)
    assert older.verifies()


@pytest.mark.parametrize("sold", [30, 50])
def test_of_an_entry_that_was_taken_over_with_its_stop_and_sold_by_hand_a_person_is_told(tmp_path, sold):
    """C14, 26, 28, fault 22, fault 35: its shares are nobody's, and its stop rests on more than are left."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy(sizing=STOPPED))
    older = stage.restarted(ledger=before_its_orders(stage)).go(OPEN + timedelta(seconds=20))
    older.release()
    emergency.clear(older.desk, actor=PERSON, typed="PAPER-1")
    released(older, 40, 50)
    assert older.events(E.PROTECTION_OVERSIZED) == []
    older.go(OPEN + timedelta(seconds=60)).broker.trade_by_hand("AAPL", Side.SELL, sold, Decimal(100))
    released(older, 70, 80, 90)
    [told] = [event.payload for event in older.events(E.PROTECTION_OVERSIZED)]
    assert (told["symbol"], told["selling"], told["held"]) == ("AAPL", 50, 50 - sold)
    assert older.verifies()


def test_an_entry_that_was_taken_over_while_it_rests_is_no_excess(tmp_path):
    """C14, 26: its stop waits for what it buys."""
    idle = {at(9, 59): 0.0} | {at(10, minute): 0.0 for minute in range(10)}
    table = bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=DAY, volumes=idle)
    stage = floor(tmp_path, market(table), at(10, 0, 1), strategy(interval=Interval.MIN1, sizing=STOPPED))
    older = stage.restarted(ledger=before_its_orders(stage, Interval.MIN1)).go(at(10, 0, 3))
    for second in (3, 10, 20):
        older.go(at(10, 0, second)).release()
    assert {(row["part"], row["state"]) for row in older.rows("orders")} == {("adopted", "accepted")}
    assert older.events(E.PROTECTION_OVERSIZED) == []


def test_stops_of_a_lost_stretch_that_all_ended_ask_for_one_look(tmp_path):
    """C14, 14, fault 35: of four names nothing is left at a broker that takes one twice."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy(sizing=STOPPED), settings=PaperSettings(deduplicates=False))
    stage.cycle()
    released(stage, 3)
    earlier = backup(stage)
    for turn in range(4):
        [stop] = stage.broker.orders()
        stage.broker.cancel(stop.client_id)
        released(stage, 40 * turn + 5, 40 * turn + 6)
    [last] = stage.broker.orders()
    stage.broker.cancel(last.client_id)
    older = stage.restarted(ledger=earlier)
    released(older, 160, 170)
    emergency.clear(older.desk, actor=PERSON, typed="PAPER-1")
    released(older, 180, 190)
    assert [order.ticket.stop_price for order in older.broker.orders()] == [Decimal(95)]
    assert (stops(older)[-1][:2], len(older.events(E.ACCOUNT_LATCHED))) == (("stop-1.6", "accepted"), 1)
    assert older.verifies()
    assert replayed(older).difference is None


@pytest.mark.parametrize("sold", [30, 50])
def test_a_stop_of_ours_stays_beside_a_sale_that_was_taken_over_and_whose_shares_are_gone(tmp_path, sold):
    """C14, 26, 28, fault 22: nothing is won by calling it back, for it could not be placed again."""
    table = bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=DAY, volumes={at(10, minute): 0.0 for minute in range(3, 40)})
    stage = floor(tmp_path, market(table), at(10, 0, 1), strategy(interval=Interval.MIN1, sizing=PAIRED))
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 0, 5)).release()
    earlier = backup(stage)
    other = strategy("other", interval=Interval.MIN1, sizing=PAIRED)
    stage.go(at(10, 2, 1)).run(other)
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 3, 1)).release()
    leaves = strategy("other", interval=Interval.MIN1, agent=ExpressionAgent(NEVER, ALWAYS))
    controls.revise(stage.desk, leaves, actor=PERSON, confirmed=["stop from 0.05 to off"])
    stage.go(at(10, 4, 1)).cycle(Interval.MIN1)
    assert stage.row("orders", part="exit")["state"] == "accepted"

    older = stage.restarted(ledger=earlier).go(at(10, 4, 10))
    for second in (10, 12):
        older.go(at(10, 4, second)).release()
    emergency.clear(older.desk, actor=PERSON, typed="PAPER-1")
    older.broker.trade_by_hand("AAPL", Side.SELL, sold, Decimal(100))
    for minute in (5, 6, 7):
        older.go(at(10, minute, 0)).release()
    assert stops(older) == [("stop-1", "accepted", 50)]
    assert (len(older.events(E.PROTECTION_OVERSIZED)), older.events(E.POSITION_UNPROTECTED)) == (1, [])
    assert older.verifies()
