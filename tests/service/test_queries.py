"""Queries: what stands, what waits, what was missed, and what the rulebook stopped."""

from datetime import date, timedelta
from decimal import Decimal

import pytest

from tests.desks import DAY, OPEN, PERSON, at, bars, floor, market, strategy
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.limits import StrategyLimits
from trading_pipeline.domain.strategies import Mode
from trading_pipeline.ports import Stop
from trading_pipeline.service import approvals, controls, queries
from trading_pipeline.service.cycle import STEPS
from trading_pipeline.service.record import tracing
from trading_pipeline.service.timetable import due_cycles, record_missed


def test_a_short_id_names_one_action_and_nothing_else(stage):
    names = [row["client_id"] for row in stage.desk.ledger.find("orders")] + [row["action_id"] for row in stage.desk.ledger.find("actions")]
    [(name, beginning)] = queries.short_ids(stage.desk.ledger, [stage.row("actions")["action_id"]]).items()
    assert queries.SHORTEST_ID <= len(beginning) < len(name)
    assert [each for each in names if each.startswith(beginning)] == [name]
    assert tracing.why(stage.desk, beginning) == tracing.why(stage.desk, name)


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


def test_status_says_what_the_pipeline_does(tmp_path):
    """From a close to the answer of a person and to the stop that ends it all."""
    source = market(bars(interval=Interval.MIN5, first=date(2024, 8, 27), last=DAY))
    stage = floor(tmp_path, source, at(9, 33), strategy(interval=Interval.MIN5, mode=Mode.APPROVAL))

    def doing():
        return queries.status(stage.desk)["workflow"]

    assert doing() == {"state": "idle", "cycle": None, "step": None, "proposals": 0}
    stage.go(at(9, 35))
    assert doing() == {"state": "cycle_due", "cycle": "5min@2024-08-28T13:35Z", "step": "bars", "proposals": 0}
    STEPS["bars"](stage.desk, stage.due(Interval.MIN5))
    assert doing() == {"state": "cycle_running", "cycle": "5min@2024-08-28T13:35Z", "step": "indicators", "proposals": 0}
    stage.cycle(Interval.MIN5)
    assert doing() == {"state": "waiting_for_approval", "cycle": None, "step": None, "proposals": 1}
    approvals.approve(stage.desk, stage.row("approvals")["action_id"], actor=PERSON)
    assert doing()["state"] == "sending"
    stage.go(at(9, 35, 3)).release()
    assert doing()["state"] == "idle"
    controls.pause(stage.desk, "buyer", actor=PERSON, reason="lunch")
    assert doing()["state"] == "no_strategy"
    stage.desk.latch.stop(Stop(None, "a drill", PERSON, stage.desk.now()))
    assert doing()["state"] == "stopped"


@pytest.mark.parametrize(
    ("day", "early", "close"),
    [(date(2024, 8, 28), False, "2024-08-28T20:00:00+00:00"), (date(2024, 7, 3), True, "2024-07-03T17:00:00+00:00")],
)
def test_status_says_that_a_session_closes_early_before_and_while_it_is_open(tmp_path, day, early, close):
    """The third of July 2024 closed at 13:00: https://www.nyse.com/markets/hours-calendars."""
    for hour in (8, 10):
        status = queries.status(floor(tmp_path / str(hour), market(bars()), at(hour, day=day)).desk)
        assert (status["open"], status["early_close"], status["close"]) == (hour == 10, early, close)
    after = queries.status(floor(tmp_path / "after", market(bars()), at(18, day=day)).desk)
    assert after["early_close"] is False, "the next one does not"


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
