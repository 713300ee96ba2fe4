"""The watchdog: what is overdue and what is not, and that the record says so once when it begins and once when it ends."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from tests.desks import CLOSE, DAY, OPEN, PERSON, at, bars, calendar, floor, market, strategy
from tests.service.minutes import MINUTES, bracketed, minute_bars, stops
from trading_pipeline.adapters.brokers.paper_faults import Refuse
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType
from trading_pipeline.domain.orders import Side
from trading_pipeline.service import controls, watchdog
from trading_pipeline.service.watchdog import (
    Alarms,
    Beat,
    Kind,
    Look,
    as_message,
    look_at_bars,
    look_at_beats,
    look_at_calendar,
    look_at_positions,
    open_alarms,
    report,
)

MINUTE = timedelta(minutes=1)
NOW = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)


def beat(late, kind=Kind.TICK, what="the sensor bar_close"):
    """One that was due so long ago, five seconds after the last."""
    return Beat(kind, what, NOW - late - timedelta(seconds=5), NOW - late, MINUTE)


def look(*beats, since=LONG_AGO):
    return look_at_beats({Kind.TICK, Kind.DAEMON}, beats, NOW, since)


# Ticks and heartbeats


def test_a_tick_is_overdue_only_beyond_its_limit():
    assert look(beat(MINUTE)).symptoms == []
    [symptom] = look(beat(timedelta(seconds=61))).symptoms
    assert symptom.name == "tick:bar_close"
    assert (symptom.measured, symptom.limit, symptom.since) == (timedelta(seconds=61), MINUTE, NOW - timedelta(seconds=66))
    assert symptom.says == "nothing of the sensor bar_close for 66 s: it is 61 s late, 60 s are allowed"


def test_what_was_due_before_anybody_watched_counts_from_then_and_ends_no_alarm():
    """After a sleep of the machine nothing has ticked for an hour, and all of it is about to."""
    seen = look(beat(timedelta(hours=1)), since=NOW - timedelta(seconds=10))
    assert (seen.symptoms, seen.undecided) == ([], {"tick:bar_close"})
    [symptom] = look(beat(timedelta(hours=1)), since=NOW - timedelta(seconds=61)).symptoms
    assert symptom.measured == timedelta(seconds=61)


def test_what_has_never_been_there_is_overdue_when_its_time_is_over():
    never = Beat(Kind.DAEMON, "the daemon SENSOR", None, None, timedelta(seconds=90))
    assert look(never, since=NOW - timedelta(seconds=90)).undecided == {"daemon:SENSOR"}
    [symptom] = look(never, since=NOW - timedelta(seconds=91)).symptoms
    assert symptom.says.startswith("nothing of the daemon SENSOR yet")


# Bars


@pytest.fixture
def minutely(tmp_path):
    source = market(bars(interval=Interval.MIN5, first=date(2024, 8, 27), last=date(2024, 8, 29)))
    return floor(tmp_path, source, at(9, 30), strategy(interval=Interval.MIN5))


def overdue(stage, since=LONG_AGO - timedelta(days=3650)):
    return [(symptom.name, symptom.measured, symptom.limit) for symptom in look_at_bars(stage.desk, MINUTE, since).symptoms]


def test_a_bar_is_overdue_an_interval_and_a_minute_after_the_last_one(minutely):
    minutely.go(at(9, 35, 3))
    minutely.cycle(Interval.MIN5)
    minutely.go(at(9, 41))
    assert overdue(minutely) == []
    minutely.go(at(9, 41, 1))
    assert overdue(minutely) == [("bars:5min", timedelta(seconds=361), timedelta(minutes=6))]
    minutely.cycle(Interval.MIN5)
    assert overdue(minutely) == []


def test_the_first_bar_of_a_session_is_counted_from_the_open_not_from_yesterday(minutely):
    minutely.go(at(9, 36))
    assert overdue(minutely) == []
    minutely.go(at(9, 36, 1))
    assert overdue(minutely) == [("bars:5min", timedelta(seconds=361), timedelta(minutes=6))]


def test_a_strategy_that_starts_at_noon_has_waited_for_no_bar_before(tmp_path):
    source = market(bars(interval=Interval.MIN5, first=date(2024, 8, 27), last=DAY))
    stage = floor(tmp_path, source, at(12, 1), strategy(interval=Interval.MIN5))
    assert overdue(stage) == []
    assert overdue(stage.go(at(12, 7, 1))) != []


def test_a_feed_that_stops_is_overdue_though_cycles_go_on(tmp_path):
    """85, fault 51."""
    gone = [at(9, minute) for minute in range(40, 60, 5)]
    source = market(bars(interval=Interval.MIN5, first=date(2024, 8, 27), last=DAY, without=gone))
    stage = floor(tmp_path, source, at(9, 30), strategy(interval=Interval.MIN5))
    for minute in (35, 40, 45, 50):
        stage.go(at(9, minute, 3))
        stage.cycle(Interval.MIN5)
    assert overdue(stage) == [("bars:5min", timedelta(minutes=10, seconds=3), timedelta(minutes=6))]


def test_a_calendar_that_ends_within_thirty_days_is_told_before_it_does(tmp_path):
    """70: where it ends every day is closed."""
    known = calendar()
    horizon = known.horizon.close
    stage = floor(tmp_path, market(bars()), OPEN, strategy())
    assert look_at_calendar(stage.go(horizon - timedelta(days=30)).desk).symptoms == []
    [symptom] = look_at_calendar(stage.go(horizon - timedelta(days=29)).desk).symptoms
    assert (symptom.name, symptom.measured, symptom.limit) == ("calendar:XNYS", timedelta(days=1), timedelta(0))
    assert f"ends with {known.horizon.day}" in symptom.says
    [raised] = report(stage.desk, Alarms(), look_at_calendar(stage.desk), "supervisor")
    assert (raised.type, raised.payload["name"]) == (EventType.WATCHDOG_ALARM, "calendar:XNYS")


def test_bars_that_are_in_the_archive_but_had_no_cycle_have_not_come(minutely):
    minutely.go(at(9, 50))
    table = minutely.desk.market.closed_bars(["AAPL"], Interval.MIN5, None, at(9, 50))["AAPL"]
    minutely.desk.archive.append(table)
    assert [name for name, *_ in overdue(minutely)] == ["bars:5min"]


@pytest.mark.parametrize("now", [at(9, 29), CLOSE, CLOSE + timedelta(minutes=30), datetime(2024, 9, 2, 15, tzinfo=UTC)])
def test_when_the_market_is_closed_no_bar_is_expected(tmp_path, now):
    source = market(bars(interval=Interval.MIN5, first=date(2024, 8, 27), last=date(2024, 8, 29)))
    assert overdue(floor(tmp_path, source, OPEN - timedelta(hours=2), strategy(interval=Interval.MIN5)).go(now)) == []


def test_a_daily_bar_is_due_at_the_next_open(tmp_path):
    stage = floor(tmp_path, market(bars()), at(9, 0), strategy()).go(at(9, 31))
    assert overdue(stage) == []
    assert overdue(stage.go(at(9, 31, 1))) == [("bars:1d", timedelta(seconds=61), MINUTE)]
    stage.cycle()
    assert overdue(stage.go(at(15))) == []


def test_no_bar_is_expected_for_strategies_that_do_not_run(minutely):
    controls.pause(minutely.desk, "buyer", actor=PERSON)
    assert overdue(minutely.go(at(12))) == []


def test_strategies_that_pause_between_two_reads_are_no_longer_waited_for(minutely, monkeypatch):
    controls.pause(minutely.desk, "buyer", actor=PERSON)
    monkeypatch.setattr(watchdog, "running_intervals", lambda desk: [Interval.MIN5])
    assert overdue(minutely.go(at(12))) == []


# The record


def test_an_alarm_is_raised_once_and_cleared_once_however_many_look(minutely):
    desk, first, second = minutely.desk, Alarms(), Alarms()
    late = look(beat(timedelta(minutes=2)))
    [raised] = report(desk, first, late, "sensor")
    assert report(desk, first, late, "sensor") == report(desk, second, late, "supervisor") == []
    assert raised.type is EventType.WATCHDOG_ALARM
    assert (raised.payload["measured_seconds"], raised.payload["limit_seconds"]) == (120, 60)
    [shown] = open_alarms(desk)
    assert (shown["name"], shown["says"]) == ("tick:bar_close", raised.payload["reason"])
    [cleared] = report(desk, second, look(beat(timedelta(0))), "supervisor")
    assert report(desk, first, look(beat(timedelta(0))), "sensor") == []
    assert (cleared.type, cleared.cause) == (EventType.WATCHDOG_CLEARED, raised.seq)
    assert open_alarms(desk) == []


def test_an_alarm_that_comes_back_is_another_fact(minutely):
    desk, alarms = minutely.desk, Alarms()
    for late in (timedelta(minutes=2), timedelta(0)) * 2:
        report(desk, alarms, look(beat(late)), "sensor")
    keys = [event.key for event in minutely.events(EventType.WATCHDOG_ALARM, EventType.WATCHDOG_CLEARED)]
    assert keys == [f"watchdog.{what}:tick:bar_close:{number}" for number in (1, 2) for what in ("alarm", "cleared")]
    assert minutely.verifies()


def test_who_does_not_watch_a_thing_or_cannot_tell_yet_ends_no_alarm_of_it(minutely):
    desk, alarms = minutely.desk, Alarms()
    report(desk, alarms, look(beat(timedelta(minutes=2))), "sensor")
    assert report(desk, Alarms(), Look(frozenset({Kind.BARS, Kind.PAGE})), "supervisor") == []
    assert report(desk, Alarms(), look(beat(timedelta(minutes=2)), since=NOW), "supervisor") == []
    assert len(report(desk, Alarms(), look(), "supervisor")) == 1, "switched off: nobody expects it any more"


def test_a_notification_says_what_is_wrong_and_where(minutely):
    [raised] = report(minutely.desk, Alarms(), look(beat(timedelta(minutes=2))), "sensor")
    message = as_message(raised, minutely.desk)
    assert (message["state"], message["name"], message["environment"], message["market"]) == ("alarm", "tick:bar_close", "demo", "replay")
    assert "the sensor bar_close" in message["reason"]


# Stops


def naked(tmp_path):
    """50 shares whose stop the broker has dropped at 10:00:05, and rejects from then on."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed())
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 0, 5)).broker.cancel(stage.row("orders", order_type="stop")["client_id"])
    stage.faults.on_every_submit(Refuse("no stops today"))
    stage.release()
    return stage


