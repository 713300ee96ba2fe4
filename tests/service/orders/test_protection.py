"""Stops, targets and exits: what protects a position, and what takes its place."""

from datetime import date
from decimal import Decimal

import pytest

from tests.desks import ALWAYS, OPEN, PERSON, Killed, at, bars, calendar, crashing, floor, market, strategy
from tests.service.minutes import MINUTES, approved, bracketed, minute_bars, stops
from trading_pipeline.adapters.brokers.paper_book import MemoryBook, PaperSettings
from trading_pipeline.adapters.brokers.paper_faults import Call, CancelAfter, Empty, NotReady, Refuse
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.cycles import follow_up
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.limits import AccountLimits, StrategyLimits
from trading_pipeline.domain.orders import client_id
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing, Mode
from trading_pipeline.service import approvals
from trading_pipeline.service.cycle import run_follow_up
from trading_pipeline.service.orders.settlement import news
from trading_pipeline.service.submitter.closing import close_session

E = EventType


def test_a_fill_arms_stop_and_target_and_the_one_that_is_hit_cancels_the_other(tmp_path):
    risen = {at(10, 5): (100.0, 106.0, 100.0, 106.0)}
    stage = floor(tmp_path, minute_bars(at=risen), at(10, 0, 1), bracketed())
    stage.cycle(Interval.MIN1)
    parts = {row["part"]: row for row in stage.rows("orders")}
    assert set(parts) == {"entry", "stop-1", "target-1"}
    assert (parts["stop-1"]["stop_price"], parts["target-1"]["limit_price"]) == (Decimal(95), Decimal(105))
    assert parts["stop-1"]["oco"] == parts["target-1"]["oco"] is not None
    stage.go(at(10, 6, 1)).release()
    states = {row["part"]: row["state"] for row in stage.rows("orders")}
    assert states == {"entry": "filled", "stop-1": "canceled", "target-1": "filled"}
    assert stage.row("positions")["quantity"] == 0
    target = stage.row("fills", side="sell")
    assert (target["price"], target["quantity"]) == (Decimal(105), 50)


def test_a_gap_below_the_stop_fills_at_the_open(tmp_path):
    gap = {at(10, 5): (90.0, 90.0, 90.0, 90.0)}
    stage = floor(tmp_path, minute_bars(at=gap), at(10, 0, 1), bracketed())
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 6, 1)).release()
    stopped = stage.row("fills", side="sell")
    assert stopped["price"] < 90, "spread and slippage below the open"
    assert stage.row("positions")["quantity"] == 0


def test_an_exit_cancels_what_protects_before_it_sells_all_that_is_held(tmp_path):
    spec = bracketed(agent=ExpressionAgent(ALWAYS, ALWAYS))
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), spec)
    stage.cycle(Interval.MIN1)
    after = stage.desk.ledger.head()[0]
    stage.go(at(10, 2, 1)).cycle(Interval.MIN1)
    told = [event.type.value for event in stage.desk.ledger.events(after=after) if event.type.value.startswith("order.")]
    assert told == [
        "order.cancel_requested", "order.cancel_requested", "order.canceled", "order.canceled", "order.intent", "order.submitted",
        "order.accepted", "order.filled",
    ]
    assert stage.row("positions")["quantity"] == 0
    assert stage.broker.orders() == []


def test_an_exit_sells_what_is_left_when_the_target_took_some(tmp_path):
    """26: never oversell. Between verdict and release the target sold part of the position."""
    thin = {at(10, 2): (100.0, 105.0, 100.0, 100.0)}
    few = {at(10, 1): 200.0}
    spec = bracketed(agent=ExpressionAgent(ALWAYS, "close >= 100"), mode=Mode.APPROVAL, price_band=Decimal("0.03"))
    stage = floor(tmp_path, minute_bars(at=thin, volumes=few), at(10, 0, 1), spec)
    stage.cycle(Interval.MIN1)
    approved(stage)
    stage.release()
    stage.go(at(10, 2, 30)).cycle(Interval.MIN1)
    stage.go(at(10, 3, 1))
    approved(stage)
    stage.release()
    sold = {row["client_id"]: row["quantity"] for row in stage.rows("fills", side="sell")}
    parts = {row["client_id"]: row["part"] for row in stage.rows("orders")}
    assert sorted((parts[name], many) for name, many in sold.items()) == [("exit", 30), ("target-1", 20)]
    assert stage.row("positions")["quantity"] == 0
    assert stage.broker.positions() == {}


