"""Executions that do not come, come too many, or come again as others; answers and approvals that come late; a fill half written."""

import threading
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest

from tests.desks import NEVER, OPEN, PERSON, Floor, at, bars, floor, market, strategy
from trading_pipeline.adapters.brokers.latched import LatchedBroker
from trading_pipeline.adapters.brokers.paper_faults import CancelAfter, Correct, DropReply, LoseRequest, Overfill, ShowLate, Slow, Withhold
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.cycles import action_id
from trading_pipeline.domain.events import EventType as E
from trading_pipeline.domain.orders import Side, client_id
from trading_pipeline.domain.portfolio import Fill
from trading_pipeline.domain.projections import orders as projection
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing, Mode
from trading_pipeline.errors import BrokerNotReady, Conflict, PermissionRequired
from trading_pipeline.service import approvals
from trading_pipeline.service.cycle import run_cycle
from trading_pipeline.service.orders.late_orders import cancel_what_is_over
from trading_pipeline.service.orders.releasing import release
from trading_pipeline.service.orders.settlement import news, settle
from trading_pipeline.service.record.judgement import judge
from trading_pipeline.service.steps import Tally
from trading_pipeline.service.stopping import emergency

D = Decimal
NAME = client_id(action_id("buyer", "1d@2024-08-27T20:00Z", "AAPL"), "entry")
"""The entry of the first daily cycle: fifty shares at an open of $100."""
NEXT_OPEN = at(9, 30, day=date(2024, 8, 29))


@pytest.fixture
def stage(tmp_path) -> Floor:
    """Wants to own AAPL on every bar, under a stop."""
    return floor(tmp_path, market(bars()), OPEN, strategy(sizing=FractionSizing(fraction=D("0.05"), stop=D("0.05"))))


def test_fills_that_a_stream_lost_block_the_symbol_and_are_booked_once_they_come(stage):
    """20, 27, fault 14: the positions show what the executions do not."""
    stage.faults.on_executions(Withhold(NAME))
    stage.cycle()
    assert (stage.rows("fills"), stage.broker.positions()) == ([], {"AAPL": 50})
    stage.go(NEXT_OPEN).cycle()
    assert len(stage.events(E.ORDER_SUBMITTED)) == 2, "the entry and its stop, and nothing since"
    assert "unknown_order" in stage.denials()
    stage.faults.on_executions()
    stage.go(NEXT_OPEN + timedelta(minutes=1)).release()
    assert [row["quantity"] for row in stage.rows("fills")] == [50]
    assert stage.row("positions")["quantity"] == 50
    assert stage.verifies()


def test_more_shares_than_ordered_are_booked_as_they_are_and_block_the_symbol(stage):
    """18, 27, fault 18: 53 came of 50; the position is what the broker has, and a person has to look."""
    stage.faults.on_submit(NAME, Overfill(3))
    stage.cycle()
    assert stage.row("orders", part="entry")["state"] == "quarantined"
    assert stage.row("positions")["quantity"] == stage.broker.positions()["AAPL"] == 53
    stage.run(strategy("other")).go(NEXT_OPEN).cycle()
    assert set(stage.denials()) == {"unknown_order"}
    assert stage.verifies()


def test_a_stop_that_sells_more_than_its_entry_has_bought_blocks_the_symbol_until_a_person_has_looked(tmp_path):
    """18, fault 18: the entry bought 30 of 50; its stop, written for 50, sold 33, of which 3 nobody held."""
    fallen = {NEXT_OPEN: (94.0,) * 4}
    sizing = FractionSizing(fraction=D("0.05"), stop=D("0.05"))
    stage = floor(tmp_path, market(bars(at=fallen)), OPEN, strategy(agent=ExpressionAgent("close > 0"), sizing=sizing))
    stage.faults.on_submit(NAME, CancelAfter(30))
    stop = client_id(action_id("buyer", "1d@2024-08-27T20:00Z", "AAPL"), "stop-1")
    stage.faults.on_submit(stop, Overfill(3))
    stage.cycle()
    stage.go(NEXT_OPEN + timedelta(minutes=1)).release()
    assert stage.row("positions")["quantity"] == stage.broker.positions()["AAPL"] == -3
    row = stage.row("orders", client_id=stop)
    assert (row["state"], row["quantity"], row["filled_quantity"]) == ("quarantined", 50, 33)
    assert "-3 shares of AAPL" in row["reason"]
    sent = len(stage.events(E.ORDER_SUBMITTED))
    stage.run(strategy("other")).cycle()
    assert (len(stage.events(E.ORDER_SUBMITTED)), news(stage.desk)) == (sent, "")
    release(stage.desk, stop, actor=PERSON, typed="AAPL")
    stage.go(NEXT_OPEN + timedelta(minutes=2)).release()
    assert stage.row("orders", client_id=stop)["state"] == "canceled", "it is said once"
    assert judge(stage.desk.ledger).violations == ()
    assert stage.verifies()


