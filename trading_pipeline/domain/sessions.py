"""Trading sessions: what is open when, and which bars a session has.

A pure table of sessions, searched by bisection; `adapters.calendar` fills it from exchange_calendars.
A day that is not in the table is closed; an instant beyond the table's horizon is an error, never a guess.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property, lru_cache
from zoneinfo import ZoneInfo

import numpy as np

from trading_pipeline.domain.bars import Instants, Interval, instant_ns
from trading_pipeline.errors import CalendarError

NEW_YORK = ZoneInfo("America/New_York")


@dataclass(frozen=True, slots=True)
class Session:
    """One trading day of XNYS: regular hours `open <= t < close`, both UTC."""

    day: date
    open: datetime
    close: datetime

    @property
    def early_close(self) -> bool:
        """Whether it closes before 16:00 New York."""
        return self.close.astimezone(NEW_YORK).hour < 16

    def contains(self, at: datetime) -> bool:
        """Whether regular hours are open at `at`."""
        return self.open <= at < self.close


@dataclass(frozen=True, slots=True)
class BarSlot:
    """The place of one bar: `start <= t < end` within `session`."""

    session: Session
    interval: Interval
    start: datetime
    end: datetime

    @property
    def last_of_session(self) -> bool:
        """Whether it closes with the session: no decision is taken on it (D27), except for daily bars."""
        return self.end >= self.session.close


class TradingCalendar:
    """All sessions between two dates, in order; every question is a bisection."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        if not sessions:
            raise CalendarError("The trading calendar is empty.", rule="a calendar has sessions", remedy="reinstall exchange_calendars")
        self._sessions = tuple(sessions)
        self._days = [session.day for session in sessions]
        self._opens = [session.open for session in sessions]

    @property
    def first(self) -> Session:
        """The first session the table knows."""
        return self._sessions[0]

    @property
    def horizon(self) -> Session:
        """The last session the table knows."""
        return self._sessions[-1]

    def find(self, day: date) -> Session | None:
        """The session of a date, or None when the exchange is closed that day.

        Raises:
            CalendarError: The date lies outside the table.
        """
        self._check(day)
        index = bisect_left(self._days, day)
        return self._sessions[index] if index < len(self._days) and self._days[index] == day else None

    def session(self, day: date) -> Session:
        """The session of a date; CalendarError when the exchange is closed."""
        found = self.find(day)
        if found is None:
            raise CalendarError(
                f"{day} is not a trading day.", value=day, rule="XNYS is closed on that day",
                remedy=f"use a session such as {self.next(day).day}",
            )
        return found

    def at(self, instant: datetime) -> Session | None:
        """The session whose regular hours contain the instant, or None."""
        session = self.last_opened(instant)
        return session if session is not None and session.contains(instant) else None

    def last_opened(self, instant: datetime) -> Session | None:
        """The newest session that has opened by the instant."""
        self._check(instant.astimezone(NEW_YORK).date())
        index = bisect_right(self._opens, instant)
        return self._sessions[index - 1] if index else None

    def last_closed(self, instant: datetime) -> Session | None:
        """The newest session that has closed by the instant."""
        session = self.last_opened(instant)
        if session is not None and session.close > instant:
            return self.previous(session.day) if session.day > self.first.day else None
        return session

    def next(self, day: date) -> Session:
        """The first session after a date."""
        self._check(day)
        index = bisect_right(self._days, day)
        if index >= len(self._days):
            raise self._outside(day)
        return self._sessions[index]

    def previous(self, day: date) -> Session:
        """The last session before a date."""
        self._check(day)
        index = bisect_left(self._days, day)
        if index == 0:
            raise self._outside(day)
        return self._sessions[index - 1]

    def hours(self, first: date, last: date) -> tuple[Instants, Instants]:
        """Opens and closes of the sessions that `between` gives, nanoseconds since the epoch."""
        self._check(first)
        self._check(last)
        which = slice(bisect_left(self._days, first), bisect_right(self._days, last))
        opens, closes = self._hours
        return opens[which], closes[which]

    @cached_property
    def _hours(self) -> tuple[Instants, Instants]:
        opens = np.array([instant_ns(session.open) for session in self._sessions], np.int64)
        return opens, np.array([instant_ns(session.close) for session in self._sessions], np.int64)

    def between(self, first: date, last: date) -> tuple[Session, ...]:
        """Sessions from `first` to `last`, both included."""
        self._check(first)
        self._check(last)
        return self._sessions[bisect_left(self._days, first) : bisect_right(self._days, last)]

    def slots(self, session: Session, interval: Interval) -> tuple[BarSlot, ...]:
        """The bars of a session, anchored at its open; the last one may be short."""
        return _slots(session, interval)

    def slot_at(self, instant: datetime, interval: Interval) -> BarSlot | None:
        """The bar that contains the instant (start <= t < end), or None outside regular hours."""
        session = self.at(instant)
        if session is None:
            return None
        if interval.daily:
            return BarSlot(session, interval, session.open, session.close)
        step = timedelta(minutes=interval.minutes)
        start = session.open + step * ((instant - session.open) // step)
        return BarSlot(session, interval, start, min(start + step, session.close))

    def last_closed_slot(self, instant: datetime, interval: Interval) -> BarSlot | None:
        """The newest bar that has closed by the instant (end <= t)."""
        current = self.at(instant)
        if current is None or interval.daily:
            closed = self.last_closed(instant)
            return None if closed is None else self.slots(closed, interval)[-1]
        slot = self.slot_at(instant, interval)
        assert slot is not None
        if slot.start == current.open:
            return self.slots(self.previous(current.day), interval)[-1] if current.day > self.first.day else None
        step = timedelta(minutes=interval.minutes)
        return BarSlot(current, interval, slot.start - step, slot.start)

    def _check(self, day: date) -> None:
        if not self._days[0] <= day <= self._days[-1]:
            raise self._outside(day)

    def _outside(self, day: date) -> CalendarError:
        return CalendarError(
            f"{day} lies outside the trading calendar ({self._days[0]} to {self._days[-1]}).",
            value=day,
            rule="only days the calendar knows can be traded or replayed",
            remedy="use a date inside it, or update exchange_calendars",
        )


@lru_cache(maxsize=16)
def _slots(session: Session, interval: Interval) -> tuple[BarSlot, ...]:
    """Asked for again and again within a session: a one-minute session has 390."""
    if interval.daily:
        return (BarSlot(session, interval, session.open, session.close),)
    step = timedelta(minutes=interval.minutes)
    slots, start = [], session.open
    while start < session.close:
        end = min(start + step, session.close)
        slots.append(BarSlot(session, interval, start, end))
        start = end
    return tuple(slots)
