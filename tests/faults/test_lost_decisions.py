"""fault 2: a process that dies between a decision and its verdict: judged while it is fresh, denied as stale after that."""

from datetime import date, timedelta

import pytest

from tests.desks import DAY, NEVER, Killed, at, bars, crashing, floor, market, strategy
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.strategies import ExpressionAgent
from trading_pipeline.service.cycle import STEPS, run_cycle

CRASHED_AT = at(10, 0, 1)


@pytest.fixture
def stage(tmp_path):
    """A strategy on minute bars whose run died after the decision of ten o'clock; the bar of three minutes past brings no other one."""
    source = market(bars(interval=Interval.MIN1, first=date(2024, 8, 27), last=DAY, at={at(10, 2): (99.5, 99.5, 99.5, 99.5)}))
    stage = floor(tmp_path, source, CRASHED_AT, strategy(interval=Interval.MIN1, agent=ExpressionAgent("close >= 100", NEVER)))
    due = stage.due(Interval.MIN1)
    for step in ("bars", "indicators", "charts", "signals"):
        STEPS[step](stage.desk, due)
    with pytest.raises(Killed), crashing(stage.desk.ledger, "transaction"):
        STEPS["verdicts"](stage.desk, due)
    assert stage.row("actions")["state"] == "proposed"
    return stage.restarted()


def test_a_decision_that_is_fresh_still_is_judged_by_the_next_process(stage):
    due = stage.due(Interval.MIN1)
    run_cycle(stage.go(CRASHED_AT + timedelta(seconds=20)).desk, due)
    assert stage.row("actions")["state"] == "consumed"
    assert len(stage.events(EventType.LLM_REQUESTED)) == 1, "nobody is asked a second time"


def test_a_decision_that_was_overtaken_by_bars_is_denied_as_stale_and_not_left_lying(stage):
    [left] = stage.rows("actions")
    stage.go(CRASHED_AT + timedelta(minutes=3)).cycle(Interval.MIN1)
    row = stage.row("actions", action_id=left["action_id"])
    assert row["state"] == "denied"
    assert stage.denials(left["action_id"]) == ["signal_ttl"]
    assert stage.verifies()


def test_a_decision_whose_run_may_still_be_on_its_way_is_left_to_it(stage):
    [left] = stage.rows("actions")
    stage.go(CRASHED_AT + timedelta(minutes=1)).cycle(Interval.MIN1)
    assert stage.row("actions", action_id=left["action_id"])["state"] == "proposed"
