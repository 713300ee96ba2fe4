"""A strategy that cannot pay for a question to its model pauses, and goes on when there is money again (D18)."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from tests.desks import PERSON, at, floor, strategy
from tests.model_facts import skipped
from tests.service.minutes import MINUTES, minute_bars
from tests.service.pauses import paused, states
from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.events import EventType, NewEvent
from trading_pipeline.domain.limits import StrategyLimits
from trading_pipeline.domain.models import ModelBudget, Provider
from trading_pipeline.domain.strategies import ModelAgent, PauseReason
from trading_pipeline.service import controls
from trading_pipeline.service.desk import Models
from trading_pipeline.service.judging.breakers import review
from trading_pipeline.service.models.purse import budget_day

E, D = EventType, Decimal
ANALYST = ModelAgent(Provider.ANTHROPIC, "claude-haiku-4-5", "analyst/v1")


def unpaid(stage, day, saved="3.00", reason="budget"):
    """A question that there was no money for: one call of it can cost $3.00, and it may take two."""
    with stage.desk.ledger.transaction() as tx:
        tx.append(skipped(f"c{day}{reason}", reason, saved, strategy="buyer", day=day.isoformat()))


def spending(tmp_path, per_day="5", **limits):
    """A running strategy that a model decides for; nobody looks whether that model could be asked."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), strategy(**MINUTES))
    spec = strategy(**MINUTES, agent=ANALYST, limits=StrategyLimits(**limits))
    payload = {"strategy": "buyer", "spec": encode(spec)}
    with stage.desk.ledger.transaction() as tx:
        tx.append(NewEvent(E.STRATEGY_REVISED, "strategy:buyer", "revised:buyer", payload, stage.desk.now(), PERSON))
    stage.desk = with_budget(stage.desk, per_day)
    return stage


def with_budget(desk, per_day):
    """A desk that may ask models for so much; nobody is asked here."""
    return replace(desk, models=Models({}, None, None, None, ModelBudget(per_day=D(per_day))))


def test_a_strategy_that_cannot_pay_for_a_question_pauses(tmp_path):
    """D18, fault 44: $6.00 for two calls, of $5."""
    stage = spending(tmp_path)
    assert (review(stage.desk), paused(stage)) == ([], ("running", "")), "nothing was asked yet"
    unpaid(stage, budget_day())
    review(stage.desk)
    assert paused(stage) == ("paused_risk", "budget")
    assert "this question may cost $6.00" in stage.row("strategies", name="buyer")["reason"]
    assert review(stage.desk) == [], "and stays so"


def test_a_spent_budget_is_a_days(tmp_path):
    """3.3: BUDGET, next day: what there was no money for yesterday is yesterday's."""
    stage = spending(tmp_path)
    unpaid(stage, budget_day() - timedelta(days=1))
    controls.pause_by_itself(stage.desk, "buyer", PauseReason.BUDGET, "spent")
    review(stage.desk)
    assert states(stage) == {"buyer": "running"}


def test_a_raised_budget_lets_it_go_on(tmp_path):
    stage = spending(tmp_path)
    unpaid(stage, budget_day())
    review(stage.desk)
    review(with_budget(stage.desk, "5.99"))
    assert states(stage) == {"buyer": "paused_risk"}
    review(with_budget(stage.desk, "6.00"))
    assert states(stage) == {"buyer": "running"}


def test_a_strategys_own_budget_pauses_it_as_well(tmp_path):
    stage = spending(tmp_path, per_day="100", max_day_model_cost=D("5.99"))
    unpaid(stage, budget_day(), reason="strategy_budget")
    review(stage.desk)
    assert paused(stage) == ("paused_risk", "budget")


def test_the_cheapest_question_without_money_decides(tmp_path):
    """One for $6.00 and one for $4.00: of $5, the second can be paid."""
    stage = spending(tmp_path)
    unpaid(stage, budget_day())
    unpaid(stage, budget_day(), "2.00", "provider_budget")
    assert (review(stage.desk), paused(stage)) == ([], ("running", ""))


def test_too_many_calls_an_hour_are_no_spent_budget(tmp_path):
    stage = spending(tmp_path)
    unpaid(stage, budget_day(), reason="rate")
    assert (review(stage.desk), paused(stage)) == ([], ("running", ""))
