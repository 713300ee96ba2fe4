"""Step verdicts: each action sized, judged by every rule, and then denied, asked about, or made ready."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest

from tests.desks import ALWAYS, DAY, NEVER, OPEN, PERSON, Killed, at, bars, crashing, floor, market, strategy
from tests.service.replaying import replayed
from trading_pipeline.adapters.llm.rules import RulesAgent
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.limits import AccountLimits, StrategyLimits
from trading_pipeline.domain.orders import Side
from trading_pipeline.domain.rulebook import RULEBOOK
from trading_pipeline.domain.signals import Action, Signal
from trading_pipeline.domain.strategies import ExpressionAgent, FractionSizing, Mode
from trading_pipeline.ports import Answer
from trading_pipeline.service import approvals, controls
from trading_pipeline.service.cycle import STEPS, run_cycle
from trading_pipeline.service.trading import judge_actions

E = EventType
TWO = ("AAPL", "IBM")


class Confident:
    """A decision maker that wants everything, each as sure as it is told to be."""

    provider = "rules"
    needs = RulesAgent.needs

    def __init__(self, **confidence):
        self.confidence = confidence

    def decide(self, questions):
        return [
            Answer(Signal(q.symbol, Action.BUY, Decimal(self.confidence[q.symbol]), "sure"), "rules", "test", "{}") for q in questions
        ]


def judged(stage):
    """Run the cycle up to its verdicts."""
    due = stage.due()
    for step in ("bars", "indicators", "charts", "signals", "verdicts"):
        result = STEPS[step](stage.desk, due)
    return result


def test_an_autonomous_action_that_passes_is_ready(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    result = judged(stage)
    assert (result.counts["judged"], result.counts["ready"]) == (1, 1)
    action = stage.row("actions")
    assert (action["state"], action["not_before"], action["expires_at"]) == ("ready", OPEN, OPEN + timedelta(minutes=10))
    [evaluated], [ready] = stage.events(EventType.RISK_EVALUATED), stage.events(E.ACTION_READY)
    assert ready.cause == evaluated.seq


def test_every_rule_answers_for_every_action_denied_or_not(tmp_path):
    specs = (strategy(), strategy("poor", limits=StrategyLimits(max_position_value=Decimal(50)), sizing=FractionSizing()))
    stage = floor(tmp_path, market(bars()), OPEN, *specs)
    judged(stage)
    passed, _denied = stage.events(EventType.RISK_EVALUATED)
    assert [verdict["rule"] for verdict in passed.payload["verdicts"]] == [rule.__name__ for rule in RULEBOOK]
    assert all(verdict["measured"] and verdict["limit"] for verdict in passed.payload["verdicts"] if verdict["outcome"] != "not_applicable")


def test_a_denial_names_rule_value_and_limit_and_ends_the_action(tmp_path):
    spec = strategy(limits=StrategyLimits(max_position_value=Decimal(4_000)))
    stage = floor(tmp_path, market(bars()), OPEN, spec)
    result = judged(stage)
    assert result.counts["denied"] == 1
    assert stage.denials() == ["strategy_position"]
    [evaluated] = stage.events(EventType.RISK_EVALUATED)
    [denied] = [verdict for verdict in evaluated.payload["verdicts"] if verdict["outcome"] == "deny"]
    assert denied["limit"] == "$4,000.00"
    assert stage.row("actions")["state"] == "denied"
    assert "strategy_position" in stage.row("actions")["reason"]
    assert stage.events(E.ACTION_READY, E.ORDER_INTENT) == []


def test_a_share_below_one_dollar_is_not_bought(tmp_path):
    """66."""
    stage = floor(tmp_path, market(bars(price=0.99, volume=50_000_000)), OPEN, strategy())
    judged(stage)
    assert "penny_stock" in stage.denials()


def test_an_action_that_cannot_be_sized_is_denied_and_says_why(tmp_path):
    stage = floor(tmp_path, market(bars(price=9_000)), OPEN, strategy())
    judged(stage)
    [evaluated] = stage.events(EventType.RISK_EVALUATED)
    [verdict] = evaluated.payload["verdicts"]
    assert (verdict["rule"], verdict["outcome"]) == ("sizing", "deny")
    assert "below_one_share" in verdict["detail"]


def test_a_mode_1_action_that_passes_waits_for_a_person_with_all_that_was_weighed(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy(mode=Mode.APPROVAL))
    result = judged(stage)
    assert result.counts["pending"] == 1
    [requested] = stage.events(E.APPROVAL_REQUESTED)
    shown = requested.payload["shown"]
    assert (shown["symbol"], shown["side"]) == ("AAPL", "buy")
    assert (shown["quantity"], shown["estimated_value"], shown["reference"]) == (50, "5000.00", "100")
    assert len(shown["verdicts"]) == len(RULEBOOK)
    assert (shown["price_low"], shown["price_high"]) == ("99.00", "101.00")
    assert stage.row("approvals")["expires_at"] == OPEN + timedelta(minutes=5)
    assert stage.events(E.ORDER_INTENT) == []


def test_a_proposal_does_not_outlive_the_session(tmp_path):
    source = market(bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=DAY))
    stage = floor(tmp_path, source, at(15, 58, 1), strategy(mode=Mode.APPROVAL, interval=Interval.MIN1))
    stage.cycle(Interval.MIN1)
    assert stage.row("approvals")["expires_at"] == at(16)


def test_an_unsure_action_of_an_autonomous_strategy_is_denied(tmp_path):
    sure = floor(tmp_path / "a", market(bars()), OPEN, strategy(), deciders={"rules": Confident(AAPL="0.8")})
    unsure = floor(tmp_path / "b", market(bars()), OPEN, strategy(), deciders={"rules": Confident(AAPL="0.79")})
    judged(sure)
    judged(unsure)
    assert sure.denials() == []
    assert unsure.denials() == ["min_confidence"]


def test_of_several_signals_the_most_confident_goes_first_and_the_next_is_paced_thirty_seconds_later(tmp_path):
    """D3."""
    source = market(bars("AAPL"), bars("IBM"), bars("MSFT"))
    decider = Confident(AAPL="0.81", IBM="0.99", MSFT="0.9")
    stage = floor(tmp_path, source, OPEN, strategy(symbols=("AAPL", "IBM", "MSFT")), deciders={"rules": decider})
    judged(stage)
    released = {row["symbol"]: row["not_before"] - OPEN for row in stage.rows("actions")}
    assert released == {"IBM": timedelta(0), "MSFT": timedelta(seconds=30), "AAPL": timedelta(seconds=60)}


def test_two_strategies_do_not_wait_for_each_others_cooldown_but_keep_the_accounts_gap(tmp_path):
    """43, D3."""
    stage = floor(tmp_path, market(bars()), OPEN, strategy("one"), strategy("two"))
    judged(stage)
    released = [row["not_before"] - OPEN for row in stage.rows("actions", order_by="generated_seq")]
    assert sorted(released) == [timedelta(0), timedelta(seconds=1)]


def test_two_strategies_within_their_limits_are_not_jointly_over_the_accounts(tmp_path):
    """42, fault 55: judged one after the other, the second sees the first."""
    limits = AccountLimits(max_position_value=Decimal(9_000))
    stage = floor(tmp_path, market(bars()), OPEN, strategy("one"), strategy("two"), limits=limits)
    judged(stage)
    assert sorted(row["state"] for row in stage.rows("actions")) == ["denied", "ready"]
    assert stage.denials() == ["account_position"]


def test_a_pending_action_denies_the_next_one_as_already_open(tmp_path):
    """D29: 69 covers only sixty seconds."""
    source = market(bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=DAY))
    stage = floor(tmp_path, source, at(10, 0, 1), strategy(mode=Mode.APPROVAL, interval=Interval.MIN1))
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 2, 1))
    stage.cycle(Interval.MIN1)
    assert [row["state"] for row in stage.rows("actions", order_by="generated_seq")] == ["pending", "denied"]
    assert stage.denials() == ["already_open"]


def test_the_same_action_within_sixty_seconds_is_a_duplicate(tmp_path):
    """69, D4, fault 56: also when the first was rejected in the meantime."""
    source = market(bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=DAY))
    stage = floor(tmp_path, source, at(10, 0, 20), strategy(mode=Mode.APPROVAL, interval=Interval.MIN1))
    stage.cycle(Interval.MIN1)
    approvals.reject(stage.desk, stage.row("approvals")["action_id"], actor=PERSON)
    stage.go(at(10, 1, 19.999))
    stage.cycle(Interval.MIN1)
    assert stage.denials() == ["duplicate_action"]
    stage.go(at(10, 2, 19))
    stage.cycle(Interval.MIN1)
    assert stage.rows("actions", order_by="generated_seq")[-1]["state"] == "pending", "a denied duplicate does not extend the window"


def test_an_opposite_signal_voids_what_waits(tmp_path):
    """D29: a dip is bought and pending when the position's exit comes."""
    source = market(bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=DAY))
    at_once = StrategyLimits(revenge_wait=None)
    spec = strategy(interval=Interval.MIN1, mode=Mode.APPROVAL, agent=ExpressionAgent(ALWAYS, ALWAYS), limits=at_once)
    stage = floor(tmp_path, source, at(10, 0, 1), spec)
    stage.cycle(Interval.MIN1)
    [bought] = stage.rows("actions")
    approvals.approve(stage.desk, bought["action_id"], actor=PERSON)
    stage.release()
    assert stage.row("positions")["quantity"] == 50
    stage.go(at(10, 3, 1))
    stage.cycle(Interval.MIN1)
    exit_action = stage.rows("actions", order_by="generated_seq")[-1]
    assert (exit_action["side"], exit_action["state"]) == ("sell", "pending")
    # The position goes by hand; the strategy is flat and wants in again while its exit still waits.
    _sell_past_us(stage)
    stage.go(at(10, 5, 1))
    stage.cycle(Interval.MIN1)
    entry = stage.rows("actions", order_by="generated_seq")[-1]
    assert (entry["side"], entry["state"]) == ("buy", "pending")
    [voided] = stage.events(E.APPROVAL_VOIDED)
    assert voided.payload["action_id"] == exit_action["action_id"]
    assert entry["action_id"] in voided.payload["reason"]
    assert voided.cause == entry["generated_seq"]
    assert stage.row("approvals", action_id=exit_action["action_id"])["state"] == "voided"