def test_a_position_without_a_stop_is_an_alarm_after_ten_seconds_and_until_one_stands_again(tmp_path):
    """C12, 85: it reaches whoever is told of alarms, also where the desk's own word of it is a line in a log."""
    stage, alarms = naked(tmp_path), Alarms()
    for seconds, symptoms, undecided in ((15, 0, {"stop:buyer/AAPL"}), (16, 1, set())):
        seen = look_at_positions(stage.go(at(10, 0, seconds)).desk)
        assert (len(seen.symptoms), seen.undecided) == (symptoms, undecided)
    [raised] = report(stage.desk, alarms, seen, "supervisor")
    assert (raised.type, raised.payload["name"], raised.payload["limit_seconds"]) == (EventType.WATCHDOG_ALARM, "stop:buyer/AAPL", 10)
    assert raised.payload["reason"] == "50 shares of AAPL held by buyer have no stop that the broker confirms"
    assert report(stage.desk, alarms, look_at_positions(stage.go(at(10, 0, 30)).desk), "sensor") == []
    stage.faults.on_every_submit()
    for seconds in (36, 38):
        stage.go(at(10, 0, seconds)).release()
    assert stops(stage)[-1][1] == "accepted"
    [cleared] = report(stage.desk, alarms, look_at_positions(stage.desk), "sensor")
    assert (cleared.type, cleared.payload["name"]) == (EventType.WATCHDOG_CLEARED, "stop:buyer/AAPL")
    assert open_alarms(stage.desk) == []