def test_an_execution_that_comes_again_with_another_price_corrects_the_position_for_good(stage):
    """18, fault 20: 50 shares at $101.03 and a dollar, not at $100.03; the broker goes on delivering both versions."""
    stage.cycle()
    [fill] = stage.rows("fills")
    assert (fill["price"], stage.row("positions")["cost"]) == (D("100.03"), D("5002.50"))
    stage.faults.on_executions(Correct(fill["execution_id"], D("101.03")))
    for seconds in (40, 80, 120):
        stage.go(OPEN + timedelta(seconds=seconds)).release()
        assert stage.row("fills")["price"] == D("101.03")
        assert stage.row("positions")["cost"] == D("5052.50")
    assert len(stage.events(E.FILL_CORRECTED)) == 1
    assert stage.verifies()


def test_a_price_that_is_restated_back_and_forth_is_followed_each_time(stage):
    """fault 20."""
    stage.cycle()
    [fill] = stage.rows("fills")
    for number, price in enumerate(("101.03", "100.03", "101.03")):
        stage.faults.on_executions(Correct(fill["execution_id"], D(price)))
        stage.go(OPEN + timedelta(seconds=40 * (number + 1))).release()
        assert stage.row("fills")["price"] == D(price)
    assert stage.verifies()


def test_a_stop_stands_while_a_slow_broker_is_still_answering_a_submission(stage):
    """52, 55, fault 16: the submission that was under way is the last one, and its order is cancelled or filled."""
    stage.faults.on_submit(NAME, Slow(1.0))
    submitting = threading.Thread(target=stage.cycle)
    submitting.start()
    while not stage.events(E.ORDER_SUBMITTED):
        assert submitting.is_alive() or stage.events(E.ORDER_SUBMITTED), "it ended without a submission"
    reported: list[emergency.Report] = []
    stopping = threading.Thread(target=lambda: reported.append(emergency.stop(stage.desk, reason="enough", actor=PERSON)))
    stopping.start()
    while stage.desk.latch.standing("buyer") is None:
        assert stopping.is_alive() or stage.desk.latch.standing("buyer"), "it ended without a latch"
    assert submitting.is_alive(), "the latch waited for the broker"
    submitting.join()
    stopping.join()
    head = [event.type for event in stage.events()]
    assert E.ORDER_SUBMITTED not in head[head.index(E.ACCOUNT_LATCHED) :]
    assert stage.verifies()


def test_what_was_approved_two_seconds_before_the_close_is_not_sent_a_second_after_it(tmp_path):
    """50, 67, fault 49."""
    spec = strategy(mode=Mode.APPROVAL, interval=Interval.MIN5, agent=ExpressionAgent("close > 0", NEVER))
    stage = floor(tmp_path, market(bars(interval=Interval.MIN5, first=date(2024, 8, 27), last=OPEN.date())), at(15, 55, 1), spec)
    stage.cycle(Interval.MIN5)
    stage.go(at(15, 59, 58))
    approvals.approve(stage.desk, stage.row("approvals")["action_id"], actor=PERSON)
    assert stage.row("approvals")["state"] == "approved"
    stage.go(at(16, 0, 1)).release()
    assert stage.events(E.ORDER_SUBMITTED) == []
    assert stage.row("actions")["state"] in ("expired", "voided", "consumed")


def test_a_fill_and_its_position_are_one_write_wherever_it_breaks_off(stage, monkeypatch):
    """5, C9."""
    book, broken = projection._book, []

    def breaking(*given):
        book(*given)
        if not broken:
            broken.append(1)
            raise KeyboardInterrupt

    monkeypatch.setattr(projection, "_book", breaking)
    with pytest.raises(KeyboardInterrupt):
        stage.cycle()
    assert (stage.rows("fills"), stage.rows("positions"), stage.events(E.ORDER_FILLED)) == ([], [], [])
    stage.go(OPEN + timedelta(seconds=40)).release()
    assert (len(stage.rows("fills")), stage.row("positions")["quantity"]) == (1, 50)
    assert stage.verifies()