def _sell_past_us(stage):
    """The strategy's protective order, say, had sold: booked as a fill of an order of its own."""
    row = stage.row("orders", part="entry")
    order = {
        "client_id": "STOPPED", "action_id": row["action_id"], "part": "stop-1", "parent": None, "oco": None, "account": "PAPER-1",
        "strategy": "buyer", "symbol": "AAPL", "side": "sell", "order_class": "P", "order_type": "stop", "time_in_force": "gtc",
        "quantity": 50, "reference": Decimal(100), "limit_price": None, "stop_price": Decimal(99), "session": DAY,
    }
    fill = {**order, "execution_id": "X-1", "price": Decimal(99), "commission": Decimal(1), "filled_at": stage.clock.now()}
    stage.broker.trade_by_hand("AAPL", Side.SELL, 50, Decimal(99))
    with stage.desk.ledger.transaction() as tx:
        for type_, payload in ((E.ORDER_INTENT, order), (E.ORDER_SUBMITTED, order), (E.ORDER_FILLED, fill)):
            tx.append(NewEvent(type_, "strategy:buyer", f"{type_.value}:STOPPED", payload, stage.clock.now(), "test"))


def test_a_cycle_run_again_after_its_signals_went_stale_proposes_nothing(tmp_path):
    """D20: after action, before verdict, the crash lasts longer than the signal is good for."""
    for mode in Mode:
        stage = floor(tmp_path / mode.value, market(bars()), OPEN, strategy(mode=mode))
        due = stage.due()
        for step in ("bars", "indicators", "charts", "signals"):
            STEPS[step](stage.desk, due)
        stage.go(at(9, 40))
        judge_actions(stage.desk, due)
        assert stage.denials() == ["signal_ttl"]
        assert stage.row("actions")["state"] == "denied"
        assert stage.events(E.APPROVAL_REQUESTED, E.ACTION_READY) == []