def test_what_is_protected_or_was_to_have_no_stop_is_no_alarm(tmp_path):
    stage = floor(tmp_path, minute_bars("AAPL", "MSFT"), at(10, 0, 1), bracketed(), strategy("plain", symbols=("MSFT",), **MINUTES))
    stage.cycle(Interval.MIN1)
    stage.go(at(10, 0, 5)).release()
    seen = look_at_positions(stage.go(at(10, 30)).desk)
    assert (seen.kinds, seen.symptoms, seen.undecided) == ({Kind.STOP}, [], set())
    assert {row["strategy"] for row in stage.rows("positions")} == {"buyer", "plain"}


def test_shares_of_which_nobody_can_tell_whose_are_left_are_the_accounts_alarm(tmp_path):
    """28: others have sold of what two strategies hold under stops."""
    stage = floor(tmp_path, minute_bars(), at(10, 0, 1), bracketed(), bracketed(name="other"))
    stage.cycle(Interval.MIN1)
    for second in (20, 40):
        stage.go(at(10, 0, second)).release()
    stage.go(at(10, 2, 30)).broker.trade_by_hand("AAPL", Side.SELL, 60, Decimal(100))
    for second in (30, 35):
        stage.go(at(10, 2, second)).release()
    for order in stage.broker.orders():
        stage.broker.cancel(order.client_id)
    for second in (0, 5, 40):
        stage.go(at(10, 4, second)).release()
    [symptom] = look_at_positions(stage.desk).symptoms
    assert (symptom.name, symptom.says[:42]) == ("stop:EXTERNAL/AAPL", "40 shares of AAPL held by the account have")