def test_an_execution_that_is_restated_with_other_shares_sets_its_order_aside_once(stage, monkeypatch):
    """18, 27, fault 20: how many were bought is no correction of a price; the book stays as it was, and a person has to look."""
    stage.cycle()
    heard = stage.desk.broker.executions
    monkeypatch.setattr(stage.desk.broker, "executions", lambda since: [(name, replace(fill, quantity=40)) for name, fill in heard(since)])
    for seconds in (40, 80):
        stage.go(OPEN + timedelta(seconds=seconds)).release()
        assert stage.row("orders", part="entry")["state"] == "quarantined"
    assert len(stage.events(E.ORDER_QUARANTINED)) == 1
    assert stage.row("positions")["quantity"] == 50
    assert stage.verifies()


class Mishearing(LatchedBroker):
    """Takes an order and confirms another."""

    def submit(self, ticket, permit):
        order = super().submit(ticket, permit)
        return replace(order, ticket=replace(order.ticket, quantity=10 * ticket.quantity))


def test_an_order_that_the_broker_heard_otherwise_is_cancelled_and_its_symbol_halted(stage):
    """24: bytes sent and bytes confirmed are compared."""
    stage = stage.restarted(broker=Mishearing(stage.broker, stage.desk.latch))
    stage.cycle()
    entry = stage.row("orders", part="entry")
    assert entry["reason"] == "quantity 50 was sent, 500 was heard"
    assert entry["state"] == "quarantined"
    assert [order for order in stage.broker.orders() if order.client_id == NAME] == []
    stage.go(OPEN + timedelta(seconds=5)).release()
    [told] = stage.events(E.POSITION_UNPROTECTED)
    assert "unknown_order" in told.payload["reason"], "what had filled is a person's, and nothing more is sent in the symbol"
    assert stage.verifies()


def test_a_restated_execution_is_news_without_any_cycle(stage):
    """Fault 20: with every strategy paused nothing else asks the broker again."""
    stage.cycle()
    stage.go(OPEN + timedelta(seconds=2)).release()
    assert news(stage.desk) == ""
    [fill] = stage.rows("fills", side="buy")
    stage.faults.on_executions(Correct(fill["execution_id"], D("99.50")))
    assert news(stage.desk) == f"restated:{fill['execution_id']}:99.50:{fill['commission']}"
    stage.go(OPEN + timedelta(seconds=5)).release()
    assert stage.row("fills", side="buy")["price"] == D("99.50")
    assert news(stage.desk) == ""


def test_a_fill_of_an_order_that_rests_is_booked_however_late_it_is_published(tmp_path):
    """20, 25: other fills have been booked for days when the source catches up."""
    days = [date(2024, 8, 29), date(2024, 8, 30), date(2024, 9, 3)]
    fallen = {at(9, 30, day=days[0]): (100.0, 100.0, 94.0, 94.0)}
    sizing = FractionSizing(fraction=D("0.05"), stop=D("0.05"))
    specs = strategy("a", sizing=sizing), strategy("m", symbols=("MSFT",), agent=ExpressionAgent("close > 0", "close > 0"))
    silent = [at(9, 30, day=day) for day in days]
    stage = floor(tmp_path, market(bars(without=silent), bars("MSFT")), OPEN, *specs)
    stage.cycle()
    stage.go(OPEN + timedelta(seconds=5)).release()
    for day in days[1:]:
        stage.go(at(9, 30, 1, day=day)).cycle()
        stage.go(at(9, 31, day=day)).release()
    assert max(fill["at"] for fill in stage.rows("fills", symbol="MSFT")) > at(9, 30, day=days[1])
    stage = stage.restarted(market=market(bars(at=fallen), bars("MSFT"))).go(at(15, 30, day=days[2]))
    stage.release()
    assert stage.row("positions", symbol="AAPL")["quantity"] == stage.broker.positions().get("AAPL", 0) == 0
    assert news(stage.desk) == ""


