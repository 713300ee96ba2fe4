"""The market clocks (D28): real time, time stepped by hand, and a replay that several processes share.

A replay is a pure function of a small file and the machine's monotonic clock, so all processes that read the file agree
and none can go back. The monotonic clock begins anew with each boot: after a reboot the replay continues from the last
instant that `checkpoint` wrote, and the time the machine was off does not count. Host time zone and wall clock steps change
nothing here, except for the SystemClock, which waits out a step back.
"""

import fcntl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from trading_pipeline.adapters.durable_files import storage_errors, write_atomically
from trading_pipeline.domain.events import instant_text
from trading_pipeline.domain.sessions import NEW_YORK, Session, TradingCalendar
from trading_pipeline.errors import CalendarError, Conflict, InputError, StorageError

REGULAR_SHARE = Fraction(8, 10)
SWEEP_SHARE = Fraction(9, 10)
"""Of a daily slot: until the first the clock runs in real time, until the second it sweeps to the close, then to the next open."""


class SystemClock:
    """Real time, never going back within the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest = datetime.min.replace(tzinfo=UTC)

    def now(self) -> datetime:
        """The machine's time; while its clock is behind an instant already told, that instant."""
        with self._lock:
            self._latest = max(self._latest, datetime.now(UTC))
            return self._latest


class SteppedClock:
    """Time that moves when told to: demo, tests, backtests."""

    def __init__(self, start: datetime) -> None:
        self._now = _aware(start)

    def now(self) -> datetime:
        """The instant it was moved to last."""
        return self._now

    def advance_to(self, instant: datetime) -> None:
        """Move on, or stay.

        Raises:
            Conflict: The instant is in the past.
        """
        if _aware(instant) < self._now:
            raise Conflict(
                f"The clock stands at {instant_text(self._now)} and cannot go back to {instant_text(instant)}.", value=instant,
                rule="the market clock never goes back", remedy="start a new replay for an earlier instant",
            )
        self._now = instant.astimezone(UTC)