def test_an_exit_of_a_position_that_is_gone_is_voided_and_fails_nothing(tmp_path):
    risen = {at(10, 2): (100.0, 106.0, 100.0, 100.0)}
    spec = bracketed(agent=ExpressionAgent(ALWAYS, ALWAYS), mode=Mode.APPROVAL)
    stage = floor(tmp_path, minute_bars(at=risen), at(10, 0, 1), spec)
    stage.cycle(Interval.MIN1)
    approved(stage)
    stage.release()
    stage.go(at(10, 2, 30)).cycle(Interval.MIN1)
    stage.go(at(10, 3, 1))
    name = approved(stage)
    results = stage.release()
    assert results["orders"].counts["voided"] == 1
    assert stage.row("actions", action_id=name)["state"] == "voided"
    assert "nothing is held" in stage.row("actions", action_id=name)["reason"]
    assert stage.broker.positions() == {}


def test_a_large_exit_is_sent_in_slices_of_one_hundred_thousand_dollars(tmp_path):
    """D1."""
    risen = {session.open: (200.0,) * 4 for session in calendar().between(date(2024, 8, 29), date(2024, 9, 6))}
    limits = StrategyLimits(max_order_value=Decimal(100_000), max_position_value=Decimal(200_000))
    spec = strategy(limits=limits, sizing=FractionSizing(fraction=Decimal("0.09")), agent=ExpressionAgent(ALWAYS, "close > 150"))
    account = AccountLimits(max_position_value=Decimal(200_000))
    settings = PaperSettings(cash=Decimal(1_000_000), volume_share=Decimal(1))
    source = market(bars(volume=50_000_000, at=risen))
    stage = floor(tmp_path, source, OPEN, limits=account, settings=settings)
    rich = MemoryBook("PAPER-1", Decimal(1_000_000))
    stage.book = rich
    stage = stage.restarted().run(spec)
    stage.cycle()
    assert stage.row("positions")["quantity"] == 900
    stage.go(at(9, 30, day=date(2024, 8, 30))).cycle()
    exits = stage.rows("orders", side="sell", order_by="intent_seq")
    assert [(row["part"], row["quantity"]) for row in exits] == [("exit", 476), ("exit-2", 424)]
    assert {row["action_id"] for row in exits} == {exits[0]["action_id"]}
    assert stage.row("positions")["quantity"] == 0
    assert all(row["quantity"] * row["reference"] <= 100_000 for row in exits)


@pytest.mark.parametrize(("fault", "state", "reason"), [
    (Empty(), "voided", "denied before its protection was touched: unknown_order"), (NotReady(), "approved", ""),
])
def test_an_exit_that_may_not_go_leaves_the_position_protected(tmp_path, fault, state, reason):
    """C12 cannot come from us: what protects a position is cancelled only for an exit that may go. One that nobody can judge waits."""
    sizing = FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.03"))
    spec = strategy(agent=ExpressionAgent(ALWAYS, ALWAYS), mode=Mode.APPROVAL, sizing=sizing, **MINUTES)
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), spec)
    stage.cycle(Interval.MIN1)
    approved(stage)
    stage.release()
    stage.go(at(10, 3, 1))
    stage.cycle(Interval.MIN1)
    [leaving] = stage.rows("actions", side="sell")
    approvals.approve(stage.desk, leaving["action_id"], actor=PERSON)
    stage.faults.on_call(Call.POSITIONS, fault, fault)
    stage.release()
    left = stage.row("actions", side="sell")
    assert (left["state"], left["reason"]) == (state, reason)
    assert [order.ticket.order_type.value for order in stage.broker.orders()] == ["stop"]
    assert stage.events(EventType.ORDER_CANCEL_REQUESTED) == [], "it is the same stop, not another"


