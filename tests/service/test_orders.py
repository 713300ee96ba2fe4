"""Steps orders and fills: facts first, one submission an order, and what becomes of it afterwards."""

import json
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest

from tests.desks import CLOSE, DAY, NEVER, OPEN, PERSON, at, bars, calendar, floor, market, strategy
from tests.service.minutes import MINUTES, approved, bracketed, minute_bars
from trading_pipeline.adapters.brokers.paper_faults import CancelAfter
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.cycles import follow_up
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.limits import AccountLimits
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.signals import Action, Signal
from trading_pipeline.domain.strategies import Entry, ExpressionAgent, FractionSizing, Mode
from trading_pipeline.ports import Answer
from trading_pipeline.service import approvals, controls
from trading_pipeline.service.cycle import STEPS, run_cycle, run_follow_up
from trading_pipeline.service.execution import collect_fills, place_orders
from trading_pipeline.service.judging.book import intent_of
from trading_pipeline.service.orders.gate import intents_of
from trading_pipeline.service.orders.settlement import news

E = EventType


class Selling:
    """A decision maker that sells for one strategy whatever it holds, and leaves the others to another one."""

    provider = "rules"

    def __init__(self, inner, name):
        self._inner, self._name, self.needs = inner, name, inner.needs

    def decide(self, questions):
        sell = [Answer(Signal(q.symbol, Action.SELL, Decimal(1), "out"), "rules", "test", "{}") for q in questions]
        return [mine if q.strategy == self._name else self._inner.decide([q])[0] for q, mine in zip(questions, sell, strict=True)]


# The order of facts


def test_intent_comes_before_submission_and_both_before_the_broker(tmp_path):
    """11, C2: a crash leaves a question that can be asked, never a secret."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    known = []
    submit = stage.desk.broker.submit

    def watched(ticket, permit):
        known.extend(event.type.value for event in stage.events() if event.type.value.startswith("order."))
        return submit(ticket, permit)

    stage.desk.broker.submit = watched
    stage.cycle()
    assert known == ["order.intent", "order.submitted"]
    orders = [event for event in stage.events() if event.type.value.startswith("order.")]
    assert [event.type.value for event in orders] == ["order.intent", "order.submitted", "order.accepted", "order.filled"]
    assert all(later.seq > earlier.seq for earlier, later in pairwise(orders))


def test_the_submission_cites_a_passing_verdict_of_the_same_instant(tmp_path):
    """32."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    stage.cycle()
    [submitted] = stage.events(E.ORDER_SUBMITTED)
    verdict = stage.desk.ledger.event(submitted.payload["verdict_seq"])
    assert verdict.type is E.RISK_EVALUATED
    assert (verdict.payload["stage"], verdict.payload["passed"]) == ("gate", True)
    assert submitted.at - verdict.at == timedelta(0)
    assert submitted.payload["ticket"]["quantity"] == 50


def test_a_second_run_sends_nothing_twice(tmp_path):
    """12."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    stage.cycle()
    place_orders(stage.desk, stage.due())
    again = stage.restarted()
    run_cycle(again.desk, again.due())
    assert len(stage.events(E.ORDER_SUBMITTED)) == 1
    assert stage.broker.positions() == {"AAPL": 50}


def test_a_fill_costs_the_open_with_spread_slippage_and_commission(tmp_path):
    """50 shares at 100 + half of 0.02 + 0.02, and $1: cash 100,000 - 5,001.50 - 1."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    stage.cycle()
    fill = stage.row("fills")
    assert (fill["quantity"], fill["price"], fill["commission"]) == (50, Decimal("100.03"), Decimal(1))
    assert stage.row("cash")["cash"] == Decimal("94997.50")
    assert stage.row("positions")["cost"] == Decimal("5002.50")


def test_the_gate_denies_after_an_approval_and_says_so(tmp_path):
    """50: approval is necessary, not sufficient. Here the position limit was used up by another strategy meanwhile."""
    specs = (strategy(mode=Mode.APPROVAL), strategy("late", sizing=FractionSizing(fraction=Decimal("0.09")), agent=ExpressionAgent(NEVER)))
    stage = floor(tmp_path, market(bars()), OPEN, *specs, limits=AccountLimits(max_position_value=Decimal(6_000)))
    stage.cycle()
    name = approved(stage)
    _hold_by_another(stage, 20)
    stage.release()
    action = stage.row("actions", action_id=name)
    order = stage.row("orders", strategy="buyer")
    assert (action["state"], order["state"]) == ("consumed", "denied")
    assert stage.denials(name) == ["account_position"]
    assert "account_position" in order["reason"]
    assert "order.denied" in stage.types()
    assert stage.broker.orders([order["client_id"]]) == []