def test_an_order_that_arrives_after_it_was_given_up_is_cancelled_by_its_own_answer(stage):
    """15, 53: a request that hung on the wire; it was cancelled meanwhile and proven absent."""
    cycle, broker = stage.due(), stage.desk.broker

    class Slow(LatchedBroker):
        def submit(self, ticket, permit):
            again = stage.restarted(broker=broker)
            again.go(OPEN + timedelta(seconds=3))
            emergency.stop(again.desk, reason="enough", actor=PERSON)
            for seconds in (64, 70, 76):
                again.go(OPEN + timedelta(seconds=seconds))
                settle(again.desk, Tally("test", cycle))
            assert again.row("orders", part="entry")["state"] == "canceled"
            return stage.broker.submit(ticket, permit)

    stage = stage.restarted(broker=Slow(stage.broker, stage.desk.latch))
    run_cycle(stage.desk, cycle)
    assert stage.broker.orders() == []
    settle(stage.restarted(broker=broker).desk, Tally("test", cycle))
    assert "order.late_found" in stage.types()
    assert stage.row("orders", part="entry")["state"] in ("canceled", "filled")
    assert stage.row("orders", part="entry")["filled_quantity"] == stage.broker.positions().get("AAPL", 0)


class Strange(LatchedBroker):
    """Tells of executions that make no sense besides those that do."""

    def __init__(self, broker, latch, *executions):
        super().__init__(broker, latch)
        self.told = executions

    def executions(self, since):
        return [*super().executions(since), *self.told]


NONSENSE = {
    "a price of NaN": {"price": D("NaN")}, "a price of nothing": {"price": D(0)}, "an endless commission": {"commission": D("Infinity")},
    "a price beyond all": {"price": D("1e40")}, "no shares": {"quantity": 0}, "shares below zero": {"quantity": -5},
    "shares beyond all": {"quantity": 10**30}, "half a share": {"quantity": 0.5}, "a NUL": {"execution_id": "x\x00"},
    "an endless name": {"execution_id": "x" * 250}, "a naive instant": {"at": OPEN.replace(tzinfo=None)}, "a float": {"price": 100.0},
}


@pytest.mark.parametrize("what", NONSENSE)
@pytest.mark.parametrize("client_id", [NAME, "SOMEBODY"])
def test_an_execution_that_makes_no_sense_is_refused_once_and_the_rest_goes_on(stage, what, client_id):
    """18: it is a fact, and its order a person's; nothing of it reaches a position."""
    stage.cycle()
    sane = Fill("X-1", client_id, "AAPL", Side.BUY, 5, D(100), D(1), OPEN + timedelta(seconds=2))
    stage = stage.restarted(broker=Strange(stage.broker, stage.desk.latch, (client_id, replace(sane, **NONSENSE[what]))))
    stage.go(OPEN + timedelta(seconds=5)).release()
    stage.go(OPEN + timedelta(seconds=9)).release()
    assert len(stage.events(E.EXECUTION_REFUSED)) == 1
    assert stage.row("positions", strategy="buyer")["quantity"] == 50
    assert (stage.row("orders", part="entry")["state"] == "quarantined") is (client_id == NAME)
    assert stage.verifies()


def test_of_one_instant_purchases_are_booked_before_sales(stage):
    """A stop cannot have sold before its entry bought, whatever the line says first."""
    stage.cycle()
    stop = stage.row("orders", part="stop-1")["client_id"]
    [bought] = stage.rows("fills")
    sold = Fill("A-0", stop, "AAPL", Side.SELL, 50, D(95), D(1), bought["at"])
    fresh = stage.restarted(broker=Strange(stage.broker, stage.desk.latch, (stop, sold)))
    settle(fresh.desk, Tally("test", stage.due()))
    assert [row["side"] for row in stage.rows("fills", order_by="seq")] == ["buy", "sell"]
    assert stage.row("positions")["realised"] == D("95") * 50 - 1 - bought["quantity"] * bought["price"] - bought["commission"]


class Deaf(Mishearing):
    """Takes another order than was sent, and no cancel at first."""

    ready = False

    def cancel(self, client_id):
        if not self.ready:
            raise BrokerNotReady("busy")
        super().cancel(client_id)


