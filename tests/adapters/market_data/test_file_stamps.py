"""When the rows of a file are: zones, dates, starts and ends, intervals, days."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.adapters.market_data.bars_files import Row, five_minutes, rules
from trading_pipeline.adapters.market_data.stamps import DateOrder, Stamp
from trading_pipeline.domain.bars import Interval


def test_date_and_time_in_two_columns_are_read_together(read):
    rows = [[*str(row[0]).split(" "), *row[1:]] for row in five_minutes(zone="America/New_York", offset=False)]
    table, report = read(rows, ("Date", "Time", "Open", "High", "Low", "Close", "Vol"))
    assert len(table) == 78
    assert table.bar(0).start == datetime(2024, 8, 28, 13, 30, tzinfo=UTC)
    assert "America/New_York" in report.notes[0]


@pytest.mark.parametrize("zone", ["America/New_York", "America/Chicago", "America/Los_Angeles", "UTC"])
def test_the_zone_of_stamps_without_offset_shows_in_the_hours_they_fill(read, zone):
    table, report = read(five_minutes(zone=zone, offset=False) + five_minutes("2024-12-02", zone=zone, offset=False))
    assert [table.bar(index).start.hour for index in (0, 78)] == [13, 14]
    assert zone in report.notes[0]


def test_a_zone_that_does_not_show_is_refused_until_given(read):
    rows = five_minutes(zone="Europe/Berlin", offset=False)
    _, report = read(rows)
    assert "time zone" in str(report.error)
    table, _ = read(rows, timezone="Europe/Berlin")
    assert table.bar(0).start == datetime(2024, 8, 28, 13, 30, tzinfo=UTC)


def test_a_zone_that_does_not_exist_is_refused(read):
    _, report = read(five_minutes(offset=False), timezone="New York")
    assert "'New York' is no time zone" in str(report.error)


def test_stamps_with_and_without_offset_in_one_file_are_refused(read):
    _, report = read([*five_minutes(count=10), *five_minutes("2024-08-29", offset=False)])
    assert "some do not" in str(report.error)


def test_slashed_dates_are_read_where_a_day_above_twelve_shows_their_order(read):
    def slashed(day: str) -> list[Row]:
        return [[f"{datetime.fromisoformat(str(row[0])):%m/%d/%Y %H:%M}", *row[1:]] for row in five_minutes(day, offset=False)]

    table, _ = read(slashed("2024-08-28"))
    assert len(table) == 78
    _, report = read(slashed("2024-08-07"))
    assert "day or the month first" in str(report.error)
    table, _ = read(slashed("2024-08-07"), date_order=DateOrder.MONTH_FIRST)
    assert table.bar(0).start.day == 7


def test_ends_of_bars_are_refused_until_said(read):
    rows = five_minutes(shift=5) + five_minutes("2024-08-29", shift=5)
    _, report = read(rows)
    assert "may be bar ends" in str(report.error)
    table, _ = read(rows, stamp=Stamp.END)
    assert (len(table), table.bar(0).start) == (156, datetime(2024, 8, 28, 13, 30, tzinfo=UTC))


def test_ends_of_bars_with_extended_hours_show_in_the_volume_about_the_open(read):
    def extended(day: str, shift: int) -> list[Row]:
        quiet = [[*row[:5], 40] for row in five_minutes(day, count=108, shift=shift - 30)]
        return [*quiet[:6], *five_minutes(day, shift=shift), *quiet[84:]]

    _, report = read(extended("2024-08-28", 5) + extended("2024-08-29", 5))
    assert "may be bar ends" in str(report.error)
    table, report = read(extended("2024-08-28", 0) + extended("2024-08-29", 0))
    assert report.error is None
    assert len(table) == 156


def test_ends_of_hourly_bars_include_the_short_last_one(read):
    ends = [f"2024-08-28T{clock}-04:00" for clock in ("10:30", "11:30", "12:30", "13:30", "14:30", "15:30", "16:00")]
    table, _ = read([[end, 10.0, 11.0, 9.0, 10.5, 100] for end in ends], stamp=Stamp.END)
    assert [bar.start.minute for bar in table] == [30] * 7
    assert table.last_end == datetime(2024, 8, 28, 20, 0, tzinfo=UTC)


def test_hourly_bars_on_the_full_hour_cannot_be_cut_and_are_refused(read):
    rows = [[f"2024-08-28T{hour:02}:00:00-04:00", 10.0, 11.0, 9.0, 10.5, 100] for hour in range(4, 20)]
    _, report = read(rows)
    assert "anchored at the open" in str(report.error)


@pytest.mark.parametrize("minutes", [2, 30])
def test_an_interval_we_do_not_have_is_refused(read, minutes):
    first = datetime(2024, 8, 28, 13, 30, tzinfo=UTC)
    _, report = read([[(first + timedelta(minutes=minutes * n)).isoformat(), 10.0, 11.0, 9.0, 10.5, 100] for n in range(13)])
    assert f"mostly {minutes} minutes apart" in str(report.error)


def test_an_interval_finer_than_the_rows_is_refused(read):
    _, report = read(five_minutes(), interval=Interval.MIN1)
    assert "said to hold 1min bars" in str(report.error)
    _, report = read(five_minutes(), interval=Interval.DAY1)
    assert "said to hold 1d bars" in str(report.error)


@pytest.mark.parametrize(
    "stamps",
    [
        ("2024-07-02", "2024-07-03", "2024-07-05"),
        ("2024-07-02 00:00:00", "2024-07-03 00:00:00", "2024-07-05 00:00:00"),
        ("2024-07-02T00:00:00Z", "2024-07-03T00:00:00Z", "2024-07-05T00:00:00Z"),
        ("2024-07-02 00:00:00-04:00", "2024-07-03 00:00:00-04:00", "2024-07-05 00:00:00-04:00"),
        ("2024-07-02T13:30:00Z", "2024-07-03T13:30:00Z", "2024-07-05T13:30:00Z"),
        ("20240702", "20240703", "20240705"),
        ("1719878400", "1719964800", "1720137600"),
        ("07/02/2024", "07/03/2024", "07/15/2024"),
    ],
)
def test_a_daily_bar_is_its_session_however_its_date_is_written(read, stamps):
    table, report = read([[stamp, 10.0, 11.0, 9.0, 10.5, 100] for stamp in stamps])
    assert report.error is None, report.lines()
    assert table.interval is Interval.DAY1
    assert [str(day) for day in table.session_days[:2]] == ["2024-07-02", "2024-07-03"]
    assert table.bar(1).end == datetime(2024, 7, 3, 17, 0, tzinfo=UTC)


def test_a_daily_row_on_a_closed_day_is_dropped(read):
    days = [f"2024-07-{day:02}" for day in (1, 2, 3, 4, 5, 8)]
    table, report = read([[day, 10.0, 11.0, 9.0, 10.5, 100] for day in days])
    assert len(table) == 5
    assert rules(report.dropped) == {"on a day the exchange was closed": 1}


@pytest.mark.parametrize("stamp", ["9999-12-31T00:00:00Z", "0001-01-01T00:00:00+14:00", "9" * 19, "1500-01-01T00:00:00Z", "-1"])
def test_an_instant_that_no_clock_shows_is_a_broken_row(read, stamp):
    rows = five_minutes()
    rows[7][0] = stamp
    table, report = read(rows)
    assert len(table) == 77
    assert rules(report.dropped) == {"no instant in column timestamp": 1}
