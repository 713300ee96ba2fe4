"""Checks of bars, and the day volume that the rulebook measures orders against."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from tests.domain.market_tables import off_the_calendar
from trading_pipeline.domain.bar_quality import average_day_volume, bars_behind, faults, findings, lone_prints, missing, sane, unproven
from trading_pipeline.domain.bars import BarTable, Interval, instant_ns
from trading_pipeline.domain.sessions import Session, TradingCalendar

NEW_YORK = ZoneInfo("America/New_York")


def at(day: str, clock: str) -> datetime:
    return datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=NEW_YORK).astimezone(UTC)


def session(day: str, close: str = "16:00") -> Session:
    return Session(date.fromisoformat(day), at(day, "09:30"), at(day, close))


CALENDAR = TradingCalendar([session("2024-11-26"), session("2024-11-27"), session("2024-11-29", "13:00"), session("2024-12-02")])


def bars(interval: Interval, slots: list[tuple[datetime, datetime]], **columns: list[float]) -> BarTable:
    start = np.array([instant_ns(each) for each, _ in slots], np.int64)
    end = np.array([instant_ns(each) for _, each in slots], np.int64)
    count = len(slots)
    usual = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "volume": 100.0}
    values = {name: columns.get(name, [value] * count) for name, value in usual.items()}
    return BarTable("A", interval, start, end, **{name: np.array(value, np.float64) for name, value in values.items()})


def whole(interval: Interval, *days: str) -> BarTable:
    slots = [slot for day in days for slot in CALENDAR.slots(CALENDAR.session(date.fromisoformat(day)), interval)]
    return bars(interval, [(slot.start, slot.end) for slot in slots])


def five(count: int, **columns: list[float]) -> BarTable:
    first = at("2024-11-26", "09:30")
    return bars(Interval.MIN5, [(first + timedelta(minutes=5 * n), first + timedelta(minutes=5 * n + 5)) for n in range(count)], **columns)


def test_sane_bars_have_no_findings():
    for table in (whole(Interval.MIN5, "2024-11-26", "2024-11-29"), BarTable.empty("A", Interval.MIN5)):
        assert sane(table) == (table, [])
        assert findings(table, faults(table)) == ()


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("close", np.nan, "price missing or not finite"),
        ("high", np.inf, "price missing or not finite"),
        ("open", 0.0, "price zero or negative"),
        ("low", -1.0, "price zero or negative"),
        ("high", 1e300, "price beyond any exchange"),
        ("high", 8.0, "high below low"),
        ("high", 10.2, "high below open or close"),
        ("low", 10.2, "low above open or close"),
        ("volume", -1.0, "volume missing or negative"),
        ("volume", np.nan, "volume missing or negative"),
        ("volume", 1e300, "volume beyond any exchange"),
    ],
)
def test_a_broken_bar_is_named_once_with_its_rule_and_dropped(column, value, rule):
    """73, fault 50."""
    ordinary = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "volume": 100.0}[column]
    table = five(3, **{column: [ordinary, value, ordinary]})
    (finding,) = findings(table, faults(table))
    assert (finding.rule, finding.count, finding.first) == (rule, 1, at("2024-11-26", "09:35"))
    kept, dropped = sane(table)
    assert dropped == [(at("2024-11-26", "09:35"), rule)]
    assert len(kept) == 2
    assert sane(kept) == (kept, [])


def test_no_volume_is_no_fault():
    assert sane(five(2, volume=[0.0, 0.0]))[1] == []


@pytest.mark.parametrize("factor", [100.0, 0.01])
def test_a_lone_print_far_from_both_neighbours_is_dropped(factor):
    scale = np.array([1, 1, factor, 1])
    table = five(4, open=10 * scale, high=11 * scale, low=9 * scale, close=10.5 * scale)
    _, dropped = sane(table)
    assert [start for start, _ in dropped] == [at("2024-11-26", "09:40")]


@pytest.mark.parametrize("factor", [10.0, 100.0, 0.1])
def test_the_newest_print_is_measured_by_the_price_since(factor):
    """What came before alone could be a split."""
    close = 10.5 * np.array([1, 1, 1, factor])
    table = five(4, open=close, high=close, low=close, close=close)
    assert sane(table)[1] == []
    assert sane(table, after=10.5 * factor)[1] == [], "it stays there: a split"
    assert [start for start, _ in sane(table, after=10.6 if factor < 1 else 10.4)[1]] == [at("2024-11-26", "09:45")]


def test_one_bar_alone_is_measured_by_its_neighbours_outside():
    table = five(1, open=[1000.0], high=[1000.0], low=[1000.0], close=[1000.0])
    assert len(sane(table, before=100.0)[0]) == len(sane(table, after=100.0)[0]) == 1
    assert len(sane(table, before=100.0, after=100.0)[0]) == 0


def test_a_price_that_stays_where_it_jumped_is_a_split_not_a_spike():
    scale = np.array([1, 1, 0.05, 0.05])
    table = five(4, open=10 * scale, high=11 * scale, low=9 * scale, close=10.5 * scale)
    assert sane(table)[1] == []


def test_repeated_and_disordered_starts_are_found():
    """73, fault 50."""
    first = at("2024-11-26", "09:30")
    minutes = [0, 5, 5, 0, 10]
    table = bars(Interval.MIN5, [(first + timedelta(minutes=n), first + timedelta(minutes=n + 5)) for n in minutes])
    assert {finding.rule: finding.count for finding in findings(table, faults(table))} == {"start repeated": 1, "out of order": 1}
    kept, _ = sane(table)
    assert len(kept) == 3


def test_the_tests_of_markets_would_notice_a_bar_off_the_calendar():
    """What they prove is worth as much as this."""
    assert off_the_calendar(whole(Interval.MIN5, "2024-11-29"), CALENDAR) == []
    good = at("2024-11-29", "09:30")
    odd = [
        (at("2024-11-28", "10:00"), at("2024-11-28", "10:05")),  # Thanksgiving
        (at("2024-11-29", "09:36"), at("2024-11-29", "09:41")),  # off the grid
        (at("2024-11-29", "10:00"), at("2024-11-29", "10:06")),  # too long
        (at("2024-11-29", "13:00"), at("2024-11-29", "13:05")),  # after an early close
    ]
    table = bars(Interval.MIN5, [odd[0], (good, good + timedelta(minutes=5)), *odd[1:]])
    assert off_the_calendar(table, CALENDAR) == [start for start, _ in odd]


def test_what_the_calendar_has_and_the_table_lacks_is_missing():
    table = whole(Interval.HOUR1, "2024-11-27", "2024-11-29")
    assert missing(table, CALENDAR, date(2024, 11, 27), date(2024, 11, 29)) == ()
    holed = table.where(np.arange(len(table)) != 2)
    assert missing(holed, CALENDAR, date(2024, 11, 27), date(2024, 12, 2)) == (
        at("2024-11-27", "11:30"),
        *(at("2024-12-02", f"{hour}:30") for hour in ("09", "10", "11", "12", "13", "14", "15")),
    )


@pytest.mark.parametrize(
    ("newest", "now", "behind"),
    [
        (("2024-11-29", "13:00"), ("2024-12-02", "09:30"), 0),
        (("2024-11-29", "13:00"), ("2024-12-02", "09:35"), 1),
        (("2024-11-29", "12:55"), ("2024-12-02", "09:35"), 2),
        (("2024-11-27", "16:00"), ("2024-11-29", "13:30"), 42),
        (("2024-12-02", "10:00"), ("2024-12-02", "10:04"), 0),
    ],
)
def test_age_is_counted_in_bars_that_closed_since_not_in_hours(newest, now, behind):
    """73, fault 51."""
    assert bars_behind(at(*newest), Interval.MIN5, CALENDAR, at(*now)) == behind


def test_age_of_nothing_is_the_most_there_is():
    assert bars_behind(None, Interval.MIN5, CALENDAR, at("2024-12-02", "12:00"), at_most=7) == 7
    assert bars_behind(at("2024-11-26", "09:35"), Interval.MIN5, CALENDAR, at("2024-12-02", "12:00"), at_most=7) == 7


def daily(volumes: list[float]) -> BarTable:
    first = datetime(2024, 1, 1, 14, 30, tzinfo=UTC)
    slots = [(first + timedelta(days=n), first + timedelta(days=n, hours=6)) for n in range(len(volumes))]
    return bars(Interval.DAY1, slots, volume=volumes)


def test_day_volume_is_the_mean_of_twenty_prior_sessions():
    volumes = [1e9, *(float(n) for n in range(1, 21)), 1e9]
    assert average_day_volume(daily(volumes), date(2024, 1, 22)) == (Decimal(10), False)  # mean 10.5, half to even


def test_five_prior_sessions_are_enough_and_four_are_not():
    assert average_day_volume(daily([100.0] * 4 + [200.0]), date(2024, 1, 6)) == (Decimal(120), False)
    assert average_day_volume(daily([100.0, 100.0, 900.0, 300.0]), date(2024, 1, 5)) == (Decimal(200), True)


def test_the_session_itself_does_not_count_among_the_prior_ones():
    assert average_day_volume(daily([100.0] * 5 + [1e9]), date(2024, 1, 6)) == (Decimal(100), False)


def test_short_intraday_history_is_the_median_bar_times_the_bars_of_a_session():
    table = five(3, volume=[10.0, 30.0, 1000.0])
    assert average_day_volume(table, date(2024, 11, 26)) == (Decimal(30 * 78), True)


def test_intraday_volume_is_summed_by_session():
    days = [date(2024, 1, 1) + timedelta(days=n) for n in range(5)]
    slots = [
        (start, start + timedelta(minutes=5))
        for day in days
        for start in (datetime(day.year, day.month, day.day, 14, 30, tzinfo=UTC) + timedelta(minutes=5 * n) for n in range(2))
    ]
    table = bars(Interval.MIN5, slots, volume=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0])
    assert average_day_volume(table, date(2024, 1, 6)) == (Decimal(11), False)


def test_without_any_bar_there_is_no_volume():
    assert average_day_volume(BarTable.empty("A", Interval.DAY1), date(2024, 1, 6)) is None
    assert average_day_volume(daily([100.0]), date(2023, 12, 29)) is None


@pytest.mark.parametrize(
    ("close", "found"),
    [
        ([100, 300, 100], [1]),
        ([100, 20, 100], [1]),
        ([100, 150, 100], []),  # exactly as far as is believed
        ([100, 151, 100], [1]),
        ([100, 100, 300], []),  # the newest: the next close will tell
        ([300, 100, 100], []),
        ([100, 300, 300], []),  # a move that stays
        ([100, 300, 900], []),  # neighbours that do not agree prove nothing
        ([100, 300, 300, 100], []),
        ([100, 300, 100, 300, 300], [1]),  # a bad print ahead of a move: the close between them is not measured by it
        ([100, 300, 100, 100, 20, 100], [1, 4]),
        ([100, 300], []),
        ([], []),
    ],
)
def test_a_close_far_from_two_neighbours_that_agree_is_a_lone_print(close, found):
    assert np.flatnonzero(lone_prints(np.array(close, np.float64), Decimal("0.5"))).tolist() == found


@pytest.mark.parametrize(
    ("close", "expected"), [([100, 1000], True), ([100, 10], True), ([100, 999], False), ([100, 10.01], False), ([100], False)],
)
def test_a_newest_close_ten_times_off_is_unproven(close, expected):
    assert unproven(np.array(close, np.float64)) == expected