def daily_instant(sessions: Sequence[Session], elapsed: timedelta, session_seconds: float) -> datetime:
    """The market's instant of a daily replay, one session in every `session_seconds` of real time.

    Of each slot the first 80 % run in real time from the open (at most until the close), the next 10 % sweep to the close, the last
    10 % from there to just before the next open. After the last session it stays at its close.

    Args:
        sessions: In order; the first begins at `elapsed` 0.
        elapsed: Real time since the replay began, not negative.
        session_seconds: Real seconds a session, above zero.
    """
    if not sessions:
        raise _no_sessions()
    slot_length = Fraction(session_seconds)
    passed = Fraction(elapsed // timedelta(microseconds=1), 1_000_000)
    index = int(passed // slot_length)
    if index >= len(sessions):
        return sessions[-1].close
    session = sessions[index]
    into = passed - index * slot_length
    until = min(session.open + _span(REGULAR_SHARE * slot_length), session.close)
    if into < REGULAR_SHARE * slot_length:
        return min(session.open + _span(into), session.close)
    if into < SWEEP_SHARE * slot_length:
        part = (into / slot_length - REGULAR_SHARE) / (SWEEP_SHARE - REGULAR_SHARE)
        return until + _part(session.close - until, part)
    if index + 1 == len(sessions):
        return session.close
    part = (into / slot_length - SWEEP_SHARE) / (1 - SWEEP_SHARE)
    gap = sessions[index + 1].open - session.close - timedelta(microseconds=1)
    return session.close + _part(gap, part)


class Pace(StrEnum):
    """How a replay runs."""

    INTRADAY = "intraday"
    """start + speed x real time."""
    DAILY = "daily"
    """One session in every so many seconds, see `daily_instant`."""


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import psutil

        return f"booted-{psutil.boot_time():.0f}"


def _aware(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise InputError(
            f"{instant} has no time zone.", value=instant, rule="instants are aware", remedy="add the offset, such as -04:00 or Z",
        )
    return instant.astimezone(UTC)


Aware = Annotated[datetime, AfterValidator(_aware)]


class _File(BaseModel):
    """clock.json: when the monotonic clock of boot `boot_id` stood at `anchor_ns`, the replay had run `elapsed_ns` of real time."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    version: int = Field(default=1, ge=1, le=1)
    market: str
    pace: Pace
    start: Aware
    end: Aware
    speed: float = Field(gt=0)
    session_seconds: float = Field(gt=0)
    boot_id: str
    anchor_ns: int
    elapsed_ns: int = Field(ge=0)


@dataclass(frozen=True, slots=True)
class Ticks:
    """The machine's clock: monotonic nanoseconds within a boot, and the boot's name. Tests hand in their own."""

    monotonic_ns: Callable[[], int] = time.monotonic_ns
    boot_id: Callable[[], str] = _boot_id


class ReplayClock:
    """History run again, shared through `clock.json` by all processes of a home."""

    def __init__(self, path: Path, file: _File, sessions: Sequence[Session], ticks: Ticks) -> None:
        """Use `create` or `attach`."""
        self._path = path
        self._file = file
        self._sessions = sessions
        self._ticks = ticks

    @classmethod
    def create(
        cls, path: Path, *, market: str, pace: Pace, start: datetime, end: datetime, calendar: TradingCalendar, speed: float = 1.0,
        session_seconds: float = 30.0, ticks: Ticks | None = None,
    ) -> "ReplayClock":
        """Begin a replay.

        Args:
            path: The file; its folder is made when absent.
            market: The source that is replayed, for people.
            start: Intraday: the first instant. Daily: the replay begins at the open of the first session that closes after it.
            end: Where the data end: the clock stops there. Daily: sessions that open before it are visited.
            speed: Market seconds a real second, intraday.
            session_seconds: Real seconds a session, daily.

        Raises:
            Conflict: There is a replay already.
            InputError: A value makes no replay.
            CalendarError: Start or end lie outside the calendar.
            StorageError: The file cannot be written.
        """
        ticks = ticks or Ticks()
        try:
            file = _File(
                market=market, pace=pace, start=start, end=end, speed=speed, session_seconds=session_seconds, boot_id=ticks.boot_id(),
                anchor_ns=ticks.monotonic_ns(), elapsed_ns=0,
            )
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise InputError(
                f"{name} = {first['input']} makes no replay: {first['msg']}.", value=first["input"],
                rule="speed and seconds are finite and above zero", remedy=f"correct {name}",
            ) from None
        if file.end <= file.start:
            raise InputError(
                f"The replay would end at {instant_text(file.end)}, before it starts.", value=file.end,
                rule="a replay lies within its data", remedy=f"start before {instant_text(file.end)}",
            )
        clock = cls(path, file, _sessions(file, calendar), ticks)
        with _locked(path):
            if path.exists():
                raise Conflict(
                    f"A replay runs by {path} already.", value=str(path), rule="the market clock of a home never goes back",
                    remedy="go on with it, or start the new replay in another home",
                )
            clock._write()
        return clock

    @classmethod
    def attach(cls, path: Path, calendar: TradingCalendar, ticks: Ticks | None = None) -> "ReplayClock":
        """Join the replay of a file; the first to do so after a reboot sets it going again.

        Raises:
            StorageError: The file is absent, unreadable or damaged.
            CalendarError: It replays days that the calendar does not know.
        """
        ticks = ticks or Ticks()
        file = _read(path)
        if file.boot_id != ticks.boot_id():
            with _locked(path):
                file = _read(path)
                if file.boot_id != ticks.boot_id():
                    file = file.model_copy(update={"boot_id": ticks.boot_id(), "anchor_ns": ticks.monotonic_ns()})
                    cls(path, file, (), ticks)._write()
        return cls(path, file, _sessions(file, calendar), ticks)

    @property
    def market(self) -> str:
        """The source that is replayed."""
        return self._file.market

    @property
    def pace(self) -> Pace:
        """How it runs."""
        return self._file.pace

    @property
    def speed(self) -> float:
        """Market seconds a real second, intraday."""
        return self._file.speed

    @property
    def session_seconds(self) -> float:
        """Real seconds a session, daily."""
        return self._file.session_seconds

    @property
    def end(self) -> datetime:
        """Where it stops."""
        return self._file.end

    def now(self) -> datetime:
        """The replay's instant."""
        return self._instant(self._elapsed_ns())

    def checkpoint(self) -> None:
        """Write down how far the replay is, so that a reboot takes it up from here; call it every few seconds.

        Raises:
            StorageError: The file cannot be written; the clock runs on.
        """
        with _locked(self._path):
            stored = _read(self._path)
            elapsed = self._elapsed_ns()
            if stored.boot_id == self._file.boot_id and stored.elapsed_ns < elapsed:
                now = self._file.anchor_ns + elapsed - self._file.elapsed_ns
                self._file = self._file.model_copy(update={"anchor_ns": now, "elapsed_ns": elapsed})
                self._write()

    def _elapsed_ns(self) -> int:
        return self._file.elapsed_ns + max(0, self._ticks.monotonic_ns() - self._file.anchor_ns)

    def _instant(self, elapsed_ns: int) -> datetime:
        elapsed = timedelta(microseconds=elapsed_ns // 1000)
        if self._file.pace is Pace.DAILY:
            return min(daily_instant(self._sessions, elapsed, self._file.session_seconds), self._file.end)
        left = self._file.end - self._file.start
        return self._file.end if elapsed >= left / self._file.speed else min(self._file.start + elapsed * self._file.speed, self._file.end)

    def _write(self) -> None:
        with storage_errors("The replay clock", self._path):
            write_atomically(self._path, self._file.model_dump_json(indent=2).encode() + b"\n")


def _sessions(file: _File, calendar: TradingCalendar) -> tuple[Session, ...]:
    if file.pace is Pace.INTRADAY:
        return ()
    between = calendar.between(file.start.astimezone(NEW_YORK).date(), file.end.astimezone(NEW_YORK).date())
    sessions = tuple(each for each in between if each.close > file.start and each.open < file.end)
    if not sessions:
        raise _no_sessions()
    return sessions


def _no_sessions() -> CalendarError:
    return CalendarError(
        "There is no session to replay.", rule="a daily replay visits sessions of the exchange",
        remedy="choose a start and an end with sessions between them",
    )


def _read(path: Path) -> _File:
    with storage_errors("The replay clock", path):
        content = path.read_bytes()
    try:
        return _File.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise StorageError(
            f"The replay clock {path} is damaged: {where}: {first['msg']}.", value=str(path),
            rule="clock.json is written by the replay alone", remedy="restore it from a backup, or start a new replay in another home",
        ) from None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time changes the file."""
    with storage_errors("The replay clock", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("a")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _part(span: timedelta, part: Fraction) -> timedelta:
    return timedelta(microseconds=int(Fraction(span // timedelta(microseconds=1)) * part))


def _span(seconds: Fraction) -> timedelta:
    return timedelta(microseconds=int(seconds * 1_000_000))
