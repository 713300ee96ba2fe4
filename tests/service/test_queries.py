"""Queries: why a trade was made, from the bar to the portfolio, and what stopped the others."""

from collections import Counter
from datetime import date, timedelta
from decimal import Decimal

import pytest

from tests.desks import CLOSE, DAY, OPEN, PERSON, at, bars, floor, market, strategy
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.charts import ChartSpec
from trading_pipeline.domain.limits import StrategyLimits
from trading_pipeline.domain.strategies import FractionSizing, Mode
from trading_pipeline.errors import UnknownName
from trading_pipeline.service import approvals, queries
from trading_pipeline.service.timetable import due_cycles, record_missed

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


def test_why_a_stop_filled_tells_the_stop_the_entry_and_by_how_much_it_was_missed(tmp_path):
    falls = {at(9, 30): (100.0, 100.0, 90.0, 91.0)}
    guarded = FractionSizing(fraction=Decimal("0.05"), stop=Decimal("0.03"), target=Decimal("0.06"))
    stage = floor(tmp_path, market(bars(at=falls)), OPEN, strategy(sizing=guarded))
    stage.cycle()
    stage.go(CLOSE + timedelta(seconds=5)).release()
    [entry, stop] = stage.desk.ledger.find("fills", order_by="seq")
    [order] = stage.desk.ledger.find("orders", client_id=stop["client_id"])
    assert (order["part"], order["stop_price"]) == ("stop-1", Decimal("97.00"))
    causes = queries.why(stage.desk, stop["execution_id"])
    told = {cause.seq: cause.says for cause in causes}
    assert f": the stop at $97.00 was hit at ${stop['price']:.2f}, $" in told[stop["seq"]]
    assert "a share below" in told[stop["seq"]]
    assert told[order["intent_seq"]].startswith("stop-1: SELL")
    assert entry["execution_id"] in told[entry["seq"]]
    assert list(told) == sorted(told)


def test_a_short_id_names_one_action_and_nothing_else(stage):
    names = [row["client_id"] for row in stage.desk.ledger.find("orders")] + [row["action_id"] for row in stage.desk.ledger.find("actions")]
    [(name, beginning)] = queries.short_ids(stage.desk.ledger, [stage.row("actions")["action_id"]]).items()
    assert queries.SHORTEST_ID <= len(beginning) < len(name)
    assert [each for each in names if each.startswith(beginning)] == [name]
    assert queries.why(stage.desk, beginning) == queries.why(stage.desk, name)


def test_a_beginning_that_several_ids_share_is_refused_with_those_ids(tmp_path):
    stage = floor(tmp_path, market(bars()), OPEN, *(strategy(f"buyer-{number}") for number in range(20)))
    stage.cycle()
    firsts = Counter(row["action_id"][0] for row in stage.desk.ledger.find("actions"))
    letter = next(each for each, count in firsts.items() if count > 1 and not each.isdigit())
    with pytest.raises(UnknownName, match=f"ids begin with '{letter}'") as refused:
        queries.why(stage.desk, letter)
    assert letter in refused.value.remedy


def test_the_closes_that_were_missed_today_are_counted_with_the_reason(tmp_path):
    source = market(bars(interval=Interval.MIN5, first=date(2024, 8, 27), last=DAY))
    stage = floor(tmp_path, source, at(10, 0, 1), strategy(interval=Interval.MIN5))
    stage.cycle(Interval.MIN5)
    assert queries.status(stage.desk)["missed_today"] == []
    stage.go(at(10, 20, 1))
    [due] = due_cycles(stage.desk)
    record_missed(stage.desk, due)
    [missed] = queries.status(stage.desk)["missed_today"]
    assert (missed["cycles"], missed["interval"]) == (3, "5min")
    assert (missed["first"], missed["last"]) == ("2024-08-28T14:05:00+00:00", "2024-08-28T14:15:00+00:00")
    assert "was not there" in missed["reason"]
    stage.go(at(9, 30, day=date(2024, 8, 29)))
    assert queries.status(stage.desk)["missed_today"] == []


def test_denials_are_counted_by_rule(tmp_path):
    tight = StrategyLimits(max_position_value=Decimal(10), max_order_value=Decimal(10))
    stage = floor(tmp_path, market(bars()), OPEN, strategy("one", limits=tight), strategy("two", limits=tight), strategy("three"))
    stage.cycle()
    assert queries.denials(stage.desk.ledger) == queries.Denials(2, 0, {"order_value": 2, "strategy_position": 2})


def test_status_says_what_comes_next(tmp_path):
    source = market(bars(interval=Interval.MIN5, first=date(2024, 8, 27), last=DAY))
    stage = floor(tmp_path, source, at(10, 1), strategy(interval=Interval.MIN5))
    assert queries.status(stage.desk)["next_cycle"]["due"] == "2024-08-28T14:00:00+00:00", "it is overdue"
    stage.cycle(Interval.MIN5)
    status = queries.status(stage.desk)
    assert status["now"] == "2024-08-28T14:01:00+00:00"
    assert status["next_change"] == "2024-08-28T20:00:00+00:00"
    assert status["next_cycle"] == {"interval": "5min", "due": "2024-08-28T14:05:00+00:00", "last": "5min@2024-08-28T14:00Z"}
    stage.go(at(17))
    closed = queries.status(stage.desk)
    assert (closed["open"], closed["session"], closed["next_change"]) == (False, None, "2024-08-29T13:30:00+00:00")


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
