"""Stops, targets and exits: what protects a position, and what takes its place."""

from datetime import date
from decimal import Decimal

from tests.desks import ALWAYS, OPEN, PERSON, at, bars, calendar, floor, market, strategy
from tests.service.minutes import MINUTES, approved, bracketed, minute_bars
from trading_pipeline.adapters.brokers.paper_book import MemoryBook, PaperSettings
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.limits import AccountLimits, StrategyLimits
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing, Mode
from trading_pipeline.service import approvals

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
    assert [(row["part"], row["quantity"]) for row in exits] == [("exit", 500), ("exit-2", 400)]
    assert {row["action_id"] for row in exits} == {exits[0]["action_id"]}
    assert stage.row("positions")["quantity"] == 0
    assert all(row["quantity"] * row["reference"] <= 100_000 for row in exits)


def test_an_exit_that_would_be_denied_leaves_the_position_protected(tmp_path):
    """C12 cannot come from us: what protects a position is cancelled only for an exit that may go."""
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
    stage.broker.trade_by_hand("AAPL", Side.BUY, 5, Decimal(100))
    stage.release()
    left = stage.row("actions", side="sell")
    assert (left["state"], left["reason"]) == ("voided", "denied before its protection was touched: unknown_order")
    assert [order.ticket.order_type.value for order in stage.broker.orders()] == ["stop"]
