"""A strategy that wants out while something of it is still on its way in."""

from datetime import date, timedelta
from decimal import Decimal

from tests.desks import ALWAYS, NEVER, PERSON, at, bars, floor, market, strategy
from tests.service.minutes import MINUTES, approved, bracketed, minute_bars
from tests.service.orders.settlement.scripted import scripted
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.portfolio import Fill
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing, Mode
from trading_pipeline.service import controls

THIN = {at(9, 59): 100.0} | {at(10, minute): 60.0 for minute in range(30)}
"""Six shares a minute fill."""


def test_what_is_left_of_its_entry_is_cancelled_before_its_exit_goes_and_the_position_stays_protected_until_then(tmp_path):
    """43, D6, C12: it would buy on what it wants out of, and sell to itself."""
    falls = {at(10, minute): (99.0,) * 4 for minute in range(1, 40)}
    spec = bracketed(agent=ExpressionAgent("close > 99.5", "close < 99.5"))
    stage = floor(tmp_path, minute_bars(volumes=THIN, at=falls), at(10, 0, 1), spec)
    bought = []
    for minute in range(9):
        stage.go(at(10, minute, 1)).cycle(Interval.MIN1)
        for second in (15, 35, 50):
            stage.go(at(10, minute, second)).release()
        entry = stage.row("orders", part="entry")
        bought.append(entry["filled_quantity"])
        exits = stage.rows("orders", part="exit")
        if entry["state"] == "canceled" and not exits:
            assert [order.ticket.order_type.value for order in stage.broker.orders()] == ["stop", "limit"], "its fill has to cool down"
    assert bought[2] < 50 and set(bought[2:]) == {bought[2]}, "it says so at 10:02"
    [leaving] = stage.rows("orders", part="exit")
    assert (leaving["state"], leaving["filled_quantity"]) == ("filled", bought[2])
    assert stage.broker.positions() == {} and stage.broker.orders() == []
    assert stage.events(EventType.POSITION_UNPROTECTED) == []
    reasons = {event.payload["client_id"]: event.payload["reason"] for event in stage.events(EventType.ORDER_CANCEL_REQUESTED)}
    told = {row["part"]: reasons[row["client_id"]] for row in stage.rows("orders") if row["client_id"] in reasons}
    action = leaving["action_id"]
    assert told["entry"] == f"action {action} closes the position"
    assert told["stop-1"] == f"the position is closed by action {action}"
    assert stage.verifies()


def test_an_exit_that_a_person_has_approved_is_not_put_off_by_the_cancel_of_its_own_entry(tmp_path):
    """D3, 46: what an entry did last is its cancel then, and a cooldown from there would outlast the approval."""
    still = {at(9, 59): 100.0, at(10, 0): 60.0} | {at(10, minute): 0.0 for minute in range(1, 10)}
    falls = {at(10, minute): (99.0,) * 4 for minute in range(5, 60)}
    spec = bracketed(agent=ExpressionAgent("close > 99.5", "close < 99.5"), mode=Mode.APPROVAL)
    stage = floor(tmp_path, minute_bars(volumes=still, at=falls), at(10, 0, 1), spec)
    stage.cycle(Interval.MIN1)
    approved(stage)
    stage.go(at(10, 0, 2)).release()
    for minute in range(1, 7):
        stage.go(at(10, minute, 1)).cycle(Interval.MIN1)
    assert stage.row("orders", part="entry")["state"] == "partial"
    name = approved(stage)
    stage.go(at(10, 6, 2)).release()
    assert stage.row("orders", part="entry")["state"] == "canceled"
    assert stage.row("actions", action_id=name)["state"] == "consumed"
    assert stage.row("orders", part="exit")["submitted_at"] == at(10, 6, 2)


