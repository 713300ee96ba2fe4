"""The calendar as a pure table: sessions, bars, and the edges between them. Times are New York facts, written by hand."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.sessions import Session, TradingCalendar
from trading_pipeline.errors import CalendarError

NEW_YORK = ZoneInfo("America/New_York")


def at(day: str, clock: str) -> datetime:
    """An instant given by the clock on the wall in New York."""
    return datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=NEW_YORK).astimezone(UTC)


def session(day: str, close: str = "16:00") -> Session:
    return Session(date.fromisoformat(day), at(day, "09:30"), at(day, close))


@pytest.fixture
def week() -> TradingCalendar:
    """Thanksgiving week of 2024: closed on Thursday, closes at 13:00 on Friday."""
    return TradingCalendar(
        [session("2024-11-25"), session("2024-11-26"), session("2024-11-27"), session("2024-11-29", "13:00"), session("2024-12-02")]
    )


def test_an_empty_calendar_is_refused():
    with pytest.raises(CalendarError):
        TradingCalendar([])


def test_a_holiday_has_no_session_and_names_the_next_one(week):
    assert week.find(date(2024, 11, 28)) is None
    with pytest.raises(CalendarError, match="2024-11-29"):
        week.session(date(2024, 11, 28))


@pytest.mark.parametrize("day", [date(2024, 11, 24), date(2024, 12, 3)])
def test_a_day_beyond_the_table_is_an_error_not_a_closed_day(week, day):
    """70, fault 47."""
    with pytest.raises(CalendarError, match="outside"):
        week.find(day)


def test_regular_hours_include_the_open_and_exclude_the_close(week):
    assert week.at(at("2024-11-25", "09:29:59")) is None
    assert week.at(at("2024-11-25", "09:30")).day == date(2024, 11, 25)
    assert week.at(at("2024-11-25", "15:59:59")).day == date(2024, 11, 25)
    assert week.at(at("2024-11-25", "16:00")) is None


def test_an_early_close_ends_regular_hours_at_one(week):
    """70, fault 47."""
    assert week.session(date(2024, 11, 29)).early_close
    assert not week.session(date(2024, 11, 27)).early_close
    assert week.at(at("2024-11-29", "12:59")) is not None
    assert week.at(at("2024-11-29", "13:00")) is None


def test_the_session_that_closed_last_counts_from_its_close(week):
    assert week.last_closed(at("2024-11-26", "15:59")).day == date(2024, 11, 25)
    assert week.last_closed(at("2024-11-26", "16:00")).day == date(2024, 11, 26)
    assert week.last_closed(at("2024-11-28", "12:00")).day == date(2024, 11, 27)
    assert week.last_closed(at("2024-11-25", "12:00")) is None


def test_neighbours_skip_holidays_and_weekends(week):
    assert week.next(date(2024, 11, 27)).day == date(2024, 11, 29)
    assert week.next(date(2024, 11, 28)).day == date(2024, 11, 29)
    assert week.previous(date(2024, 12, 2)).day == date(2024, 11, 29)
    assert week.previous(date(2024, 11, 30)).day == date(2024, 11, 29)


def test_there_is_nothing_before_the_first_or_after_the_last_session(week):
    with pytest.raises(CalendarError):
        week.previous(date(2024, 11, 25))
    with pytest.raises(CalendarError):
        week.next(date(2024, 12, 2))


def test_between_includes_both_ends(week):
    assert [each.day.day for each in week.between(date(2024, 11, 26), date(2024, 11, 29))] == [26, 27, 29]


@pytest.mark.parametrize(
    ("interval", "full_day", "early_close"),
    [(Interval.MIN1, 390, 210), (Interval.MIN5, 78, 42), (Interval.MIN15, 26, 14), (Interval.HOUR1, 7, 4), (Interval.DAY1, 1, 1)],
)
def test_a_session_has_as_many_bars_as_fit_the_last_may_be_short(week, interval, full_day, early_close):
    assert len(week.slots(week.session(date(2024, 11, 27)), interval)) == full_day
    assert len(week.slots(week.session(date(2024, 11, 29)), interval)) == early_close


def test_hourly_bars_are_anchored_at_the_open_and_the_last_lasts_half_an_hour(week):
    slots = week.slots(week.session(date(2024, 11, 27)), Interval.HOUR1)
    assert (slots[0].start, slots[0].end) == (at("2024-11-27", "09:30"), at("2024-11-27", "10:30"))
    assert (slots[-1].start, slots[-1].end) == (at("2024-11-27", "15:30"), at("2024-11-27", "16:00"))
    assert [slot.last_of_session for slot in slots] == [False] * 6 + [True]


def test_the_bar_that_contains_an_instant_begins_at_or_before_it(week):
    slot = week.slot_at(at("2024-11-27", "10:00"), Interval.MIN5)
    assert (slot.start, slot.end) == (at("2024-11-27", "10:00"), at("2024-11-27", "10:05"))
    assert week.slot_at(at("2024-11-27", "15:45"), Interval.HOUR1).end == at("2024-11-27", "16:00")
    assert week.slot_at(at("2024-11-27", "16:00"), Interval.MIN5) is None
    assert week.slot_at(at("2024-11-28", "12:00"), Interval.DAY1) is None


@pytest.mark.parametrize(
    ("day", "clock", "interval", "end"),
    [
        ("2024-11-27", "10:00", Interval.MIN5, ("2024-11-27", "10:00")),
        ("2024-11-27", "10:04:59", Interval.MIN5, ("2024-11-27", "10:00")),
        ("2024-11-27", "09:34", Interval.MIN5, ("2024-11-26", "16:00")),
        ("2024-11-27", "16:00", Interval.MIN5, ("2024-11-27", "16:00")),
        ("2024-11-28", "12:00", Interval.HOUR1, ("2024-11-27", "16:00")),
        ("2024-12-02", "09:31", Interval.MIN1, ("2024-12-02", "09:31")),
        ("2024-12-02", "09:30", Interval.DAY1, ("2024-11-29", "13:00")),
        ("2024-12-02", "16:00", Interval.DAY1, ("2024-12-02", "16:00")),
    ],
)
def test_the_newest_closed_bar_is_the_one_that_ended_last(week, day, clock, interval, end):
    assert week.last_closed_slot(at(day, clock), interval).end == at(*end)


def test_nothing_has_closed_before_the_first_bar_of_the_table(week):
    assert week.last_closed_slot(at("2024-11-25", "09:34"), Interval.MIN5) is None
    assert week.last_closed_slot(at("2024-11-25", "12:00"), Interval.DAY1) is None
