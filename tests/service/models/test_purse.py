"""What may still be spent: by day, provider, strategy and hour, within the transaction that reserves it (invariant 63)."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal as D

import pytest

from tests.desks import strategy
from tests.histories import AT
from tests.model_facts import answered, asked, lost
from trading_pipeline.adapters.ledger.memory import MemoryLedger
from trading_pipeline.domain.limits import StrategyLimits
from trading_pipeline.domain.models import ModelBudget, Provider
from trading_pipeline.service.models.purse import Purse, budget_day

NOON = datetime(2026, 11, 20, 17, 0, tzinfo=UTC)
"""12:00 in New York."""
MODEL = "claude-haiku-4-5"


class Wall:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def ledger(wall) -> MemoryLedger:
    return MemoryLedger("demo", wall, opened_at=AT)


def write(ledger, *events):
    with ledger.transaction() as transaction:
        transaction.append(*events)


def purse(ledger, wall, **budget):
    return Purse(ledger, ModelBudget(**budget), wall.now)


def reason(of: Purse, worst: str | None, spec=None, provider=Provider.ANTHROPIC, **more) -> str | None:
    refusal = of.refusal(spec or strategy("trend"), provider, MODEL, None if worst is None else D(worst), **more)
    return None if refusal is None else refusal.reason


def test_a_question_is_reserved_for_twice(ledger, wall):
    """63: at most one more call a question, so $2.50 a call is $5.00."""
    assert reason(purse(ledger, wall, per_day=D(5)), "2.50") is None
    assert reason(purse(ledger, wall, per_day=D(5)), "2.5000001") == "budget"


def test_what_is_reserved_is_gone_and_what_is_settled_comes_back(ledger, wall):
    write(ledger, asked("c1", reserved="4.00"))
    assert reason(purse(ledger, wall, per_day=D(5)), "0.51") == "budget"
    write(ledger, answered("c1", cost="0.10"))
    assert reason(purse(ledger, wall, per_day=D(5)), "2.45") is None
    assert purse(ledger, wall, per_day=D(5)).left() == D("4.90")


def test_what_is_lost_stays_spent(ledger, wall):
    write(ledger, asked("c1", reserved="4.00"), lost("c1"))
    assert purse(ledger, wall, per_day=D(5)).left() == D("1.00")


def test_what_is_taken_counts_before_it_is_written(ledger, wall):
    own = purse(ledger, wall, per_day=D(1))
    own.take("trend", Provider.ANTHROPIC, D("0.60"))
    assert (reason(own, "0.20"), reason(own, "0.21")) == (None, "budget")


def test_a_provider_has_a_budget_of_its_own(ledger, wall):
    write(ledger, asked("c1", reserved="1.00"))
    budget = {"per_day": D(100), "per_provider": ((Provider.ANTHROPIC, D("1.50")),)}
    assert reason(purse(ledger, wall, **budget), "0.26") == "provider_budget"
    assert reason(purse(ledger, wall, **budget), "0.25") is None
    assert reason(purse(ledger, wall, **budget), "9", provider=Provider.OPENAI) is None


def test_a_strategy_has_a_budget_of_its_own(ledger, wall):
    write(ledger, asked("c1", reserved="1.00"))
    mine = strategy("trend", limits=StrategyLimits(max_day_model_cost=D("1.50")))
    other = strategy("other", limits=StrategyLimits(max_day_model_cost=D("1.50")))
    own = purse(ledger, wall, per_day=D(100))
    assert (reason(own, "0.26", mine), reason(own, "0.25", mine), reason(own, "0.75", other)) == ("strategy_budget", None, None)


def test_an_unknown_price_is_no_call(ledger, wall):
    assert reason(purse(ledger, wall), None) == "unknown_price"


def test_what_is_recorded_is_neither_refused_nor_counted(ledger, wall):
    own = purse(ledger, wall, per_day=D("0.01"), calls_per_hour=1)
    assert reason(own, None, recorded=True) is None
    own.take("trend", Provider.ANTHROPIC, D(1), recorded=True)
    assert (own.committed(), own.calls_last_hour()) == (D(0), 0)


def test_an_open_question_counts_for_all_the_calls_it_may_make(ledger, wall):
    """D18: 50 an hour. 24 open questions may make 48 calls: one more question is 50, and the next is refused."""
    write(ledger, *(asked(f"c{n}", reserved="0.001") for n in range(24)))
    own = purse(ledger, wall)
    assert (own.calls_last_hour(), reason(own, "0.001")) == (48, None)
    own.take("trend", Provider.ANTHROPIC, D("0.002"))
    assert reason(own, "0.001") == "rate"
    write(ledger, *(answered(f"c{n}", cost="0.001") for n in range(24)))
    assert purse(ledger, wall).calls_last_hour() == 24


def test_a_call_is_forgotten_an_hour_after_its_answer(ledger, wall):
    write(ledger, asked("c1"))
    wall.now += timedelta(minutes=3)
    write(ledger, answered("c1", calls=2))
    wall.now += timedelta(minutes=60)
    assert purse(ledger, wall).calls_last_hour() == 2
    wall.now += timedelta(microseconds=1)
    assert purse(ledger, wall).calls_last_hour() == 0


def test_what_is_free_is_counted_by_the_hour_all_the_same(ledger, wall):
    """A local model costs $0.00."""
    write(ledger, asked("c1", reserved="0"), answered("c1", cost="0"))
    write(ledger, asked("c2", reserved="0"), answered("c2", cost="0", replayed=True))
    assert purse(ledger, wall).calls_last_hour() == 1


def test_a_new_day_has_a_new_budget_at_midnight_in_new_york(ledger, wall):
    """Winter time: midnight is 05:00 UTC."""
    write(ledger, asked("c1", reserved="5.00", day="2026-11-20"))
    wall.now = datetime(2026, 11, 21, 4, 59, 59, tzinfo=UTC)
    assert (budget_day(wall.now), purse(ledger, wall).left()) == (date(2026, 11, 20), D(0))
    wall.now = datetime(2026, 11, 21, 5, 0, tzinfo=UTC)
    assert (budget_day(wall.now), purse(ledger, wall).left()) == (date(2026, 11, 21), D(5))


def test_a_refusal_says_the_figures(ledger, wall):
    write(ledger, asked("c1", reserved="4.50"))
    refusal = purse(ledger, wall).refusal(strategy("trend"), Provider.ANTHROPIC, MODEL, D("0.30"))
    assert refusal is not None
    assert refusal.detail == "the account has $4.50 of $5 spent or reserved on 2026-11-20; this question may cost $0.60"
