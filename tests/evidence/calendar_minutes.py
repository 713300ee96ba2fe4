"""`make calendar-check`: every minute of 2015 to 2026 in our calendar and in one by other authors, on hosts in four time zones.

Ours comes from exchange_calendars. The other is `pandas_market_calendars`, whose NYSE class (`pandas_market_calendars.calendars.nyse`) has
rules and lists of its own; some of that package's other calendars wrap exchange_calendars, so the class is checked. It is
computed once, in UTC; ours in a process of its own for each time zone, both built anew and read back from its cache. The sessions give
every minute at once; `TradingCalendar.at` itself is asked at every edge, and with `EVERY=1` at every single minute.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.evidence.report import finish, progress, size
from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.domain.sessions import NEW_YORK, TradingCalendar

FIRST, LAST = date(2015, 1, 1), date(2026, 12, 31)
TODAY = date(2026, 6, 1)
ZONES = ("UTC", "Asia/Tokyo", "America/New_York", "")
UNSCHEDULED = (date(2018, 12, 5), date(2025, 1, 9))
"""Closed for the days of mourning for George H. W. Bush and Jimmy Carter, announced days before.

Source: NYSE notices of 2018-12-01 and 2024-12-30.
"""
INDEPENDENT = "pandas_market_calendars.calendars.nyse"

Minutes = npt.NDArray[np.bool_]
Span = tuple[int, int]
"""Open and close in minutes since the epoch."""


@dataclass
class Outcome:
    """What came of it."""

    minutes: int = 0
    open_minutes: int = 0
    sessions: int = 0
    early_closes: int = 0
    asked: int = 0
    """How often `TradingCalendar.at` was asked, over all time zones."""
    differences: list[str] = field(default_factory=list)
    seconds: float = 0.0


def independent() -> tuple[list[Span], str]:
    """Sessions by the other authors, and the version of their package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import pandas_market_calendars

        calendar = pandas_market_calendars.get_calendar("NYSE")
        assert type(calendar).__module__ == INDEPENDENT, "a wrapper of exchange_calendars would agree with itself"
        schedule = calendar.schedule(FIRST.isoformat(), LAST.isoformat())
    edges = [
        (int(opened.timestamp()) // 60, int(closed.timestamp()) // 60)
        for opened, closed in zip(schedule["market_open"], schedule["market_close"], strict=True)
    ]
    return edges, str(pandas_market_calendars.__version__)


def grid() -> Span:
    """The first minute and the one after the last: whole days of New York."""
    start = datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=NEW_YORK)
    after = LAST + timedelta(days=1)
    end = datetime(after.year, after.month, after.day, tzinfo=NEW_YORK)
    return int(start.timestamp()) // 60, int(end.timestamp()) // 60


def painted(spans: Sequence[Span]) -> Minutes:
    """One truth a minute: whether it lies in a session."""
    first, end = grid()
    minutes = np.zeros(end - first, bool)
    for opened, closed in spans:
        minutes[opened - first : closed - first] = True
    return minutes