def test_an_entry_that_fills_again_and_again_is_cancelled_as_soon_as_its_strategy_wants_out(tmp_path):
    """D3: each fill puts the exit off by its cooldown, and would for as long as the entry buys."""
    falls = {at(10, minute): (99.0,) * 4 for minute in range(1, 60)}
    spec = bracketed(agent=ExpressionAgent("close > 99.5", "close < 99.5"))
    stage = floor(tmp_path, minute_bars(volumes=THIN | dict.fromkeys(falls, 0.0), at=falls), at(10, 0, 1), spec)
    stage.cycle(Interval.MIN1)
    stage, broker = scripted(stage)
    entry, bought = stage.row("orders", part="entry")["client_id"], 0
    for second in range(10, 180, 5):
        now = stage.go(at(10, 0) + timedelta(seconds=second)).desk.now()
        if second % 20 == 10 and stage.row("orders", part="entry")["state"] == "partial":
            bought += 1
            fill = Fill(f"V-{second}", entry, "AAPL", Side.BUY, 1, Decimal(99), Decimal("0.01"), now)
            broker.more.append((entry, fill))
            broker.holds = {"AAPL": stage.broker.positions()["AAPL"] + bought}
        if second % 60 == 5:
            stage.cycle(Interval.MIN1)
        stage.release()
    asked = next(event.at for event in stage.events(EventType.ORDER_CANCEL_REQUESTED) if event.payload["client_id"] == entry)
    wanted = stage.rows("actions", side="sell", order_by="generated_at")[0]
    assert wanted["generated_at"] <= asked <= wanted["generated_at"] + timedelta(seconds=5)
    assert stage.row("orders", part="entry")["state"] == "canceled"


def test_an_exit_waits_for_the_cooldown_of_a_fill_that_is_learned_when_it_is_released(tmp_path):
    """D3: it would be void for good, and come again with the next bar only, which may be tomorrow's."""
    days = date(2024, 8, 27), date(2024, 8, 29)
    thin = {at(9, 59): 100.0} | {at(10, minute): 40.0 for minute in range(30)}
    both = market(bars("AAPL", Interval.MIN1, *days), bars("MSFT", Interval.MIN1, *days, price=200.0, volumes=thin))
    stage = floor(tmp_path, both, at(9, 58, 1), bracketed())
    stage.cycle(Interval.MIN1)
    stage.go(at(9, 58, 5)).release()
    two = {"symbols": ("AAPL", "MSFT")}
    controls.revise(stage.desk, bracketed(**two), actor=PERSON, confirmed=["symbols by MSFT"])
    stage.go(at(10, 0, 1)).cycle(Interval.MIN1)
    for second in (5, 31, 40):
        stage.go(at(10, 0, second)).release()
    assert stage.row("orders", symbol="MSFT", part="entry")["state"] == "partial"
    controls.revise(stage.desk, bracketed(agent=ExpressionAgent(NEVER, "close < 150"), **two), actor=PERSON)
    stage.go(at(10, 2, 40)).cycle(Interval.MIN1)
    released = stage.row("actions", symbol="AAPL", side="sell")["not_before"]
    # MSFT has bought some more at 10:03, of which nobody has heard yet.
    stage.go(max(released, at(10, 3, 11))).release()
    waiting = stage.row("actions", symbol="AAPL", side="sell")
    assert (waiting["state"], waiting["reason"]) == ("ready", "")
    assert stage.row("positions", symbol="AAPL")["quantity"] == 50


def test_an_approved_exit_whose_price_has_left_its_band_leaves_the_position_as_it_was_protected(tmp_path):
    """C12, 47: void before anything that protects is touched."""
    falls = {at(10, minute): (80.0,) * 4 for minute in range(3, 60)}
    sizing = FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.3"))
    spec = strategy(agent=ExpressionAgent(ALWAYS, ALWAYS), mode=Mode.APPROVAL, sizing=sizing, **MINUTES)
    stage = floor(tmp_path, minute_bars(at=falls), at(10, 0, 1), spec)
    stage.cycle(Interval.MIN1)
    approved(stage)
    stage.release()
    stage.go(at(10, 2, 58)).cycle(Interval.MIN1)
    name = approved(stage)
    stage.go(at(10, 3, 5)).release()
    left = stage.row("actions", action_id=name)
    assert (left["state"], left["reason"].partition(",")[0]) == ("voided", "the price moved to 80")
    assert [order.ticket.order_type.value for order in stage.broker.orders()] == ["stop"]
    assert stage.events(EventType.ORDER_CANCEL_REQUESTED) == []