def _hold_by_another(stage, quantity):
    order = {
        "client_id": "OTHER", "action_id": "OTHER", "part": "entry", "parent": None, "oco": None, "account": "PAPER-1", "strategy": "late",
        "symbol": "AAPL", "side": "buy", "order_class": "E", "order_type": "limit", "time_in_force": "day", "quantity": quantity,
        "reference": Decimal(100), "limit_price": Decimal(100), "stop_price": None, "session": DAY,
    }
    fill = {**order, "execution_id": "X-1", "price": Decimal(100), "commission": Decimal(1), "filled_at": stage.clock.now()}
    stage.broker.trade_by_hand("AAPL", Side.BUY, quantity, Decimal(100))
    with stage.desk.ledger.transaction() as tx:
        for type_, payload in ((E.ORDER_INTENT, order), (E.ORDER_SUBMITTED, order), (E.ORDER_FILLED, fill)):
            tx.append(NewEvent(type_, "strategy:late", f"{type_.value}:OTHER", payload, stage.clock.now() - timedelta(minutes=1), "test"))


def test_a_price_that_left_the_proposals_band_voids_it(tmp_path):
    """48."""
    moved = {at(10, 2): (101.5, 101.5, 101.5, 101.5)}
    stage = floor(tmp_path, minute_bars(at=moved), at(10, 0, 1), strategy(mode=Mode.APPROVAL, **MINUTES))
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 2, 1))
    name = approved(stage)
    results = stage.release()
    assert results["orders"].counts == {"voided": 1}
    assert stage.row("approvals", action_id=name)["state"] == "voided"
    assert "101.5" in stage.row("approvals", action_id=name)["reason"]
    assert stage.rows("orders") == []


def test_an_approval_that_was_not_sent_in_thirty_seconds_has_expired(tmp_path):
    """D20."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy(mode=Mode.APPROVAL))
    stage.cycle()
    name = approved(stage)
    stage.go(OPEN + timedelta(seconds=30))
    place_orders(stage.desk, follow_up((name,), DAY, stage.clock.now(), "approval"))
    assert stage.row("actions")["state"] == "expired"
    assert stage.rows("orders") == []


def test_a_paced_action_goes_out_when_its_time_has_come_and_not_before(tmp_path):
    stage = floor(tmp_path, minute_bars("AAPL", "IBM"), at(10, 0, 1), strategy(symbols=("AAPL", "IBM"), **MINUTES))
    stage.cycle(Interval.MIN1)
    assert len(stage.rows("fills")) == 1
    stage.go(at(10, 0, 30))
    assert stage.release()["orders"].counts == {}
    stage.go(at(10, 0, 31))
    assert stage.release()["orders"].counts == {"submitted": 1, "accepted": 1}
    assert {row["symbol"] for row in stage.rows("fills")} == {"AAPL", "IBM"}


# Fills


def test_a_partial_fill_is_booked_share_by_share(tmp_path):
    """18, C8: a tenth of the volume of the bar before: 20 of 50 shares a minute."""
    stage = floor(tmp_path, minute_bars(volumes={at(9, 59): 200.0, at(10, 0): 200.0}), at(10, 0, 1), strategy(**MINUTES))
    stage.cycle(Interval.MIN1)
    order = stage.row("orders")
    assert (order["state"], order["filled_quantity"]) == ("partial", 20)
    stage.go(at(10, 1, 1)).release()
    stage.go(at(10, 2, 1)).release()
    assert [row["quantity"] for row in stage.rows("fills", order_by="seq")] == [20, 20, 10]
    assert stage.types().count("order.partially_filled") == 2
    assert (stage.row("orders")["state"], stage.row("positions")["quantity"]) == ("filled", 50)


def test_an_execution_is_booked_once_however_often_it_is_seen(tmp_path):
    """18, C8."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    stage.cycle()
    for seconds in (1, 2, 3):
        stage.go(OPEN + timedelta(seconds=seconds)).release()
    assert len(stage.rows("fills")) == 1
    assert len(stage.events(E.ORDER_FILLED)) == 1


