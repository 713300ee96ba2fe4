"""When the New York Stock Exchange is open, by its own rules and not by a calendar library.

Source: NYSE Rule 7.2 and the exchange's notices of special closings, as in its list of holidays and closings since 1885. Good from 1990
on; a closing that is announced later than this was written is not known here.
"""

from datetime import date, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
FULL, EARLY, TWO = time(16, 0), time(13, 0), time(14, 0)
SPECIAL_CLOSINGS = frozenset(
    map(
        date.fromisoformat,
        (
            "1994-04-27", "2001-09-11", "2001-09-12", "2001-09-13", "2001-09-14", "2004-06-11", "2007-01-02", "2012-10-29", "2012-10-30",
            "2018-12-05", "2025-01-09",
        ),
    )
)
"""Mourning for Nixon, attacks of 2001, mourning for Reagan and Ford, hurricane Sandy, mourning for Bush and Carter."""
SPECIAL_EARLY_CLOSINGS = frozenset((date(1997, 12, 26), date(1999, 12, 31), date(2003, 12, 26)))


@lru_cache(maxsize=4096)
def closes_at(day: date) -> time | None:
    """When regular trading ends that day, New York time; None when there is none."""
    if day.weekday() > 4 or day in SPECIAL_CLOSINGS or day in _holidays(day.year):
        return None
    after_thanksgiving = day == _nth(day.year, 11, 3, 4) + timedelta(days=1)
    before_july_4 = (day.month, day.day) == (7, 3) and day.weekday() < 4 and (day.weekday() != 2 or day.year >= 2013)
    after_july_4 = (day.month, day.day, day.weekday()) == (7, 5, 4) and day.year < 2013
    christmas_eve = (day.month, day.day) == (12, 24) and day.weekday() < 4
    if day.year < 1993:
        return TWO if christmas_eve or (after_thanksgiving and day.year == 1992) else FULL
    if day in SPECIAL_EARLY_CLOSINGS or after_thanksgiving or before_july_4 or after_july_4 or christmas_eve:
        return EARLY
    return FULL


def session_before(day: date) -> date:
    """The last day before it on which the exchange was open."""
    day -= timedelta(days=1)
    while closes_at(day) is None:
        day -= timedelta(days=1)
    return day


@lru_cache(maxsize=64)
def _holidays(year: int) -> frozenset[date]:
    days = {
        _nth(year, 2, 0, 3), _easter(year) - timedelta(days=2), _nth(year, 6, 0, 1) - timedelta(days=7),
        _nth(year, 9, 0, 1), _nth(year, 11, 3, 4), _observed(date(year, 7, 4)), _observed(date(year, 12, 25)),
    }
    if date(year, 1, 1).weekday() != 5:
        # A New Year's Day on a Saturday is not made up for on the Friday: the year's books are closed then.
        days.add(_observed(date(year, 1, 1)))
    if year >= 1998:
        days.add(_nth(year, 1, 0, 3))
    if year >= 2022:
        days.add(_observed(date(year, 6, 19)))
    return frozenset(days)


def _nth(year: int, month: int, weekday: int, number: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (number - 1))


def _observed(day: date) -> date:
    return day + timedelta(days={5: -1, 6: 1}.get(day.weekday(), 0))


def _easter(year: int) -> date:
    """Source: the anonymous Gregorian algorithm, Meeus, Astronomical Algorithms, chapter 8."""
    a, b, c = year % 19, year // 100, year % 100
    d, e = divmod(b, 4)
    h = (19 * a + b - d - (b - (b + 8) // 25 + 1) // 3 + 15) % 30
    i, k = divmod(c, 4)
    m = (32 + 2 * e + 2 * i - h - k) % 7
    n = (a + 11 * h + 22 * m) // 451
    month, day = divmod(h + m - 7 * n + 114, 31)
    return date(year, month, day + 1)
