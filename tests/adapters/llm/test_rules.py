"""The rules agent as a decision maker: entries, exits, abstentions, and a reply that can be derived again."""

import json
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from tests.domain.market_tables import table, wandering
from trading_pipeline.adapters.llm.rules import RulesAgent, required_indicators
from trading_pipeline.domain.indicators import compute, indicator
from trading_pipeline.domain.signals import Abstain, Action, Signal
from trading_pipeline.domain.strategies import AnalyzerAgent, ExpressionAgent
from trading_pipeline.errors import ExpressionError
from trading_pipeline.ports import DecisionMaker, Question

AGENT: DecisionMaker = RulesAgent()
ANALYZER = AnalyzerAgent()


def ask(agent, bars, bars_held=None, columns=None):
    columns = compute(AGENT.needs(agent), bars) if columns is None else columns
    (answer,) = AGENT.decide([Question("s", agent, bars.symbol, bars, columns, bars_held)])
    return answer


def rising(length=250):
    """Up two, down one, and the newest bar up with twice the volume: RSI about 67, everything else above."""
    steps = np.where(np.arange(length) % 3 == 1, -1.0, 1.0)
    steps[-1] = 1.0
    close = 100 + np.cumsum(steps)
    volume = np.full(length, 1000.0)
    volume[-1] = 2000
    return table(close, close + 1, close - 1, volume=volume, symbol="AAPL")


def falling(length=250):
    close = 400.0 - np.arange(length)
    return table(close, close + 0.1, close - 0.1, symbol="AAPL")


def test_a_strong_stock_is_bought_when_flat_and_kept_when_held():
    answer = ask(ANALYZER, rising())
    assert isinstance(answer.decision, Signal)
    assert answer.decision.action is Action.BUY
    assert answer.decision.score >= 80
    assert answer.decision.label == "STRONG_BUY"
    assert answer.decision.confidence == Decimal(answer.decision.score) / 100
    assert ask(ANALYZER, rising(), bars_held=3).decision.action is Action.HOLD


def test_a_weak_stock_is_left_alone_when_flat_and_sold_when_held():
    """Falling a dollar a bar: only ATR14 (1.1) earns its 10 points."""
    flat, held = ask(ANALYZER, falling()).decision, ask(ANALYZER, falling(), bars_held=0).decision
    assert (flat.action, flat.score, flat.confidence) == (Action.HOLD, 10, Decimal("0.1"))
    assert (held.action, held.score, held.confidence) == (Action.SELL, 10, Decimal("0.9"))
    assert "Against: close 151.00 not above SMA20 160.50" in held.rationale


def test_a_young_symbol_says_what_it_is_too_young_for():
    answer = ask(ANALYZER, replace(wandering(104), symbol="FB"))
    assert answer.decision == Abstain("FB", "warm_up", "SMA200 needs 200 bars; FB has 104.")
    everything = ask(ANALYZER, replace(wandering(10), symbol="FB")).decision
    assert "SMA20 needs 20 bars, SMA50 needs 50 bars, SMA200 needs 200 bars, RSI14 needs 15 bars, MACD needs 34 bars" in everything.detail


def test_a_value_that_is_undefined_is_not_called_warm_up():
    answer = ask(ANALYZER, table([50.0] * 250))
    assert answer.decision.reason == "undefined"
    assert "rsi_14" in answer.decision.detail


def test_the_199th_bar_abstains_and_the_200th_decides():
    bars = wandering(200)
    assert ask(ANALYZER, bars.rows(0, 199)).decision.reason == "warm_up"
    assert isinstance(ask(ANALYZER, bars).decision, Signal)


@pytest.mark.parametrize(("close", "bars_held", "action"), [
    ([10, 10, 12], None, Action.BUY),
    ([10, 10, 10], None, Action.HOLD),
    ([10, 10, 8], 1, Action.SELL),
    ([10, 10, 12], 1, Action.HOLD),
    ([10, 10, 12], 4, Action.HOLD),
    ([10, 10, 12], 5, Action.SELL),
    ([10, 10, 12], 6, Action.SELL),
])
def test_an_expression_enters_when_flat_and_leaves_by_rule_or_after_max_bars(close, bars_held, action):
    agent = ExpressionAgent("close > 11", "close < 9", max_bars=5)
    answer = ask(agent, table(close), bars_held)
    assert answer.decision.action is action
    assert answer.decision.confidence == 1


def test_without_exit_rule_and_max_bars_a_position_is_kept():
    answer = ask(ExpressionAgent("close > 11"), table([10, 1]), bars_held=100)
    assert (answer.decision.action, answer.decision.rationale) == (Action.HOLD, "there is no exit_when")


def test_only_the_rule_that_is_asked_must_be_warm():
    agent = ExpressionAgent("close > sma_50", "close < sma_5", max_bars=20)
    bars = wandering(30)
    assert ask(agent, bars).decision == Abstain("TEST", "warm_up", "SMA50 needs 50 bars; TEST has 30.")
    assert isinstance(ask(agent, bars, bars_held=2).decision, Signal)
    assert ask(agent, bars.rows(0, 3), bars_held=20).decision.action is Action.SELL


def test_the_rationale_shows_the_rule_and_its_figures():
    answer = ask(ExpressionAgent("close > 11 and volume >= 1000"), table([10, 12.5]))
    assert answer.decision.rationale == "enter_when holds: close > 11 and volume >= 1000 (close 12.5, volume 1,000)"


def test_what_is_imperfect_is_an_abstain_and_never_an_exception():
    bars = wandering(30)
    assert ask(ExpressionAgent("close >"), bars, columns={}).decision.reason == "bad_expression"
    assert ask(ExpressionAgent("close > sma_20"), bars, columns={}).decision.reason == "not_computed"
    assert ask(ANALYZER, bars, columns={}).decision.reason == "not_computed"
    assert ask(ANALYZER, bars.rows(0, 0)).decision.reason == "no_bars"


def test_the_needs_of_an_agent_are_what_its_rules_name():
    agent = ExpressionAgent("rsi < 30 and close > sma_200", "rsi_14 > 70")
    assert required_indicators(agent) == (indicator("rsi_14"), indicator("sma_200"))
    assert indicator("sma_200") in AGENT.needs(ANALYZER)
    with pytest.raises(ExpressionError):
        required_indicators(ExpressionAgent("close > nonsense"))


def test_one_answer_a_question_in_order():
    bars = rising()
    columns = compute(AGENT.needs(ANALYZER), bars)
    questions = [Question("s", ANALYZER, symbol, replace(bars, symbol=symbol), columns, None) for symbol in ("C", "A", "B")]
    assert [answer.decision.symbol for answer in AGENT.decide(questions)] == ["C", "A", "B"]
    assert AGENT.decide([]) == []


def test_the_reply_is_canonical_and_holds_what_the_score_was_made_of():
    answer = ask(ANALYZER, rising())
    reply = json.loads(answer.raw)
    assert answer.raw == json.dumps(reply, sort_keys=True, separators=(",", ":"))
    assert answer.raw == ask(ANALYZER, rising()).raw
    assert min(100, sum(point["points"] for point in reply["points"])) == reply["score"] == answer.decision.score
    assert float(reply["inputs"]["close"]) == rising().close[-1]
    assert reply["bar_end"].endswith("Z")
    assert (answer.provider, answer.model, answer.cost, answer.tokens_in, answer.tokens_out) == ("rules", "analyzer", 0, 0, 0)
