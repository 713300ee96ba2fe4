"""The hostile policy, small: nothing gets past a limit; and where a rule is missing, it does, and is seen."""

from dataclasses import replace
from decimal import Decimal

import pytest

from tests.evidence.hostile import Tally, bounded, planned, play, run
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.limits import AccountLimits, StrategyLimits
from trading_pipeline.domain.risk import Judgement
from trading_pipeline.domain.rules import size
from trading_pipeline.domain.rules.readings import off
from trading_pipeline.domain.strategies import FractionSizing
from trading_pipeline.service import controls, trading
from trading_pipeline.service.judging import book
from trading_pipeline.service.orders import gate


@pytest.mark.slow
def test_a_policy_that_always_asks_for_the_worst_stays_within_every_limit():
    """32, 35-38, 43, 60, 65-69, fault 41, fault 53, T2: fault 53."""
    tally = run(5)
    assert tally.breaches == []
    assert (tally.sessions, tally.bounded) == (10, 5)
    assert tally.orders > 20
    assert tally.halted > 0, "some came to their limit"
    assert tally.loss_at_entry < 1
    assert tally.bounded_entries > 10
    assert 0.9 < tally.stake_at_entry <= 1, "as much as may be, and no more"


# Negative controls: one session that holds what falls, with something taken out


@pytest.mark.parametrize(
    ("rules", "symbol", "fraction", "seen"),
    [
        ({"strategy_position", "order_value"}, "AAA", "0.15", "above the position limit"),
        ({"forbidden_symbol"}, "TQQQ", "0.09", "leveraged"),
        ({"penny_stock"}, "PNNY", "0.09", "a penny stock"),
        ({"account_day_loss", "strategy_day_loss", "volatility"}, "AAA", "0.03", "loss limit"),
    ],
)
def test_a_missing_rule_is_seen(monkeypatch, rules, symbol, fraction, seen):
    original = gate.judge

    def lenient(intent, context):
        return Judgement(tuple(verdict for verdict in original(intent, context).verdicts if verdict.rule not in rules))

    monkeypatch.setattr(gate, "judge", lenient)
    monkeypatch.setattr(trading, "judge", lenient)
    # Of the two that stop a loss either is enough.
    monkeypatch.setattr(controls, "pause_by_itself", lambda *why, **more: False)
    plan = planned(1)
    spec = replace(
        plan.specs[0], symbols=(symbol,), interval=Interval.HOUR1, sizing=FractionSizing(fraction=Decimal(fraction)),
        limits=StrategyLimits(max_day_loss=Decimal(50)),
    )
    tally = Tally()
    bad = {"persona": "everything", "interval": Interval.HOUR1, "drift": -0.02, "gaps": 0, "crashes": 0}
    play(replace(plan, symbols=(symbol,), specs=(spec,), **bad), tally)
    assert any(seen in each for each in tally.breaches)


@pytest.mark.parametrize("missing", ["the rules", "what is held", "what is under way", "what was lost"])
def test_a_bound_that_leaves_something_out_is_seen(monkeypatch, missing):
    """36: several positions at once, in a market that falls and does not jump."""
    match missing:
        case "the rules":
            monkeypatch.setattr(size, "_day_risk", lambda rule, *rest: off(rule))
            monkeypatch.setattr(book.Book, "day_risk_left", lambda *given: None)
        case "what is held":
            monkeypatch.setattr(book, "held_risk", lambda *given: Decimal(0))
        case "what is under way":
            monkeypatch.setattr(size, "at_stake_in", lambda intent: Decimal(0))
            monkeypatch.setattr(book.Book, "day_risk_left", lambda *given: None)
        case _:
            monkeypatch.setattr(size, "max", lambda *given: Decimal(0), raising=False)
            monkeypatch.setattr(book, "risk_left", lambda limit, granted, pnl, at_stake: limit - at_stake)
    tally, plan, symbols = Tally(), bounded(2), ("AAA", "BBB", "CCC")
    sizing = FractionSizing(fraction=Decimal("0.09"), stop=Decimal("0.03"))
    spec = replace(plan.specs[0], symbols=symbols, sizing=sizing, limits=StrategyLimits(max_day_risk=Decimal(500), cool_off=None))
    limits = AccountLimits(max_day_risk=Decimal(300))
    market = {"interval": Interval.MIN15, "drift": -0.001, "crashes": 0.02, "stubborn": False}
    play(replace(plan, symbols=symbols, specs=(spec,), limits=limits, persona="everything", **market), tally)
    assert any("at its stops" in each for each in tally.breaches)
