"""The trading calendar: every XNYS session from 1990 on, taken from exchange_calendars.

Importing exchange_calendars (with pandas) and building the table costs two to three seconds, so the table is kept
as a small text file and read back in some 30 ms without either; the file is a cache, remade whenever its version,
its checksum or its horizon is not as wanted. The table ends two calendar years ahead, as far as the exchange
publishes its holidays: a day beyond is an error, never extrapolated. Late opens by minutes (a minute of silence) are not in it.
Source of the facts: exchange_calendars' XNYS (https://www.nyse.com/markets/hours-calendars).
"""

import hashlib
import logging
import os
import tempfile
import warnings
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from functools import cache as memoised
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from trading_pipeline.domain.sessions import Session, TradingCalendar

FIRST_DAY = date(1990, 1, 1)
YEARS_AHEAD = 2
"""NYSE publishes holidays and early closes for the current and the following two years."""

_log = logging.getLogger(__name__)
_FILE = "xnys-calendar.txt"
_FORMAT = 1


def load_calendar(cache: Path | None = None, today: date | None = None) -> TradingCalendar:
    """The XNYS calendar from 1990 to the end of the second year after this one.

    Args:
        cache: Folder of the cached table, made if need be; None builds the table each time a process asks first.
            A folder that cannot be written costs time, not correctness: it is logged and passed over.
        today: The day that the horizon is counted from; the machine's UTC date when None.
    """
    end = date((today or datetime.now(UTC).date()).year + YEARS_AHEAD, 12, 31)
    if cache is None:
        return _build(end)
    file = cache / _FILE
    header = f"xnys {_FORMAT} {version('exchange_calendars')} {FIRST_DAY} {end}"
    known = _read(file, header)
    if known is not None:
        return known
    calendar = _build(end)
    try:
        _write(file, header, calendar.between(calendar.first.day, calendar.horizon.day))
    except OSError as error:
        _log.warning("The calendar cache %s cannot be written (%s); starting will be slower.", file, error)
    return calendar


def unscheduled_closures(calendar: TradingCalendar, first: date, last: date) -> tuple[date, ...]:
    """Days between two dates on which the exchange stayed closed without a holiday: a storm, a funeral, an attack.

    Source: exchange_calendars' XNYS ad hoc holidays; it is imported only where a weekday has no session.
    """
    sessions = {session.day for session in calendar.between(first, last)}
    days = (first + timedelta(days=count) for count in range((last - first).days + 1))
    idle = [day for day in days if day.weekday() < 5 and day not in sessions]
    if not idle:
        return ()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import exchange_calendars

        announced = cast(Any, exchange_calendars.get_calendar("XNYS", start=first.isoformat(), end=last.isoformat()))
        sudden = {day.date() for day in announced.adhoc_holidays}
    return tuple(day for day in idle if day in sudden)


@memoised
def _build(end: date) -> TradingCalendar:
    with warnings.catch_warnings():
        # exchange_calendars 4.13 uses what pandas 3.1 deprecates; nothing here can change that.
        warnings.simplefilter("ignore", DeprecationWarning)
        import exchange_calendars

        # Typed loosely: exchange_calendars ships no types.
        schedule = cast(Any, exchange_calendars.get_calendar("XNYS", start=FIRST_DAY.isoformat(), end=end.isoformat()).schedule)
        days = schedule.index
        opens, closes = schedule["open"], schedule["close"]
        return TradingCalendar(
            [
                Session(day.date(), opened.to_pydatetime().astimezone(UTC), closed.to_pydatetime().astimezone(UTC))
                for day, opened, closed in zip(days, opens, closes, strict=True)
            ]
        )


def _read(file: Path, header: str) -> TradingCalendar | None:
    """The cached calendar, or None when the file is absent, of another version or horizon, or damaged."""
    try:
        head, digest, body = file.read_text("ascii").split("\n", 2)
    except (OSError, ValueError):
        return None
    if head != header or digest != _digest(body):
        return None
    return _parsed(body)


@lru_cache(maxsize=2)
def _parsed(body: str) -> TradingCalendar:
    sessions = []
    for line in body.splitlines():
        day, opened, closed = line.split()
        sessions.append(
            Session(date.fromisoformat(day), datetime.fromtimestamp(int(opened), UTC), datetime.fromtimestamp(int(closed), UTC))
        )
    return TradingCalendar(sessions)


def _write(file: Path, header: str, sessions: Iterable[Session]) -> None:
    body = "".join(f"{each.day} {int(each.open.timestamp())} {int(each.close.timestamp())}\n" for each in sessions)
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{_FILE}-")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(f"{header}\n{_digest(body)}\n{body}")
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode("ascii")).hexdigest()
