"""Queries: why a trade was made, from the bar to the portfolio, and what stopped the others."""

from datetime import date, timedelta
from decimal import Decimal

import pytest

from tests.desks import DAY, OPEN, PERSON, at, bars, floor, market, strategy
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.charts import ChartSpec
from trading_pipeline.domain.limits import StrategyLimits
from trading_pipeline.domain.strategies import Mode
from trading_pipeline.errors import UnknownName
from trading_pipeline.service import approvals, queries

CHAIN = [
    "bar.received", "indicators.computed", "chart.rendered", "llm.requested", "llm.responded", "llm.action_generated", "risk.evaluated",
    "approval.requested", "approval.approved", "order.intent", "risk.evaluated", "order.submitted", "order.accepted", "order.filled",
    "portfolio.snapshotted",
]


@pytest.fixture
def stage(tmp_path):
    seen = ChartSpec(bars=60, overlays=("sma_20",), panels=("rsi_14",))
    stage = floor(tmp_path, market(bars()), OPEN, strategy(mode=Mode.APPROVAL, chart=seen))
    stage.cycle()
    approvals.approve(stage.desk, stage.row("approvals")["action_id"], actor=PERSON)
    stage.go(OPEN + timedelta(seconds=2)).release()
    return stage


def test_why_a_fill_is_the_whole_chain_in_order(stage):
    causes = queries.why(stage.desk, stage.row("fills")["execution_id"])
    assert [cause.type for cause in causes] == CHAIN
    assert [cause.seq for cause in causes] == sorted(cause.seq for cause in causes)
    assert all(cause.says for cause in causes)
    assert [cause.actor for cause in causes if cause.type == "approval.approved"] == [PERSON]


@pytest.mark.parametrize("ident", ["order", "order's beginning", "action", "seq"])
def test_why_takes_an_order_an_action_or_an_event(stage, ident):
    fill, order = stage.row("fills"), stage.row("orders")
    name = order["client_id"]
    named = {"order": name, "order's beginning": name[:6].lower(), "action": order["action_id"], "seq": str(fill["seq"])}
    causes = queries.why(stage.desk, named[ident])
    assert causes[0].type == "bar.received"


def test_why_of_something_that_does_not_exist_says_so(stage):
    with pytest.raises(UnknownName, match="Nothing is named"):
        queries.why(stage.desk, "NOPE")


def test_denials_are_counted_by_rule(tmp_path):
    tight = StrategyLimits(max_position_value=Decimal(10), max_order_value=Decimal(10))
    stage = floor(tmp_path, market(bars()), OPEN, strategy("one", limits=tight), strategy("two", limits=tight), strategy("three"))
    stage.cycle()
    assert queries.denials_by_rule(stage.desk.ledger) == {"order_value": 2, "strategy_position": 2}


def test_status_says_what_comes_next(tmp_path):
    source = market(bars(interval=Interval.MIN5, first=date(2024, 8, 27), last=DAY))
    stage = floor(tmp_path, source, at(10, 1), strategy(interval=Interval.MIN5))
    assert queries.status(stage.desk)["next_cycle"]["due"] == "2024-08-28T10:00:00-04:00", "it is overdue"
    stage.cycle(Interval.MIN5)
    status = queries.status(stage.desk)
    assert status["now"] == "2024-08-28T10:01:00-04:00"
    assert status["next_change"] == "2024-08-28T16:00:00-04:00"
    assert status["next_cycle"] == {"interval": "5min", "due": "2024-08-28T10:05:00-04:00", "last": "5min@2024-08-28T14:00Z"}
    stage.go(at(17))
    closed = queries.status(stage.desk)
    assert (closed["open"], closed["session"], closed["next_change"]) == (False, None, "2024-08-29T09:30:00-04:00")


def test_a_proposal_shows_how_long_it_waits(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, strategy(mode=Mode.APPROVAL))
    stage.cycle()
    stage.go(OPEN + timedelta(seconds=100))
    [waiting] = queries.pending(stage.desk)
    assert waiting["seconds_left"] == 200.0
    stage.go(OPEN + timedelta(seconds=301)).release()
    assert queries.pending(stage.desk) == []
    [past] = queries.pending(stage.desk, everything=True)
    assert past["state"] == "expired"
