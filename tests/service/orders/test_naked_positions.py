"""C12: that a position has no stop is told to a person, once for each reason."""

from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise

from tests.desks import ALWAYS, DAY, at, floor
from tests.service.minutes import bracketed, minute_bars, stops
from tests.service.pauses import paused
from trading_pipeline.adapters.brokers.latched import LatchedBroker
from trading_pipeline.adapters.brokers.paper_faults import Call, LoseRequest, NotReady, Refuse, RejectLater
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.cycles import action_id
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.orders import OrderType, client_id
from trading_pipeline.domain.strategies import ExpressionAgent
from trading_pipeline.errors import BrokerNotReady, MarketDataError
from trading_pipeline.service.judging.breakers import review
from trading_pipeline.service.judging.causes import book_of
from trading_pipeline.service.orders.protection import is_exposed, protect
from trading_pipeline.service.orders.settlement import settle
from trading_pipeline.service.steps import Tally
from trading_pipeline.service.submitter.closing import close_session
from trading_pipeline.service.submitter.handover import lease_name

E = EventType


class Unpriced:
    """A source whose quotes are down: bars go on."""

    def __init__(self, source):
        self._source = source

    def __getattr__(self, name):
        return getattr(self._source, name)

    def quotes(self, symbols, now):
        if symbols:
            raise MarketDataError("The source gives no quotes.")
        return {}


def protected_blindly(stage, instant):
    """As the desk's process looks after what is held, while its source gives no quotes."""
    blind = replace(stage.desk, market=Unpriced(stage.desk.market))
    settling = Tally("test", stage.go(instant).due(Interval.MIN1))
    settle(blind, settling)
    with blind.ledger.lease(lease_name(blind)) as fence:
        protect(blind, fence, settling)


def test_a_position_that_has_lost_its_stop_while_there_are_no_quotes_is_told_once_and_protected_with_the_first(tmp_path):
    """21, 33, C12: nothing can be judged without a price, and the person who could act has to know."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 0, 5)).release()
    stage.broker.cancel(stage.row("orders", order_type="stop")["client_id"])
    for seconds in (10, 15, 20, 50):
        protected_blindly(stage, at(10, 0, seconds))
    [told] = stage.events(E.POSITION_UNPROTECTED)
    assert (told.payload["symbol"], told.payload["quantity"], told.payload["reason"]) == ("AAPL", 50, "The source gives no quotes.")
    for seconds in (62, 67):
        stage.go(at(10, 0, seconds)).release()
    assert stops(stage)[-1] == ("stop-1.2", "accepted", 50, Decimal(95))
    assert len(stage.events(E.POSITION_UNPROTECTED)) == 1
    assert stage.verifies()


def test_an_exit_that_nobody_can_price_keeps_no_other_position_from_being_told(tmp_path):
    """21, 33, C12: of AAPL an exit works in the place of its stop; whether the market has left it behind nobody can say just now."""
    source = minute_bars("AAPL", "MSFT", volumes={at(10, minute): 60.0 for minute in range(1, 30)})
    stage = floor(tmp_path, source, at(9, 58, 1), bracketed(name="other", symbols=("MSFT",)))
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 0, 1)).run(bracketed(agent=ExpressionAgent(ALWAYS, ALWAYS)))
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 2, 1)).cycle(Interval.MIN1)
    assert stage.row("orders", part="exit")["state"] == "partial"
    stage.broker.cancel(stage.row("orders", symbol="MSFT", order_type="stop")["client_id"])
    for seconds in (10, 40):
        protected_blindly(stage, at(10, 3, seconds))
    assert [event.payload["symbol"] for event in stage.events(E.POSITION_UNPROTECTED)] == ["MSFT"]
    assert stage.row("orders", part="exit")["state"] == "partial", "it is left at work"
    assert stage.verifies()


def test_another_reason_why_it_cannot_be_protected_is_told_and_the_same_one_after_a_stop_stood_again(tmp_path):
    """C12: a person who knows of the first reason, and has mended it, does not know of the second."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 0, 5)).release()

    def dropped():
        stage.broker.cancel(stage.rows("orders", order_type="stop", order_by="intent_seq")[-1]["client_id"])

    def reasons():
        return [event.payload["reason"] for event in stage.events(E.POSITION_UNPROTECTED)]

    dropped()
    for second in (10, 15):
        protected_blindly(stage, at(10, 0, second))
    assert reasons() == ["The source gives no quotes."]
    stage.faults.on_every_submit(Refuse("no stops today"))
    for second in (20, 25, 55):
        stage.go(at(10, 0, second)).release()
    taken = "the broker or the gate did not take the stop: The order was refused: no stops today."
    assert reasons() == ["The source gives no quotes.", taken]
    for minute, why in ((1, "order 17 of account 3 is restricted"), (2, "order 18 of account 3 is restricted")):
        stage.faults.on_every_submit(Refuse(why))
        stage.go(at(10, minute, 30)).release()
    assert [each for each in reasons() if "restricted" in each] == [taken.replace("no stops today", "order 17 of account 3 is restricted")]
    stage.faults.on_every_submit()
    stage.go(at(10, 3, 30)).release()
    assert stops(stage)[-1][1] == "accepted"
    dropped()
    for minute in (4, 5):
        protected_blindly(stage, at(10, minute, 0))
    assert (reasons()[0], reasons()[-1], len(reasons())) == (reasons()[0], reasons()[0], 4)
    assert stage.verifies()


