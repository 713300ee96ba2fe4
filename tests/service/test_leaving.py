"""A strategy that wants out while something of it is still on its way in."""

from datetime import date

from tests.desks import ALWAYS, NEVER, PERSON, at, bars, floor, market
from tests.service.minutes import bracketed, minute_bars
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.strategies import ExpressionAgent
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


def test_an_exit_waits_for_the_cooldown_of_a_fill_that_is_learned_when_it_is_released(tmp_path):
    """D3: it would be void for good, and come again with the next bar only, which may be tomorrow's."""
    days = date(2024, 8, 27), date(2024, 8, 29)
    thin = {at(9, 59): 100.0} | {at(10, minute): 100.0 for minute in range(30)}
    both = market(bars("AAPL", Interval.MIN1, *days), bars("MSFT", Interval.MIN1, *days, volumes=thin))
    stage = floor(tmp_path, both, at(9, 58, 1), bracketed())
    stage.cycle(Interval.MIN1)
    stage.go(at(9, 58, 5)).release()
    two = {"symbols": ("AAPL", "MSFT")}
    controls.revise(stage.desk, bracketed(**two), actor=PERSON, confirmed=["symbols by MSFT"])
    stage.go(at(10, 0, 1)).cycle(Interval.MIN1)
    for second in (5, 31, 40):
        stage.go(at(10, 0, second)).release()
    assert stage.row("orders", symbol="MSFT", part="entry")["state"] == "partial"
    controls.revise(stage.desk, bracketed(agent=ExpressionAgent(NEVER, ALWAYS), **two), actor=PERSON)
    stage.go(at(10, 2, 40)).cycle(Interval.MIN1)
    released = stage.row("actions", symbol="AAPL", side="sell")["not_before"]
    # MSFT has bought some more at 10:03, of which nobody has heard yet.
    stage.go(max(released, at(10, 3, 11))).release()
    waiting = stage.row("actions", symbol="AAPL", side="sell")
    assert (waiting["state"], waiting["reason"]) == ("ready", "")
    assert stage.row("positions", symbol="AAPL")["quantity"] == 50
