"""The real calendar, against another author's calendar and against days everybody can look up."""

import os
import subprocess
import sys
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from trading_pipeline.adapters.calendar import load_calendar, unscheduled_closures

NEW_YORK = ZoneInfo("America/New_York")
TODAY = date(2026, 3, 2)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("calendar")


@pytest.fixture(scope="module")
def calendar(cache):
    load_calendar(cache, TODAY)
    return load_calendar(cache, TODAY)


@pytest.mark.parametrize(
    "day",
    [
        "2012-10-29",  # hurricane Sandy
        "2012-10-30",
        "2025-01-09",  # national day of mourning for Jimmy Carter
        "2018-12-05",  # national day of mourning for George H. W. Bush
        "2001-09-11",
        "2001-09-14",
        "2004-06-11",  # national day of mourning for Ronald Reagan
        "2024-03-29",  # Good Friday
        "2022-06-20",  # Juneteenth observed
        "2024-07-04",
        "2024-12-25",
        "2024-08-31",  # a Saturday
    ],
)
def test_the_exchange_was_closed(calendar, day):
    assert calendar.find(date.fromisoformat(day)) is None


@pytest.mark.parametrize("day", ["2013-07-03", "2023-11-24", "2024-07-03", "2024-11-29", "2024-12-24", "2025-07-03", "2012-11-23"])
def test_the_exchange_closed_at_one(calendar, day):
    session = calendar.session(date.fromisoformat(day))
    assert session.early_close
    assert session.close.astimezone(NEW_YORK).strftime("%H:%M") == "13:00"


def test_opens_follow_new_york_through_changes_of_clock(calendar):
    """D8, fault 46."""
    assert calendar.session(date(2024, 3, 8)).open == datetime(2024, 3, 8, 14, 30, tzinfo=UTC)
    assert calendar.session(date(2024, 3, 11)).open == datetime(2024, 3, 11, 13, 30, tzinfo=UTC)
    assert calendar.session(date(2024, 11, 1)).open == datetime(2024, 11, 1, 13, 30, tzinfo=UTC)
    assert calendar.session(date(2024, 11, 4)).open == datetime(2024, 11, 4, 14, 30, tzinfo=UTC)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_session_is_that_of_an_independent_calendar(calendar):
    """70, fault 47: days from 1990 to the horizon, hours from 2007: before, the other one knows minutes of silence and early halts."""
    import pandas_market_calendars

    schedule = pandas_market_calendars.get_calendar("NYSE").schedule("1990-01-01", calendar.horizon.day.isoformat())
    theirs = [
        (day.date(), opened.to_pydatetime(), closed.to_pydatetime())
        for day, opened, closed in zip(schedule.index, schedule["market_open"], schedule["market_close"], strict=True)
    ]
    ours = [(each.day, each.open, each.close) for each in calendar.between(calendar.first.day, calendar.horizon.day)]
    assert [day for day, _, _ in ours] == [day for day, _, _ in theirs]
    since = date(2007, 1, 1)
    assert [each for each in ours if each[0] >= since] == [each for each in theirs if each[0] >= since]


def test_the_table_reaches_to_the_end_of_the_second_year_ahead(calendar):
    assert calendar.first.day == date(1990, 1, 2)
    assert calendar.horizon.day == date(2028, 12, 29)


def test_the_cached_table_is_the_one_that_was_built(calendar):
    built = load_calendar(None, TODAY)
    whole = (calendar.first.day, calendar.horizon.day)
    assert calendar.between(*whole) == built.between(*whole)


def test_the_cached_table_is_read_without_pandas(calendar, cache):
    code = (
        "import sys, pathlib, datetime; from trading_pipeline.adapters.calendar import load_calendar;"
        "load_calendar(pathlib.Path(sys.argv[1]), datetime.date.fromisoformat(sys.argv[2]));"
        "print({'pandas', 'exchange_calendars'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(cache), TODAY.isoformat()], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("damage", ["truncated", "edited", "older version", "shorter horizon", "empty"])
def test_a_cache_that_is_not_as_wanted_is_made_again(calendar, cache, tmp_path, damage):
    whole = (cache / "xnys-calendar.txt").read_text()
    head, digest, body = whole.split("\n", 2)
    spoilt = {
        "truncated": whole[: len(whole) // 2],
        "edited": whole.replace("2024-12-24", "2024-12-25"),
        "older version": "\n".join((head.replace(head.split()[2], "0.0.1"), digest, body)),
        "shorter horizon": "\n".join((head.replace("2028", "2026"), digest, body)),
        "empty": "",
    }
    file = tmp_path / "xnys-calendar.txt"
    file.write_text(spoilt[damage])
    again = load_calendar(tmp_path, TODAY)
    assert again.find(date(2024, 12, 25)) is None
    assert again.horizon == calendar.horizon
    assert file.read_text() == whole
    assert [each.name for each in tmp_path.iterdir()] == ["xnys-calendar.txt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_folder_without_permission_costs_time_only(tmp_path, calendar):
    tmp_path.chmod(0o500)
    assert load_calendar(tmp_path, TODAY).horizon == calendar.horizon


def test_a_cache_folder_that_cannot_be_made_costs_time_only(tmp_path, calendar, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    assert load_calendar(blocked, TODAY).horizon == calendar.horizon
    assert "cannot be written" in caplog.text


@pytest.mark.parametrize(
    ("first", "last", "closed"),
    [
        (date(2012, 10, 15), date(2012, 11, 23), (date(2012, 10, 29), date(2012, 10, 30))),
        (date(2001, 9, 10), date(2001, 9, 17), (date(2001, 9, 11), date(2001, 9, 12), date(2001, 9, 13), date(2001, 9, 14))),
        (date(2012, 11, 19), date(2012, 12, 26), ()),
        (date(2024, 8, 26), date(2024, 8, 30), ()),
    ],
    ids=["hurricane", "attack", "Thanksgiving and Christmas are holidays", "a full week"],
)
def test_unscheduled_closures_are_told_from_holidays(first, last, closed):
    """Source: NYSE, special closings since 1885."""
    assert unscheduled_closures(load_calendar(), first, last) == closed