def test_a_crash_among_the_verdicts_leaves_none_and_the_next_run_gives_them_once(tmp_path):
    stage = floor(tmp_path, market(bars("AAPL"), bars("IBM")), OPEN, strategy(symbols=TWO))
    due = stage.due()
    for step in ("bars", "indicators", "charts", "signals"):
        STEPS[step](stage.desk, due)
    with pytest.raises(Killed), crashing(stage.desk.calendar.__class__, "last_closed_slot", on=2):
        judge_actions(stage.desk, due)
    assert {row["state"] for row in stage.rows("actions")} == {"proposed"}
    run_cycle(stage.restarted().desk, due)
    assert len(stage.events(E.ACTION_READY)) == 2


def test_a_paused_strategy_gets_no_order(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    due = stage.due()
    for step in ("bars", "indicators", "charts", "signals"):
        STEPS[step](stage.desk, due)
    controls.pause(stage.desk, "buyer", actor=PERSON)
    judge_actions(stage.desk, due)
    assert stage.denials() == ["strategy_state"]


def test_the_days_loss_stops_entries_and_lets_exits_pass(tmp_path):
    """36, D6, D12, fault 53: one holding falls far once both were asked; another strategy wants in, the first wants out."""
    fallen = {at(9, 30, day=date(2024, 8, 30)): (80.0,) * 4, at(9, 30, day=date(2024, 8, 29)): (100.0, 100.0, 80.0, 80.0)}
    holder = strategy("holder", sizing=FractionSizing(fraction=Decimal("0.09")), agent=ExpressionAgent("close > 90", "close < 90"))
    late = strategy("late", symbols=("IBM",), agent=ExpressionAgent("close < 0"))
    limits = AccountLimits(max_day_loss=Decimal(100))
    source = market(bars("AAPL", at={**fallen, at(9, 30, day=date(2024, 9, 3)): (79.0,) * 4}), bars("IBM"))
    stage = floor(tmp_path, source, OPEN, holder, late, limits=limits)
    stage.cycle()
    assert stage.row("positions")["quantity"] == 90
    stage.go(at(9, 30, day=date(2024, 8, 29))).cycle()
    # Within the session of the 30th the price falls after the day's baseline was fixed: 90 shares from 80 to 77 cost 270.
    stage.go(at(9, 30, day=date(2024, 8, 30)))
    controls.revise(stage.desk, replace(late, agent=ExpressionAgent(ALWAYS, NEVER)), actor=PERSON)
    due = stage.due()
    for step in ("bars", "indicators", "charts", "signals"):
        STEPS[step](stage.desk, due)
    lower = stage.restarted(market=market(bars("AAPL", at={**fallen, at(9, 30, day=date(2024, 8, 30)): (77.0,) * 4}), bars("IBM")))
    STEPS["verdicts"](lower.desk, due)
    states = {row["strategy"]: row["state"] for row in stage.rows("actions", session="2024-08-30")}
    assert states == {"holder": "ready", "late": "denied"}
    assert "account_day_loss" in stage.denials()


def test_the_account_never_trades_against_itself(tmp_path):
    """43: one strategy's target works below what another would pay."""
    first = strategy("first", sizing=FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.03"), target=Decimal("0.01")))
    stage = floor(tmp_path, market(bars()), OPEN, first)
    stage.cycle()
    stage.run(strategy("second"))
    stage.go(at(9, 30, day=date(2024, 8, 29)))
    stage.cycle()
    denied = [e.payload["reason"] for e in stage.events(EventType.RISK_EVALUATED) if e.payload["strategy"] == "second"]
    assert denied == ["self_cross"]


def test_a_strategy_that_is_revised_between_its_signals_and_their_verdicts_keeps_nobody_elses_from_being_judged(tmp_path):
    """39, D17: it has given up IBM meanwhile; the proposal is denied for that, and the others are judged."""
    source, rules = market(bars(), bars("IBM"), bars("MSFT")), {"rules": RulesAgent()}
    stage = floor(tmp_path, source, OPEN, strategy(symbols=("AAPL", "IBM")), strategy("other", symbols=("MSFT",)), deciders=rules)
    cycle = stage.due()
    for name in ("bars", "indicators", "charts", "signals"):
        STEPS[name](stage.desk, cycle)
    assert {row["state"] for row in stage.rows("actions")} == {"proposed"}
    controls.revise(stage.desk, strategy(symbols=("AAPL",)), actor=PERSON)
    judge_actions(stage.desk, cycle)
    assert {row["symbol"]: row["state"] for row in stage.rows("actions")} == {"AAPL": "ready", "IBM": "denied", "MSFT": "ready"}
    [verdict] = [event.payload for event in stage.events(EventType.RISK_EVALUATED) if event.payload["symbol"] == "IBM"]
    assert "universe" in verdict["reason"]
    assert replayed(stage).difference is None