def leaving(tmp_path, **changes):
    """A position of 50 with a stop at 95 and a target at 105, and an exit that a person has just approved."""
    spec = bracketed(agent=ExpressionAgent(ALWAYS, ALWAYS), mode=Mode.APPROVAL, **changes)
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), spec)
    stage.cycle(Interval.MIN1)
    approved(stage)
    stage.release()
    stage.go(at(10, 2, 1)).cycle(Interval.MIN1)
    stage.go(at(10, 2, 30))
    return stage, approved(stage)


def test_an_exit_that_fills_in_part_leaves_the_rest_protected(tmp_path):
    """F6: what is left of the position has its stop and its target again, one cancelling the other."""
    stage, name = leaving(tmp_path)
    stage.faults.on_submit(client_id(name, "exit"), CancelAfter(20))
    stage.release()
    stage.release()
    assert stage.row("positions")["quantity"] == 30
    assert stops(stage) == [("stop-1", "canceled", 50, Decimal(95)), ("stop-1.2", "accepted", 30, Decimal(95))]
    again = {row["part"]: row for row in stage.rows("orders", state="accepted")}
    assert again["target-1.2"]["limit_price"] == Decimal(105)
    assert again["target-1.2"]["oco"] == again["stop-1.2"]["oco"]
    assert sorted(order.ticket.quantity for order in stage.broker.orders()) == [30, 30]
    assert news(stage.desk) == ""
    assert stage.verifies()


def test_what_was_placed_again_protects_and_ends_with_the_position(tmp_path):
    stage, name = leaving(tmp_path)
    stage.faults.on_submit(client_id(name, "exit"), CancelAfter(20))
    stage.release()
    stage.release()
    fallen = {at(10, 5): (94.0, 94.0, 94.0, 94.0)}
    stage = stage.restarted(market=minute_bars(at=fallen)).go(at(10, 6, 1))
    stage.release()
    assert stage.row("positions")["quantity"] == 0
    assert stage.broker.positions() == {}
    assert stage.broker.orders() == []
    assert stage.rows("orders", state=["accepted", "partial"]) == []


def test_an_exit_that_the_broker_refuses_leaves_the_position_protected(tmp_path):
    stage, name = leaving(tmp_path)
    stage.faults.on_submit(client_id(name, "exit"), Refuse("not now"))
    stage.release()
    assert stage.row("positions")["quantity"] == 50
    assert stops(stage)[-1] == ("stop-1.2", "accepted", 50, Decimal(95))


def test_a_crash_between_the_cancel_of_a_stop_and_the_exit_leaves_the_position_protected(tmp_path):
    """C12: whoever takes the lease next places the stop before anything else."""
    stage, _ = leaving(tmp_path)
    due = approvals.due(stage.desk)
    turn = follow_up(due.released, stage.desk.today(), stage.desk.now(), "release")
    with pytest.raises(Killed), crashing(stage.desk.broker, "submit"):
        run_follow_up(stage.desk, turn)
    again = stage.restarted()
    for second in (0, 40, 50, 55):
        again.go(at(10, 3, second)).release()
    assert again.row("orders", part="exit")["state"] == "not_placed", "nobody knew whether it had gone out: it is looked for first"
    assert stops(again)[-1] == ("stop-1.2", "accepted", 50, Decimal(95))
    assert again.verifies()


def test_a_stop_that_the_broker_dropped_is_placed_again(tmp_path):
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    stage.cycle(Interval.MIN1)
    for order in stage.broker.orders():
        stage.broker.cancel(order.client_id)
    stage.go(at(10, 1, 0)).release()
    stage.go(at(10, 1, 5)).release()
    assert stops(stage)[-1] == ("stop-1.2", "accepted", 50, Decimal(95))
    assert len(stage.broker.orders()) == 2


