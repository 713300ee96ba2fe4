"""What models cost, as people ask for it: today against the budgets, and the last days by who, whose, which and with what words."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D

import pytest

from tests.desks import OPEN, bars, floor, market
from tests.model_facts import answered, asked, lost, skipped
from trading_pipeline.domain.models import CostsBy, ModelBudget, Provider
from trading_pipeline.service.desk import Models
from trading_pipeline.service.models.costs import costs, today
from trading_pipeline.service.models.purse import budget_day

TODAY, YESTERDAY = (budget_day() - timedelta(days=back) for back in (0, 1))


@pytest.fixture
def desk(tmp_path):
    budget = ModelBudget(per_day=D(5), per_provider=((Provider.OPENAI, D(2)),), calls_per_hour=50)
    return replace(floor(tmp_path, market(bars()), OPEN).desk, models=Models({}, None, None, None, budget))


def write(desk, *events):
    with desk.ledger.transaction() as tx:
        tx.append(*events)


def day(desk):
    """Today: `trend` asks Anthropic twice (one open), `swing` asks OpenAI once and loses it; yesterday `trend` asked once."""
    now, before = TODAY.isoformat(), YESTERDAY.isoformat()
    write(
        desk, asked("c0", day=before, reserved="1.00"), answered("c0", cost="0.40"),
        asked("c1", day=now, reserved="0.10"), answered("c1", cost="0.02"), asked("c2", day=now, reserved="0.30"),
        asked("c3", strategy="swing", day=now, reserved="0.50", provider="openai"), lost("c3", strategy="swing", day=now),
        asked("c4", day=now, reserved="0"), answered("c4", cost="0", replayed=True),
        skipped("c5", "trigger", day=now), skipped("c6", "trigger", day=now), skipped("c7", "budget", "9", day=now),
    )


def test_today_says_what_is_spent_reserved_and_left(desk):
    """$0.02 and the lost $0.50 are spent, $0.30 is reserved. Calls: one answered, two that an open and a lost one may have made each."""
    day(desk)
    assert today(desk) == {
        "day": TODAY.isoformat(), "budget": "5", "spent": "0.52", "reserved": "0.30", "left": "4.18", "calls_last_hour": 6,
        "calls_per_hour": 50, "providers": [{"provider": "openai", "budget": "2", "committed": "0.50"}],
    }


def test_costs_by_strategy_put_the_dearest_first(desk):
    day(desk)
    found = costs(desk)
    assert [(each["strategy"], each["spent"], each["reserved"], each["questions"]) for each in found["groups"]] == [
        ("swing", "0.50", "0.00", 1), ("trend", "0.02", "0.30", 3),
    ]
    assert (found["total"]["spent"], found["total"]["lost"], found["total"]["replayed"]) == ("0.52", 1, 1)
    assert found["total"]["skipped"] == {"budget": 1, "trigger": 2}


def test_costs_of_several_days_are_summed_up(desk):
    day(desk)
    found = costs(desk, days=2)
    assert (found["from"], found["to"], found["total"]["spent"]) == (YESTERDAY.isoformat(), TODAY.isoformat(), "0.92")


def test_of_a_record_that_is_over_all_days_are_summed_up(desk):
    day(desk)
    found = costs(desk, None)
    assert (found["from"], found["to"], found["total"]["spent"]) == (YESTERDAY.isoformat(), TODAY.isoformat(), "0.92")


@pytest.mark.parametrize("by", CostsBy)
def test_every_way_to_sum_up_comes_to_the_same(desk, by):
    day(desk)
    for days in (1, 2):
        found = costs(desk, days, by)
        for name in ("spent", "reserved"):
            assert sum(D(each[name]) for each in found["groups"]) == D(found["total"][name])
        for name in ("questions", "calls", "failed", "lost", "replayed", "tokens_in", "tokens_out"):
            assert sum(each[name] for each in found["groups"]) == found["total"][name], name


def test_what_a_trigger_saved_is_reckoned_at_the_average_question(desk):
    """Four questions were paid $0.92 in two days, so that two questions not asked are $0.46."""
    day(desk)
    assert costs(desk, 2)["total"]["saved_by_trigger"] == {
        "questions": 2, "usd": "0.460000", "how": "at the average of the questions asked",
    }


def test_what_a_question_would_have_cost_at_most_is_taken_where_it_is_said(desk):
    write(desk, skipped("c1", "trigger", "0.25", day=TODAY.isoformat()))
    assert costs(desk)["total"]["saved_by_trigger"] == {"questions": 1, "usd": "0.25", "how": "at most"}


def test_where_nobody_was_asked_there_is_nothing(desk):
    found = costs(desk, 30)
    assert (found["groups"], found["total"]["spent"], found["today"]["left"]) == ([], "0", "5")