def test_one_of_two_reasons_that_goes_is_no_news(tmp_path):
    """C12: after the close, while the broker's positions cannot be compared, and with the market open before they can."""
    stage = floor(tmp_path, minute_bars(), at(15, 50, 1), bracketed())
    stage.cycle(Interval.MIN1)
    stage.go(at(15, 50, 5)).release()
    stage.go(at(16, 5)).broker.cancel(stage.row("orders", order_type="stop")["client_id"])
    stage.faults.on_call(Call.POSITIONS, *[NotReady()] * 400)
    for minute in (6, 7):
        stage.go(at(16, minute)).release()
    stage.go(at(9, 30, 5, day=date(2024, 8, 29))).release()
    [told] = [event.payload for event in stage.events(E.POSITION_UNPROTECTED)]
    assert len(told["causes"]) > 1


def looked_after(stage, instant):
    """A turn of the desk's process, as far as what is held goes."""
    settling = Tally("test", stage.go(instant).due(Interval.MIN1))
    with stage.desk.ledger.lease(lease_name(stage.desk)) as fence:
        settle(stage.desk, settling)
        if is_exposed(stage.desk):
            protect(stage.desk, fence, settling)


def alarms(stage):
    """When each was told, and of what."""
    return [(event.at, event.payload["quantity"], event.payload["causes"]) for event in stage.events(E.POSITION_UNPROTECTED)]