def asked_at(spans: Sequence[Span], every: bool) -> npt.NDArray[np.int64]:
    """The minutes at which `at` is asked: all, or those around where either calendar could change: its edges, 9:30, 13:00 and 16:00."""
    first, end = grid()
    if every:
        return np.arange(first, end)
    edges = {edge for span in spans for edge in span}
    day = FIRST
    while day <= LAST:
        for hour, minute in ((9, 30), (13, 0), (16, 0)):
            edges.add(int(datetime(day.year, day.month, day.day, hour, minute, tzinfo=NEW_YORK).timestamp()) // 60)
        day += timedelta(days=1)
    around = np.array(sorted(edges), np.int64)
    return np.unique(np.concatenate((around - 1, around)))


def ours(folder: Path, every: bool) -> Outcome:
    """Hold our calendar, as this process sees it, against the other's sessions in the folder."""
    theirs = [(opened, closed) for opened, closed in json.loads((folder / "independent.json").read_text())]
    zone = os.environ.get("TZ") or "empty"
    built = load_calendar(folder / f"cache-{zone.replace('/', '-')}", TODAY)
    calendar = load_calendar(folder / f"cache-{zone.replace('/', '-')}", TODAY)
    outcome = Outcome(len(painted([])))
    sessions = calendar.between(FIRST, LAST)
    if built.between(FIRST, LAST) != sessions:
        outcome.differences.append(f"TZ={zone}: read back from its cache the calendar is another")
    edges = [(int(each.open.timestamp()) // 60, int(each.close.timestamp()) // 60) for each in sessions]
    expected = painted(theirs)
    outcome.differences += _named(zone, "the sessions", painted(edges), expected, np.arange(len(expected)) + grid()[0])
    wanted = asked_at([*edges, *theirs], every)
    outcome.differences += _named(zone, "at()", _asked(calendar, wanted), expected[wanted - grid()[0]], wanted)
    outcome.sessions, outcome.open_minutes, outcome.asked = len(sessions), int(painted(edges).sum()), len(wanted)
    outcome.early_closes = sum(each.early_close for each in sessions)
    outcome.differences += [f"TZ={zone}: {day} is a session" for day in UNSCHEDULED if calendar.find(day) is not None]
    return outcome


def _asked(calendar: TradingCalendar, minutes: npt.NDArray[np.int64]) -> Minutes:
    return np.array([calendar.at(datetime.fromtimestamp(minute * 60, UTC)) is not None for minute in minutes.tolist()])


def _named(zone: str, what: str, have: Minutes, want: Minutes, minutes: npt.NDArray[np.int64]) -> list[str]:
    return [
        f"TZ={zone}: {datetime.fromtimestamp(minute * 60, NEW_YORK):%Y-%m-%d %H:%M} New York is "
        f"{'open' if opened else 'closed'} by {what}, not so by the other calendar"
        for minute, opened in zip(minutes[have != want].tolist(), have[have != want].tolist(), strict=True)
    ]


def run(every: bool = False, spans: list[Span] | None = None) -> Outcome:
    """Compare in a process for each time zone.

    Args:
        every: Ask `at` at every minute, some seconds more.
        spans: The other calendar's sessions; what `independent` says when None.
    """
    begun, total = time.monotonic(), Outcome()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "independent.json").write_text(json.dumps(independent()[0] if spans is None else spans))
        for zone in ZONES:
            done = subprocess.run(
                [sys.executable, "-m", "tests.evidence.calendar_minutes", folder, "every" if every else "edges"],
                env=os.environ | {"TZ": zone}, capture_output=True, text=True, check=True,
            )
            part = Outcome(**json.loads(done.stdout.splitlines()[-1]))
            total.minutes += part.minutes
            total.asked += part.asked
            total.differences += part.differences
            total.sessions, total.early_closes, total.open_minutes = part.sessions, part.early_closes, part.open_minutes
            progress(f"TZ={zone!r}: {part.minutes:,} minutes, {part.asked:,} asked, {len(part.differences)} differences")
    total.seconds = time.monotonic() - begun
    return total


def main() -> int:
    """Run and report; with two arguments the part of one time zone."""
    if len(sys.argv) == 3:
        sys.stdout.write(json.dumps(vars(ours(Path(sys.argv[1]), sys.argv[2] == "every"))) + "\n")
        return 0
    every = size(0, "EVERY") == 1
    outcome = run(every)
    for each in outcome.differences[:10]:
        progress(each)
    finish(
        "calendar", "Every minute of 2015 to 2026 in two independent calendars",
        {
            "minutes": outcome.minutes, "differences": len(outcome.differences), "host_time_zones": len(ZONES),
            "sessions": outcome.sessions, "early_closes": outcome.early_closes, "open_minutes": outcome.open_minutes,
            "asked_of_at": outcome.asked, "seconds": round(outcome.seconds, 1),
        },
        {},
        (
            f"`minutes` are all minutes of New York's days from {FIRST} to {LAST}, once a host time zone: `TZ` UTC, Asia/Tokyo, "
            "America/New_York and empty. Ours is built anew in a process for each, read back from its cache, and compared as whole "
            "sessions; `asked_of_at` of the minutes were asked of `TradingCalendar.at` one by one. They are all there are: no bound stands "
            "beside the 0.",
            f"The other calendar is the NYSE class of pandas_market_calendars {independent()[1]} (`{INDEPENDENT}`), whose rules and lists "
            "of days are its own and not those of exchange_calendars, from which ours is made. Both have the unscheduled closures of "
            f"{' and '.join(str(day) for day in UNSCHEDULED)} (NYSE notices) and every close at 13:00. What both do not have is what NYSE "
            "had not announced when they were released.",
        ),
        command="make calendar-check",
    )
    return 1 if outcome.differences else 0


if __name__ == "__main__":
    raise SystemExit(main())