def test_a_fill_after_the_cancel_was_asked_for_is_booked(tmp_path):
    """19, C11, fault 17: fills win."""
    stage = floor(tmp_path, minute_bars(volumes={at(9, 59): 200.0}), at(10, 0, 1), strategy(**MINUTES))
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 1, 1))
    controls.pause(stage.desk, "buyer", actor=PERSON)
    order = stage.row("orders")
    assert "order.cancel_requested" in stage.types()
    assert stage.row("positions")["quantity"] == order["filled_quantity"] == stage.broker.positions()["AAPL"]
    assert order["state"] in ("canceled", "filled")


def test_an_entry_that_did_not_fill_expires_with_the_session(tmp_path):
    spec = strategy(sizing=FractionSizing(fraction=Decimal("0.05"), entry=Entry.PULLBACK))
    last = {session.open: (110.0,) * 4 for session in calendar().between(date(2024, 8, 27), date(2024, 9, 6))}
    stage = floor(tmp_path, market(bars(at=last)), OPEN, spec)
    stage.cycle()
    assert stage.row("orders")["state"] == "accepted"
    stage.go(CLOSE + timedelta(seconds=1)).release()
    order = stage.row("orders")
    assert (order["state"], order["filled_quantity"]) == ("expired", 0)
    assert stage.row("cash")["cash"] == 100_000


def test_what_the_account_owner_does_by_hand_is_adopted_under_a_name_of_its_own(tmp_path):
    """28, fault 21: counted as the account's, no order of ours; a stock that no source of ours knows is worth what was paid for it."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    stage.cycle()
    stage.go(OPEN + timedelta(seconds=3)).broker.trade_by_hand("IBM", Side.BUY, 7, Decimal(100))
    assert news(stage.desk) == "fill:PAPER-1-2"
    results = stage.go(OPEN + timedelta(seconds=5)).release()
    assert results["fills"].counts["external"] == 1
    held = stage.row("positions", symbol="IBM")
    assert (held["strategy"], held["quantity"]) == ("EXTERNAL", 7)
    assert stage.row("cash")["cash"] == 100_000 - sum(row["quantity"] * row["price"] + row["commission"] for row in stage.rows("fills"))
    [snapshot] = stage.rows("snapshots", order_by="seq", descending=True, limit=1)
    [theirs] = [position for position in json.loads(snapshot["positions"])["held"] if position["strategy"] == "EXTERNAL"]
    assert (theirs["symbol"], theirs["value"]) == ("IBM", "700.00")
    assert news(stage.desk) == ""
    assert stage.verifies()


def test_what_somebody_else_holds_counts_in_every_exposure(tmp_path):
    """28, 35: 490 shares at $100 leave no room for a strategy under the account's $50,000 a position."""
    risen = {at(10, 1): (101.0, 101.0, 101.0, 101.0)}
    stage = floor(tmp_path, minute_bars(at=risen), at(10, 0, 1), strategy(agent=ExpressionAgent("close > 100.5"), **MINUTES))
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 0, 30)).broker.trade_by_hand("AAPL", Side.BUY, 490, Decimal(100))
    stage.release()
    stage.go(at(10, 2, 1)).cycle(Interval.MIN1)
    assert {"account_position", "concentration"} <= set(stage.denials())
    assert stage.rows("orders") == []


def test_an_external_sale_of_what_a_strategy_holds_is_never_oversold(tmp_path):
    """26, fault 22: the strategy's book says 50, the account has none left: its exit is denied."""
    spec = strategy(agent=ExpressionAgent("close > 0", "close > 0"), **MINUTES)
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), spec)
    stage.cycle(Interval.MIN1)
    [held] = stage.rows("positions", symbol="AAPL")
    stage.go(at(10, 0, 30)).broker.trade_by_hand("AAPL", Side.SELL, held["quantity"], Decimal(100))
    stage.release()
    stage.go(at(10, 2, 1)).cycle(Interval.MIN1)
    assert "oversell" in stage.denials()
    assert stage.broker.positions() == {}