def misheard(tmp_path) -> tuple[Floor, Deaf]:
    """An entry that works at the broker as another one, is set aside, and was cancelled in vain."""
    thin = {at(9, 30, day=date(2024, 8, 27)): 100.0}
    stage = floor(tmp_path, market(bars(volumes=thin)), OPEN, strategy(sizing=FractionSizing(fraction=D("0.05"))))
    broker = Deaf(stage.broker, stage.desk.latch)
    stage = stage.restarted(broker=broker)
    stage.cycle()
    assert (stage.row("orders")["state"], len(stage.broker.orders())) == ("quarantined", 1)
    stage.go(OPEN + timedelta(seconds=5))
    return stage, broker


def test_the_cancel_of_a_misheard_order_is_sent_until_it_gets_through(tmp_path):
    """24, 53: it does not work on because one cancel was lost; and a broker that takes none is not asked twice a second."""
    stage, broker = misheard(tmp_path)
    settle(stage.desk, Tally("test", stage.due()))
    assert (len(stage.broker.orders()), NAME in news(stage.desk)) == (1, False)
    broker.ready = True
    settle(stage.desk, Tally("test", stage.due()))
    assert stage.broker.orders() == []


def test_reconciling_cancels_a_misheard_order_again_and_sets_it_aside_once(tmp_path):
    """24, 53."""
    stage, broker = misheard(tmp_path)
    broker.ready = True
    cancel_what_is_over(stage.desk, Tally("test", stage.due()))
    assert (stage.broker.orders(), len(stage.events(E.ORDER_QUARANTINED))) == ([], 1)


def test_a_person_ends_a_quarantine_once_nothing_of_the_order_is_left(stage):
    """17: only a person, by typing the symbol, and only when book and broker agree."""
    stage = stage.restarted(broker=Mishearing(stage.broker, stage.desk.latch))
    stage.cycle()
    stage.go(OPEN + timedelta(seconds=5)).release()
    with pytest.raises(PermissionRequired):
        release(stage.desk, NAME[:6], actor=PERSON, typed="MSFT")
    with pytest.raises(PermissionRequired):
        release(stage.desk, NAME, actor="cycle", typed="AAPL")
    for row in stage.rows("orders", state="quarantined"):
        release(stage.desk, row["client_id"], actor=PERSON, typed="AAPL")
    assert stage.rows("orders", state="quarantined") == []
    with pytest.raises(Conflict):
        release(stage.desk, NAME, actor=PERSON, typed="AAPL")
    stage = stage.restarted().go(OPEN + timedelta(seconds=40))
    stage.release()
    assert [row["state"] for row in stage.rows("orders", order_type="stop") if row["part"] != "stop-1"] == ["accepted"], "protected again"
    assert stage.verifies()


def test_an_order_in_doubt_is_not_released_before_the_broker_would_show_it(tmp_path):
    """12, 14, 15: it was taken, and shows after fifty seconds; released before that, its strategy would buy a second time."""
    source = market(bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=OPEN.date()))
    stage = floor(tmp_path, source, at(10, 0, 1), strategy(interval=Interval.MIN1))
    name = client_id(action_id("buyer", "1min@2024-08-28T14:00Z", "AAPL"), "entry")
    stage.faults.on_submit(name, ShowLate(timedelta(seconds=50)), DropReply())
    stage.cycle(Interval.MIN1)
    for seconds in (5, 40, 60.999):
        stage.go(at(10, 0, seconds))
        with pytest.raises(Conflict, match=r"may still appear, until 14:01:01 UTC"):
            release(stage.desk, name, actor=PERSON, typed="AAPL")
        assert stage.row("orders")["state"] == "unknown"
    stage.go(at(10, 2, 1)).cycle(Interval.MIN1)
    assert stage.row("orders")["state"] == "filled"
    assert stage.broker.positions() == {"AAPL": stage.row("positions")["quantity"]} == {"AAPL": 50}
    assert stage.verifies()


def test_an_order_in_doubt_that_never_came_is_released_once_the_broker_would_show_it(tmp_path):
    """14, 17: a person need not wait for the two looks."""
    source = market(bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=OPEN.date()))
    stage = floor(tmp_path, source, at(10, 0, 1), strategy(interval=Interval.MIN1))
    stage.faults.on_every_submit(LoseRequest())
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 1, 1))
    release(stage.desk, stage.row("orders")["client_id"], actor=PERSON, typed="AAPL")
    assert (stage.row("orders")["state"], stage.broker.positions()) == ("canceled", {})
    assert stage.verifies()
