"""What is new at the broker and what it is called, so that a run is launched once for each."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

from tests.desks import NEVER, OPEN, at, floor, strategy
from tests.service.minutes import MINUTES, bracketed, decided, intended, minute_bars
from tests.service.orders.settlement.scripted import MINUTE, NAME, scripted, settled
from trading_pipeline.adapters.brokers.paper_faults import DropReply, ShowLate
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType as E
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.portfolio import Fill
from trading_pipeline.domain.strategies import ExpressionAgent
from trading_pipeline.service.orders.settlement import news

D = Decimal


def test_nothing_new_has_no_name_and_each_thing_new_has_one(tmp_path):
    """A run is launched once for each: what is told is what would be written."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    assert news(stage.desk) == ""
    stage.cycle(Interval.MIN1)
    assert news(stage.desk) == ""
    stage, broker = scripted(stage)
    stop = stage.row("orders", part="stop-1")["client_id"]
    fill = stage.row("fills")
    sold = Fill("X-7", stop, "AAPL", Side.SELL, 50, D(95), D(1), at(10, 0, 2))
    broker.more = [(stop, sold)]
    assert news(stage.desk) == "fill:X-7"
    broker.more = [(stop, sold), (stop, replace(sold, execution_id="X-8"))]
    assert news(stage.desk) == "fill:X-7+fill:X-8"
    broker.more = [(stop, replace(sold, execution_id="X-6", at=at(10, 0)))]
    assert news(stage.desk) == "fill:X-6", "stamped with its bar's start, before the book began: the order is in the book"
    broker.more = [(stop, replace(sold, execution_id=f"X-{number}")) for number in (7, 8, 9)]
    three = news(stage.desk)
    assert three.startswith("3:") and len(three) == 18
    broker.more = [(stop, replace(sold, execution_id=f"X-{number}")) for number in (7, 8, 6)]
    assert news(stage.desk) != three, "three other things are other news"
    broker.more = [(MINUTE, Fill(fill["execution_id"], MINUTE, "AAPL", Side.BUY, 50, D("99.5"), D(1), fill["at"]))]
    assert news(stage.desk) == f"restated:{fill['execution_id']}:99.5:1"
    broker.more = [(MINUTE, Fill(fill["execution_id"], MINUTE, "AAPL", Side.BUY, 49, fill["price"], fill["commission"], fill["at"]))]
    assert news(stage.desk) == f"restated:{fill['execution_id']}:{fill['price']}:{fill['commission']}"
    assert len(stage.events()) == stage.desk.ledger.head()[0], "and nothing was written"


def test_an_execution_that_makes_no_sense_is_news_until_it_has_been_refused(tmp_path):
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    stage.cycle(Interval.MIN1)
    stage, broker = scripted(stage)
    stop = stage.row("orders", part="stop-1")["client_id"]
    broker.more = [(stop, Fill("X-7", stop, "AAPL", Side.SELL, 0, D(95), D(1), at(10, 0, 2)))]
    assert news(stage.desk)
    settled(stage, at(10, 0, 3))
    assert len(stage.events(E.EXECUTION_REFUSED)) == 1
    assert "X-7" not in news(stage.desk)


def test_what_somebody_else_bought_is_news_until_it_is_held_as_external(tmp_path):
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    stage.cycle(Interval.MIN1)
    stage, broker = scripted(stage)
    broker.more = [("by-hand", Fill("X-7", "by-hand", "AAPL", Side.BUY, 3, D(100), D(1), at(10, 0, 2)))]
    assert news(stage.desk) == "fill:X-7"
    settled(stage, at(10, 0, 3))
    assert stage.row("positions", strategy="EXTERNAL")["quantity"] == 3
    assert news(stage.desk) == "snapshot:X-7"


def test_a_booked_execution_from_before_what_was_asked_for_is_no_news(tmp_path):
    """20: some brokers tell all of the day, whatever is asked."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed(agent=ExpressionAgent(NEVER, NEVER)))
    stage.cycle(Interval.MIN1)
    stage, broker = scripted(stage)
    first = Fill("X-7", "by-hand", "AAPL", Side.BUY, 3, D(100), D(1), at(10, 0, 2))
    broker.more = [("by-hand", first)]
    settled(stage, at(10, 0, 3))
    broker.more.append(("by-hand", replace(first, execution_id="X-8", at=at(15, 0, day=date(2024, 8, 30)))))
    settled(stage, at(15, 0, 1, day=date(2024, 8, 30)))
    assert "X-7" not in news(stage.desk)
    assert broker.asked_since[-1] > first.at


def test_an_intent_that_nobody_sent_is_news_after_five_seconds(tmp_path):
    """C2: a run may be on its way to it."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    intended(stage, decided(stage))
    assert news(stage.go(at(10, 0, 5.999)).desk) == ""
    assert news(stage.go(at(10, 0, 6)).desk) == f"intent:{MINUTE}"


def test_an_order_in_doubt_is_news_when_it_shows_and_when_its_absence_can_be_looked_for(lost):
    """15."""
    assert news(lost.go(OPEN + timedelta(seconds=59.999)).desk) == ""
    seq = lost.row("orders")["last_seq"]
    assert news(lost.go(OPEN + timedelta(seconds=60)).desk) == f"absent:{NAME}:{seq}"
    settled(lost)
    assert news(lost.go(OPEN + timedelta(seconds=64.999)).desk) == ""
    seq = lost.row("orders")["last_seq"]
    assert news(lost.go(OPEN + timedelta(seconds=65)).desk) == f"absent:{NAME}:{seq}"
    settled(lost)
    assert news(lost.desk) == ""


def test_an_end_at_the_broker_and_an_order_that_works_though_it_is_in_doubt_are_news(tmp_path):
    volumes = {at(10, minute): 0.0 for minute in range(-1, 20)}
    stage = floor(tmp_path, minute_bars(volumes=volumes), at(10, 0, 1), strategy(**MINUTES))
    stage.faults.on_submit(MINUTE, DropReply(), ShowLate(timedelta(seconds=2)))
    stage.cycle(Interval.MIN1)
    assert (stage.row("orders")["state"], news(stage.desk)) == ("unknown", "")
    seq = stage.row("orders")["last_seq"]
    assert news(stage.go(at(10, 0, 4)).desk) == f"working:{MINUTE}:{seq}"
    settled(stage)
    assert (stage.row("orders")["state"], news(stage.desk)) == ("accepted", "")
    stage.broker.cancel(MINUTE)
    seq = stage.row("orders")["last_seq"]
    assert news(stage.go(at(10, 0, 5)).desk) == f"canceled:{MINUTE}:{seq}"
    assert settled(stage).counts == {"canceled": 1}
    assert news(stage.desk) == ""


def test_a_fill_that_no_snapshot_has_looked_at_is_news(tmp_path):
    """The desk's process books without a run."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), strategy(**MINUTES))
    stage.faults.on_submit(MINUTE, ShowLate(timedelta(seconds=5)))
    stage.cycle(Interval.MIN1)
    assert stage.rows("fills") == []
    settled(stage, at(10, 0, 10))
    [fill] = stage.rows("fills")
    assert news(stage.desk) == f"snapshot:{fill['execution_id']}"
    stage.release()
    assert news(stage.desk) == ""