def test_a_sale_of_what_somebody_else_has_sold_already_is_denied_and_fails_no_run(tmp_path):
    """26, 28: one strategy holds none, and the account has fewer than another one's book says."""
    wants_out = strategy("none", agent=ExpressionAgent("close < 0", "close > 0"), **MINUTES)
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), strategy(**MINUTES), wants_out)
    stage.desk.deciders["rules"] = Selling(stage.desk.deciders["rules"], "none")
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 0, 30)).broker.trade_by_hand("AAPL", Side.SELL, 7, Decimal(100))
    stage.go(at(10, 2, 1)).cycle(Interval.MIN1)
    assert [row["state"] for row in stage.rows("actions", strategy="none")] == ["denied", "denied"]
    assert stage.events(E.ORDER_SUBMITTED)[-1].payload["strategy"] == "buyer"


def test_collecting_fills_changes_nothing_when_there_is_nothing_new(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    due = stage.due()
    for step in ("bars", "indicators", "charts", "signals", "verdicts", "orders"):
        STEPS[step](stage.desk, due)
    assert collect_fills(stage.desk, due).counts == {"filled": 1}
    head = stage.desk.ledger.head()
    assert collect_fills(stage.desk, due).replayed
    assert stage.desk.ledger.head() == head


def test_a_child_is_known_to_the_ledger_by_no_other_orders_number(tmp_path):
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    stage.cycle(Interval.MIN1)
    stated = {order.client_id: order.broker_order_id for order in stage.broker.orders([row["client_id"] for row in stage.rows("orders")])}
    for row in stage.rows("orders"):
        assert row["broker_order_id"] in (None, stated[row["client_id"]])


def test_a_next_order_waits_for_thirty_seconds_after_an_entry_fill(tmp_path):
    """D3: the cooldown begins anew with a fill, also one that came after the pacing was decided."""
    source = minute_bars("AAPL", "IBM", volumes={at(9, 59): 450.0, at(10, 0): 100_000.0})
    stage = floor(tmp_path, source, at(10, 0, 45), strategy(symbols=("AAPL", "IBM"), **MINUTES))
    stage.cycle(Interval.MIN1)
    paced = stage.row("actions", state="ready")
    assert paced["not_before"] == at(10, 1, 15)
    stage.go(at(10, 1, 5)).release()
    filled = stage.row("fills", quantity=5)
    assert filled["at"] == at(10, 1)
    stage.go(at(10, 1, 15))
    assert approvals.due(stage.desk).released == (), "held back by the fill: no run is launched in vain"
    assert approvals.next_instant(stage.desk) == at(10, 1, 35)
    # One that was launched before the fill leaves it ready, and says why.
    run_follow_up(stage.desk, follow_up((paced["action_id"],), stage.desk.today(), stage.desk.now(), "release"))
    assert [event.payload["counts"] for event in stage.events(E.STEP_COMPLETED) if event.payload["step"] == "orders"][-1] == {"paced": 1}
    assert stage.row("actions", action_id=paced["action_id"])["state"] == "ready"
    stage.go(at(10, 1, 35)).release()
    assert stage.row("actions", action_id=paced["action_id"])["state"] == "consumed"


def test_a_fill_counts_for_the_cooldown_though_the_rest_of_its_order_was_canceled(tmp_path):
    """68: nine shares fill at 10:00:45 and nine at 10:01, and the broker cancels the rest."""
    source = minute_bars("AAPL", "IBM", volumes={at(9, 59): 90.0, at(10, 0): 90.0})
    stage = floor(tmp_path, source, at(10, 0, 45), strategy(symbols=("AAPL", "IBM"), **MINUTES))
    stage.faults.on_every_submit(CancelAfter(18))
    stage.cycle(Interval.MIN1)
    assert stage.row("actions", state="ready")["not_before"] == at(10, 1, 15)
    stage.go(at(10, 1, 5))
    run_follow_up(stage.desk, follow_up((), DAY, stage.clock.now(), "orders"))
    entry = stage.row("orders")
    assert (entry["state"], entry["filled_quantity"]) == ("canceled", 18)
    stage.go(at(10, 1, 29)).release()
    assert len(stage.events(E.ORDER_SUBMITTED)) == 1
    stage.go(at(10, 1, 35)).release()
    assert len(stage.events(E.ORDER_SUBMITTED)) == 2


@pytest.mark.parametrize(("most", "sent"), [("10197.00", 2), ("10196.99", 1)])
def test_the_days_orders_count_at_their_worst_price_once_they_are_sent(tmp_path, most, sent):
    """43: two orders of 50 shares at $100, which may cost $101.97 each."""
    specs = strategy("a", **MINUTES), strategy("b", symbols=("IBM",), **MINUTES)
    limits = AccountLimits(max_day_notional=Decimal(most))
    stage = floor(tmp_path, minute_bars("AAPL", "IBM"), at(10, 0, 1), *specs, limits=limits)
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 0, 5)).release()
    assert [(row["reference"], row["limit_price"], row["quantity"]) for row in stage.rows("orders")] == [(100, Decimal("101.97"), 50)] * 2
    assert len(stage.events(E.ORDER_SUBMITTED)) == sent
    assert stage.denials() == ["day_notional"] * (2 - sent)