def test_what_cannot_be_protected_is_a_fact_once(tmp_path):
    """C12: the broker takes no stop; a person must know."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    stage.cycle(Interval.MIN1)
    for order in stage.broker.orders():
        stage.broker.cancel(order.client_id)
    stage.faults.on_every_submit(Refuse("no stops today"))
    stage.go(at(10, 1, 0)).release()
    stage.go(at(10, 1, 10)).release()
    told = stage.events(E.POSITION_UNPROTECTED)
    assert [(event.payload["symbol"], event.payload["quantity"]) for event in told] == [("AAPL", 50)]
    stage.go(at(10, 2, 0)).release()
    assert [part for part, *_ in stops(stage)] == ["stop-1", "stop-1.2", "stop-1.3"], "asked again after half a minute, not at once"


def test_an_exit_that_expires_in_part_with_nobody_at_the_desk_is_told_at_the_close(tmp_path):
    """C12: its stop was cancelled for it, and nothing is placed before the next session: a person must know, all night."""
    thin = {at(15, minute): 60.0 for minute in range(54, 60)}
    spec = bracketed(agent=ExpressionAgent(ALWAYS, ALWAYS), mode=Mode.APPROVAL)
    stage = floor(tmp_path, minute_bars(volumes=thin), at(15, 50, 1), spec)
    stage.cycle(Interval.MIN1)
    approved(stage)
    stage.release()
    stage.go(at(15, 56, 1)).cycle(Interval.MIN1)
    stage.go(at(15, 56, 30))
    approved(stage)
    stage.release()
    session = calendar().session(date(2024, 8, 28))
    stage.go(session.close)
    close_session(stage.desk, session)
    left = stage.row("positions")["quantity"]
    assert 0 < left < 50
    [told] = stage.events(E.POSITION_UNPROTECTED)
    assert (told.payload["strategy"], told.payload["symbol"], told.payload["quantity"]) == ("buyer", "AAPL", left)
    stage.go(at(9, 30, 40, day=date(2024, 8, 29))).release()
    assert stops(stage)[-1] == ("stop-1.2", "accepted", left, Decimal(95))
    assert len(stage.events(E.POSITION_UNPROTECTED)) == 1
    assert stage.verifies()


def test_a_position_without_a_stop_of_its_own_is_nobodys_business(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    stage.cycle()
    stage.go(at(10, 0)).release()
    assert stage.rows("orders", side="sell") == []
    assert stage.events(E.POSITION_UNPROTECTED) == []


def test_an_exit_that_the_market_has_left_behind_gives_the_stops_place_back(tmp_path):
    """C12: a limit above the market protects nothing."""
    fallen = {at(10, minute): (90.0, 90.0, 90.0, 90.0) for minute in range(3, 30)}
    spec = bracketed(agent=ExpressionAgent(ALWAYS, ALWAYS), mode=Mode.APPROVAL)
    stage = floor(tmp_path, minute_bars(at=fallen, volumes={at(10, 1): 60.0, at(10, 2): 60.0}), at(10, 0, 1), spec)
    stage.cycle(Interval.MIN1)
    approved(stage)
    stage.release()
    stage.go(at(10, 2, 1)).cycle(Interval.MIN1)
    stage.go(at(10, 2, 30))
    approved(stage)
    stage.release()
    assert 0 < stage.row("positions")["quantity"] < 50, "thin: only some has been sold"
    for minute, second in ((3, 10), (3, 20), (3, 40), (4, 10), (5, 10)):
        stage.go(at(10, minute, second)).release()
    exits = {row["part"]: row["state"] for row in stage.rows("orders", side="sell") if row["submitted_at"]}
    assert exits["exit"] == "canceled"
    assert exits["stop-1.2"] in ("accepted", "partial", "filled")
