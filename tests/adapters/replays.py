"""Sessions of a replay, and a machine whose clock and boots the test decides."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from trading_pipeline.adapters.clocks import Pace, ReplayClock, Ticks
from trading_pipeline.domain.sessions import Session, TradingCalendar


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# October and November 2012 in New York: two days closed by a hurricane, the end of summer time, an early close.
# Source: https://www.nyse.com/markets/hours-calendars and the exchange's notices of 2012-10-28 and 2012-10-29.
SESSIONS = (
    Session(date(2012, 10, 25), utc("2012-10-25T13:30"), utc("2012-10-25T20:00")),
    Session(date(2012, 10, 26), utc("2012-10-26T13:30"), utc("2012-10-26T20:00")),
    Session(date(2012, 10, 31), utc("2012-10-31T13:30"), utc("2012-10-31T20:00")),
    Session(date(2012, 11, 2), utc("2012-11-02T13:30"), utc("2012-11-02T20:00")),
    Session(date(2012, 11, 5), utc("2012-11-05T14:30"), utc("2012-11-05T21:00")),
    Session(date(2012, 11, 23), utc("2012-11-23T14:30"), utc("2012-11-23T18:00")),
)
CALENDAR = TradingCalendar(SESSIONS)
START, END = SESSIONS[0].open, SESSIONS[-1].close
MICROSECOND = timedelta(microseconds=1)


class Machine:
    """A machine whose clock and boots the test decides."""

    def __init__(self) -> None:
        self.ns, self.boot = 5_000_000_000_000, "first"
        self.ticks = Ticks(lambda: self.ns, lambda: self.boot)

    def run(self, seconds: float, *kept: ReplayClock) -> None:
        """Let real time pass, somebody keeping these replays running if any are given."""
        left = round(seconds * 1e9)
        while left:
            for clock in kept:
                clock.keep()
            step = min(left, 10_000_000_000) if kept else left
            self.ns += step
            left -= step

    def reboot(self) -> None:
        self.ns, self.boot = 7_000_000_000, self.boot + "+"


def create(path: Path, machine: Machine, **values: object) -> ReplayClock:
    given_values = {"market": "samples", "pace": Pace.INTRADAY, "start": START, "end": END} | values
    return ReplayClock.create(path / "clock.json", calendar=CALENDAR, ticks=machine.ticks, **given_values)  # type: ignore[arg-type]


def attach(path: Path, machine: Machine) -> ReplayClock:
    return ReplayClock.attach(path / "clock.json", CALENDAR, machine.ticks)