def test_what_was_held_before_the_book_began_blocks_its_symbol(tmp_path):
    """27: book and broker disagree, so nothing is provable."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    stage.broker.trade_by_hand("AAPL", Side.BUY, 50, Decimal(100))
    stage.cycle()
    assert stage.denials() == ["unknown_order"]
    [verdict] = [v for e in stage.events(E.RISK_EVALUATED) for v in e.payload["verdicts"] if v["rule"] == "unknown_order"]
    assert "the broker states 50" in verdict["measured"]


def test_a_strategy_that_asks_a_person_never_sends_without_one(tmp_path):
    """44: ready under the old mode, when the strategy has come to ask a person."""
    specs = strategy(symbols=("AAPL", "MSFT"), **MINUTES)
    stage = floor(tmp_path, minute_bars("AAPL", "MSFT"), at(10, 0, 1), specs)
    stage.cycle(Interval.MIN1)
    [paced] = stage.rows("actions", state="ready")
    asking = {"strategy": "buyer", "spec": encode(replace(specs, mode=Mode.APPROVAL)), "loosened": []}
    with stage.desk.ledger.transaction() as tx:
        tx.append(NewEvent(EventType.STRATEGY_REVISED, "strategy:buyer", "revised by a crash", asking, stage.clock.now(), PERSON))
    stage.go(paced["not_before"])
    stage.release()
    assert stage.row("orders", action_id=paced["action_id"])["reason"] == "approval"
    assert len(stage.events(EventType.ORDER_SUBMITTED)) == 1


def test_an_approval_is_good_for_nothing_but_the_order_that_was_shown(tmp_path):
    """44, 45: what a person saw is compared with what is about to be sent, field by field."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy(mode=Mode.APPROVAL))
    stage.cycle()
    name = approved(stage)
    row = stage.row("actions", action_id=name)
    larger = replace(intent_of(row), quantity=intent_of(row).quantity + 1)
    stage.go(OPEN + timedelta(seconds=2))
    turn = follow_up((name,), stage.desk.today(), stage.clock.now(), "release")
    with stage.desk.ledger.transaction() as tx:
        tx.append(*intents_of(larger, turn.cycle_id, turn.session, stage.clock.now(), row["last_seq"]))
    place_orders(stage.desk, turn)
    [gate] = [event for event in stage.events(E.RISK_EVALUATED) if event.payload["stage"] == "gate"]
    [verdict] = [each for each in gate.payload["verdicts"] if each["rule"] == "approval"]
    assert (verdict["outcome"], verdict["measured"]) == ("deny", "another quantity than was shown")
    assert stage.events(E.ORDER_SUBMITTED) == []


def test_an_approved_order_found_after_a_crash_is_held_to_the_price_that_was_shown(tmp_path):
    """44, C2: killed between intent and gate; the price has left the proposal's band since."""
    moved = {at(10, 2): (101.5, 101.5, 101.5, 101.5)}
    stage = floor(tmp_path, minute_bars(at=moved), at(10, 0, 1), strategy(mode=Mode.APPROVAL, **MINUTES))
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 1, 50))
    name = approved(stage)
    row = stage.row("actions", action_id=name)
    turn = follow_up((name,), stage.desk.today(), stage.clock.now(), "release")
    with stage.desk.ledger.transaction() as tx:
        tx.append(*intents_of(intent_of(row), turn.cycle_id, turn.session, stage.clock.now(), row["last_seq"]))
    stage.go(at(10, 2, 1)).release()
    assert stage.row("orders")["state"] == "denied"
    assert "approval" in stage.row("orders")["reason"]