def test_a_stop_that_is_accepted_and_then_rejected_is_told_at_once_and_once(tmp_path):
    """C12: every time again, for as long as it goes on; and it counts as rejections in a row (43)."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    action = action_id("buyer", "1min@2024-08-28T14:00Z", "AAPL")
    for part in ("stop-1", *(f"stop-1.{number}" for number in range(2, 20))):
        stage.faults.on_submit(client_id(action, part), RejectLater(timedelta(seconds=5), "no stops here"))
    stage.cycle(Interval.MIN1)
    for seconds in range(2, 300, 2):
        looked_after(stage, at(10, seconds // 60, seconds % 60))
    [(told, quantity, _)] = alarms(stage)
    assert (told, quantity) == (at(10, 0, 6), 50)
    rejected = stage.rows("orders", order_type="stop", state="rejected")
    assert len(rejected) >= 5
    assert book_of(stage.desk, stage.desk.ledger).track.rejects == {"buyer": len(rejected) - 1}, "all but the entry's own"
    review(stage.desk)
    assert paused(stage) == ("paused_risk", "rejects")
    assert stage.verifies()


def exit_lost(tmp_path, bought):
    """50 shares, and a minute after they were bought an exit that the broker never got; their stop was cancelled for it."""
    stage = floor(tmp_path, minute_bars(), bought, bracketed(agent=ExpressionAgent(ALWAYS, ALWAYS)))
    stage.cycle(Interval.MIN1)
    sold = bought + timedelta(minutes=1)
    stage.faults.on_submit(client_id(action_id("buyer", f"1min@{sold:%Y-%m-%dT%H:%MZ}", "AAPL"), "exit"), LoseRequest())
    stage.go(sold).cycle(Interval.MIN1)
    assert (stage.row("orders", part="exit")["state"], stage.broker.orders()) == ("unknown", [])
    return stage


def test_an_exit_in_doubt_that_is_all_the_cover_there_is_is_told_after_ten_seconds(tmp_path):
    """C12, 85: nothing may be placed beside it, which might sell the shares twice; a person can look."""
    stage = exit_lost(tmp_path, at(10, 0, 1))
    in_doubt_since = stage.row("orders", part="exit")["updated_at"]
    for seconds in range(2, 60, 3):
        looked_after(stage, at(10, 1, seconds))
    [(told, quantity, causes)] = alarms(stage)
    assert (quantity, causes) == (50, ["in doubt"])
    assert timedelta(seconds=10) <= told - in_doubt_since < timedelta(seconds=13)
    for seconds in (5, 10, 15):
        looked_after(stage, at(10, 2, seconds))
    assert stops(stage)[-1][:3] == ("stop-1.2", "accepted", 50), "the exit was never there: it is protected again"
    assert len(alarms(stage)) == 1
    assert stage.verifies()


def test_an_exit_that_is_answered_in_time_is_no_alarm(tmp_path):
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed(agent=ExpressionAgent(ALWAYS, ALWAYS)))
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 1, 1)).cycle(Interval.MIN1)
    for seconds in range(2, 40, 2):
        looked_after(stage, at(10, 1, seconds))
    assert (stage.row("positions")["quantity"], alarms(stage)) == (0, [])


def test_a_target_whose_cancel_is_not_confirmed_is_told_while_its_stop_is_gone(tmp_path):
    """C12: until it is over no stop can be placed beside it."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    action = action_id("buyer", "1min@2024-08-28T14:00Z", "AAPL")
    stage.faults.on_submit(client_id(action, "stop-1"), RejectLater(timedelta(seconds=5), "no stops here"))
    stage.faults.on_call(Call.CANCEL, *[NotReady()] * 40)
    stage.cycle(Interval.MIN1)
    for seconds in range(2, 58, 4):
        with suppress(BrokerNotReady):
            looked_after(stage, at(10, 0, seconds))
    assert [causes for *_, causes in alarms(stage)][-1] == ["target"]
    assert stage.row("orders", part="target-1")["state"] == "cancel_pending"


def test_at_the_close_what_is_in_doubt_is_told_too(tmp_path):
    """C12: it is gone home with."""
    stage = exit_lost(tmp_path, at(15, 58, 1))
    close_session(stage.go(at(16, 0, 30)).desk, stage.desk.calendar.session(DAY))
    assert [causes for *_, causes in alarms(stage)] == [["in doubt"]]


class Ending(LatchedBroker):
    """Takes each stop and ends it at once, unasked."""

    def submit(self, ticket, permit):
        order = super().submit(ticket, permit)
        if ticket.order_type is OrderType.STOP:
            self.cancel(ticket.client_id)
        return order


def test_stops_that_a_broker_takes_and_ends_at_once_are_placed_each_half_minute_and_that_is_told_once(tmp_path):
    """43, C12: a stop each turn would be forty in twenty seconds, and look like protection."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    stage.cycle(Interval.MIN1)
    first = stage.row("orders", part="stop-1")["client_id"]
    stage = stage.restarted(broker=Ending(stage.broker, stage.desk.latch))
    stage.broker.cancel(first)
    for half_seconds in range(2 * 64):
        looked_after(stage, at(10, 1) + timedelta(seconds=half_seconds / 2))
    placed = [row["submitted_at"] for row in stage.rows("orders", order_type="stop", order_by="intent_seq")][1:]
    waits = [(later - earlier).total_seconds() for earlier, later in pairwise(placed)]
    assert len(waits) == 2 and all(30 <= wait < 32 for wait in waits)
    [told] = stage.events(E.POSITION_UNPROTECTED)
    assert "the broker canceled its stop" in told.payload["reason"]
    assert (told.at - at(10, 1)) < timedelta(seconds=2)
    assert stage.verifies()
