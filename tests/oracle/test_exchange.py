"""The oracle's own calendar against one that others keep."""

from datetime import date, time, timedelta

import pytest

from tests.desks import calendar
from trading_pipeline.oracle.exchange import NEW_YORK, closes_at


def test_every_day_of_the_trading_calendar_closes_when_the_exchange_does():
    """Source: exchange_calendars, XNYS, which the desk's calendar is filled from."""
    first, last = max(calendar().first.day, date(1990, 1, 2)), calendar().horizon.day
    closes = {session.day: session.close.astimezone(NEW_YORK).time() for session in calendar().between(first, last)}
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    assert {day: (closes_at(day), closes.get(day)) for day in days if closes_at(day) != closes.get(day)} == {}
    assert len(days) > 7_000


@pytest.mark.parametrize(
    ("day", "close"),
    [
        ("2024-07-03", time(13)), ("2024-11-29", time(13)), ("2024-12-24", time(13)), ("2024-12-25", None), ("2025-01-09", None),
        ("1997-01-20", time(16)), ("1998-01-19", None), ("1994-04-27", None),
        ("2012-10-29", None), ("2022-06-20", None), ("2021-06-18", time(16)), ("2021-12-31", time(16)), ("2026-07-03", None),
    ],
)
def test_days_as_the_exchange_announced_them(day, close):
    """Source: NYSE, Holidays and Trading Hours; Juneteenth since 2022; Saturday's New Year of 2022 not made up for."""
    assert closes_at(date.fromisoformat(day)) == close
