"""Every minute of twelve years, in the default run: two calendars, four host time zones; and a calendar that is wrong is seen."""

from datetime import datetime

import pytest

from tests.evidence.calendar_minutes import NEW_YORK, ZONES, grid, independent, ours, run


@pytest.fixture(scope="module")
def theirs():
    return independent()[0]


@pytest.mark.slow
def test_every_minute_is_that_of_an_independent_calendar_whatever_the_host_time_zone(theirs):
    """70, fault 46, fault 47: twelve years, closures that nobody had scheduled and early closes included."""
    outcome = run(spans=theirs)
    assert outcome.differences == []
    # 12 years with 3 leap days are 4,383 days; clocks change by an hour and back within each year.
    assert outcome.minutes == len(ZONES) * 4_383 * 1_440
    assert outcome.asked > len(ZONES) * 4_383 * 3
    # By NYSE's pages: the day after Thanksgiving (12), 24 December (2015, 2018-2020, 2024-2026), 3 July (2017-2019, 2023-2025).
    assert outcome.early_closes == sum(closed - opened < 390 for opened, closed in theirs) == 12 + 7 + 6


@pytest.mark.parametrize("minutes_off", [-180, 1])
def test_one_wrong_close_among_three_thousand_is_seen(theirs, tmp_path, minutes_off):
    """Its own control."""
    wrong = list(theirs)
    opened = int(datetime(2018, 12, 4, 9, 30, tzinfo=NEW_YORK).timestamp()) // 60
    day = next(at for at, span in enumerate(wrong) if span[0] == opened)
    wrong[day] = opened, wrong[day][1] + minutes_off
    (tmp_path / "independent.json").write_text(str([list(span) for span in wrong]))
    outcome = ours(tmp_path, every=False)
    assert len([each for each in outcome.differences if "the sessions" in each]) == abs(minutes_off)
    assert any("at()" in each for each in outcome.differences)


def test_the_minutes_are_whole_days_of_new_york():
    # 2015-01-01 05:00 UTC and 2027-01-01 05:00 UTC.
    assert [minute * 60 for minute in grid()] == [1_420_088_400, 1_798_779_600]
