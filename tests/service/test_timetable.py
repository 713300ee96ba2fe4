"""The timetable: which cycle is due at an instant, and which closes were missed."""

from datetime import UTC, date, datetime, timedelta

import pytest

from tests.desks import CLOSE, DAY, OPEN, PERSON, Killed, at, bars, crashing, floor, market, strategy
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.strategies import Mode
from trading_pipeline.service import controls
from trading_pipeline.service.cycle import run_cycle
from trading_pipeline.service.timetable import Unfinished, due_cycles, newest_cycle, record_missed, unfinished

THURSDAY = date(2024, 8, 29)


@pytest.fixture
def daily(tmp_path):
    return floor(tmp_path, market(bars()), at(9, 29, 59), strategy())


@pytest.fixture
def minutely(tmp_path):
    source = market(bars(interval=Interval.MIN5, first=date(2024, 8, 27), last=date(2024, 8, 29)))
    return floor(tmp_path, source, at(9, 30), strategy(interval=Interval.MIN5))


def due(stage):
    return [cycle.cycle_id for cycle in due_cycles(stage.desk)]


def test_a_daily_bar_is_decided_at_the_open_of_the_next_session(daily):
    """D27."""
    assert due(daily) == []
    daily.go(OPEN)
    [cycle] = due_cycles(daily.desk)
    assert (cycle.cycle_id, cycle.session, cycle.due_at) == ("1d@2024-08-27T20:00Z", DAY, OPEN)


def test_a_cycle_is_due_until_it_has_run_and_then_no_more(daily):
    """71."""
    daily.go(OPEN)
    cycle = daily.due()
    assert due(daily) == ["1d@2024-08-27T20:00Z"]
    run_cycle(daily.desk, cycle)
    assert due(daily) == []
    daily.go(CLOSE)
    assert due(daily) == []
    daily.go(at(9, 30, day=THURSDAY))
    assert due(daily) == ["1d@2024-08-28T20:00Z"]


def test_intraday_a_cycle_is_due_at_each_close_from_the_first_on(minutely):
    assert due(minutely) == [], "nothing of today has closed yet; yesterday's last bar decides nothing"
    minutely.go(at(9, 34, 59.999))
    assert due(minutely) == []
    minutely.go(at(9, 35))
    assert due(minutely) == ["5min@2024-08-28T13:35Z"]
    minutely.go(at(9, 41))
    assert due(minutely) == ["5min@2024-08-28T13:40Z"], "only the newest"


def test_the_last_bar_is_due_within_the_hour_after_the_close(minutely):
    minutely.go(CLOSE + timedelta(seconds=2))
    assert due(minutely) == ["5min@2024-08-28T20:00Z"]
    minutely.go(CLOSE + timedelta(minutes=59))
    assert due(minutely) == ["5min@2024-08-28T20:00Z"]
    minutely.go(CLOSE + timedelta(hours=1))
    assert due(minutely) == []


def test_one_cycle_for_each_interval_that_a_running_strategy_uses(tmp_path):
    source = market(bars(), bars(interval=Interval.MIN5, first=date(2024, 8, 27), last=DAY))
    specs = (strategy("daily"), strategy("fast", interval=Interval.MIN5), strategy("too", interval=Interval.MIN5))
    stage = floor(tmp_path, source, at(9, 36), *specs)
    assert due(stage) == ["5min@2024-08-28T13:35Z", "1d@2024-08-27T20:00Z"]
    controls.pause(stage.desk, "daily", actor=PERSON)
    assert due(stage) == ["5min@2024-08-28T13:35Z"]


@pytest.mark.parametrize(("before", "after"), [
    (date(2024, 3, 8), date(2024, 3, 11)), (date(2024, 11, 1), date(2024, 11, 4)),
], ids=["spring", "autumn"])
def test_over_a_change_of_the_clocks_new_york_opens_at_half_past_nine(tmp_path, before, after):
    """D8, fault 46: the change lies in the weekend; in UTC the open moves by an hour."""
    spring = after.month == 3
    year = market(bars(first=date(2024, 1, 2), last=date(2024, 12, 31)))
    stage = floor(tmp_path, year, datetime(2024, before.month, before.day, tzinfo=UTC), strategy())
    opens = {day: datetime(day.year, day.month, day.day, hour, 30, tzinfo=UTC) for day, hour in (
        (before, 14 if spring else 13), (after, 13 if spring else 14),
    )}
    for day in (before, after):
        stage.go(opens[day] - timedelta(seconds=1))
        assert due(stage) == []
        stage.go(opens[day])
        [cycle] = due_cycles(stage.desk)
        assert cycle.session == day
        run_cycle(stage.desk, cycle)


def test_no_session_no_cycle(daily):
    daily.go(datetime(2024, 9, 2, 15, 0, tzinfo=UTC))
    assert due(daily) == [], "Labor Day"
    assert newest_cycle(daily.desk, Interval.DAY1) is None


def test_closes_that_nobody_was_there_for_are_recorded_as_missed_once(minutely):
    """71, D21."""
    minutely.go(at(9, 35))
    run_cycle(minutely.desk, minutely.due(Interval.MIN5))
    minutely.go(at(9, 55, 3))
    cycle = minutely.due(Interval.MIN5)
    assert record_missed(minutely.desk, cycle) == 3
    record_missed(minutely.desk, cycle)
    missed = minutely.events(EventType.CYCLE_MISSED)
    assert [event.payload["cycle"] for event in missed] == [f"5min@2024-08-28T13:{minute}Z" for minute in (40, 45, 50)]
    assert {event.payload["found_by"] for event in missed} == {cycle.cycle_id}


def test_missed_sessions_of_a_daily_strategy_are_recorded_and_a_holiday_is_none(daily):
    daily.go(OPEN)
    run_cycle(daily.desk, daily.due())
    daily.go(at(9, 30, day=date(2024, 9, 3)))
    assert record_missed(daily.desk, daily.due()) == 2
    assert [event.payload["cycle"] for event in daily.events(EventType.CYCLE_MISSED)] == ["1d@2024-08-28T20:00Z", "1d@2024-08-29T20:00Z"]


def test_a_first_cycle_has_missed_nothing(daily):
    daily.go(at(12))
    assert record_missed(daily.desk, daily.due()) == 0


def test_an_order_on_its_way_to_the_broker_is_still_to_do(tmp_path):
    stage = floor(tmp_path, market(bars("AAPL")), OPEN, strategy(symbols=("AAPL",)))
    with pytest.raises(Killed), crashing(stage.desk.broker, "submit"):
        stage.cycle()
    [order] = [row for row in stage.desk.ledger.find("orders") if row["parent"] is None]
    assert order["state"] in ("intent", "submitted")
    assert unfinished(stage.desk).unsent == 1


def test_what_a_session_has_still_to_do_is_counted(tmp_path):
    specs = strategy(symbols=("AAPL", "IBM")), strategy("asks", mode=Mode.APPROVAL)
    stage = floor(tmp_path, market(bars("AAPL"), bars("IBM")), OPEN, *specs)
    assert unfinished(stage.desk) == Unfinished(cycles=1, proposals=0, unsent=0)
    stage.cycle()
    assert unfinished(stage.desk) == Unfinished(cycles=0, proposals=1, unsent=1)
    stage.go(at(9, 40, 30))
    assert unfinished(stage.desk).unsent == 0, "its ten minutes are over"
