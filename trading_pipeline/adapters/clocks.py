"""The market clocks (D28): real time, time stepped by hand, and a replay that several processes share.

A replay is a pure function of a small file and the machine's monotonic clock, so all processes that read the file agree
and none can go back. It runs only while somebody keeps it running: `keep` lets it go on for KEPT_SECONDS at a time, so that
after a kill, a reboot or a clean `pause` it stands still until the next `keep`, and the time between does not count. Host time
zone and wall clock steps change nothing here, except for the SystemClock, which waits out a step back.
"""

import fcntl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from trading_pipeline.adapters.durable_files import open_lock, storage_errors, write_atomically
from trading_pipeline.domain.events import instant_text
from trading_pipeline.domain.sessions import NEW_YORK, Session, TradingCalendar
from trading_pipeline.errors import CalendarError, Conflict, InputError, StorageError

REGULAR_SHARE = Fraction(8, 10)
SWEEP_SHARE = Fraction(9, 10)
"""Of a daily slot: until the first the clock runs in real time, until the second it sweeps to the close, then to the next open."""

KEPT_SECONDS = 15.0
"""How long a replay goes on after the last `keep`."""
_KEPT_NS = int(KEPT_SECONDS * 1_000_000_000)
PAUSE_SECONDS = 0.25
"""How long a replay goes on after `pause`: every process has read of it by then, so none has told an instant beyond it."""
_PAUSE_NS = int(PAUSE_SECONDS * 1_000_000_000)


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


@cache
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
    """clock.json: when the monotonic clock of boot `boot_id` stood at `anchor_ns`, the replay had run `elapsed_ns` of real time.

    It stands still from `kept_until_ns` on, and during any other boot.
    """

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
    kept_until_ns: int


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
        self._seen = (0, 0)
        self._latest = datetime.min.replace(tzinfo=UTC)
        self._sessions = sessions
        self._ticks = ticks

    @classmethod
    def create(
        cls, path: Path, *, market: str, pace: Pace, start: datetime, end: datetime, calendar: TradingCalendar, speed: float = 1.0,
        session_seconds: float = 30.0, running: bool = True, ticks: Ticks | None = None,
    ) -> "ReplayClock":
        """Begin a replay.

        Args:
            path: The file; its folder is made when absent.
            market: The source that is replayed, for people.
            start: Intraday: the first instant. Daily: the replay begins at the open of the first session that closes after it.
            end: Where the data end: the clock stops there. Daily: sessions that open before it are visited.
            speed: Market seconds a real second, intraday.
            session_seconds: Real seconds a session, daily.
            running: Whether it runs at once; otherwise it stands at its start until the first `keep`.

        Raises:
            Conflict: There is a replay already.
            InputError: A value makes no replay.
            CalendarError: Start or end lie outside the calendar.
            StorageError: The file cannot be written.
        """
        ticks = ticks or Ticks()
        now = ticks.monotonic_ns()
        try:
            file = _File(
                market=market, pace=pace, start=start, end=end, speed=speed, session_seconds=session_seconds, boot_id=ticks.boot_id(),
                anchor_ns=now, elapsed_ns=0, kept_until_ns=now + (_KEPT_NS if running else 0),
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
        """Join the replay of a file, running or not.

        Raises:
            StorageError: The file is absent, unreadable or damaged.
            CalendarError: It replays days that the calendar does not know.
        """
        file = _read(path)
        return cls(path, file, _sessions(file, calendar), ticks or Ticks())

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
        file = self._current()
        self._latest = max(self._latest, self._instant(_elapsed_ns(file, self._ticks.boot_id(), self._ticks.monotonic_ns())))
        return self._latest

    def keep(self) -> None:
        """Let the replay go on for KEPT_SECONDS more, from where it stands; call it every few seconds.

        Raises:
            StorageError: The file cannot be written; the replay runs on until its time is over.
        """
        self._rewrite(lambda now, _until: now + _KEPT_NS)

    def pause(self) -> None:
        """Stand still from PAUSE_SECONDS on, until the next `keep`; the errors are those of `keep`."""
        self._rewrite(lambda now, until: min(until, now + _PAUSE_NS))

    def _rewrite(self, kept_until: Callable[[int, int], int]) -> None:
        with _locked(self._path):
            file = _read(self._path)
            boot, now = self._ticks.boot_id(), self._ticks.monotonic_ns()
            until = kept_until(now, file.kept_until_ns if file.boot_id == boot else now)
            changed = {"boot_id": boot, "anchor_ns": now, "elapsed_ns": _elapsed_ns(file, boot, now), "kept_until_ns": until}
            self._file = file.model_copy(update=changed)
            self._write()

    def _current(self) -> _File:
        """The file as it is now; an unreadable one leaves what was read before."""
        with suppress(OSError, StorageError):
            stat = self._path.stat()
            seen = stat.st_mtime_ns, stat.st_ino
            if seen != self._seen:
                self._file, self._seen = _read(self._path), seen
        return self._file

    def _instant(self, elapsed_ns: int) -> datetime:
        elapsed = timedelta(microseconds=elapsed_ns // 1000)
        if self._file.pace is Pace.DAILY:
            return min(daily_instant(self._sessions, elapsed, self._file.session_seconds), self._file.end)
        left = self._file.end - self._file.start
        return self._file.end if elapsed >= left / self._file.speed else min(self._file.start + elapsed * self._file.speed, self._file.end)

    def _write(self) -> None:
        with storage_errors("The replay clock", self._path):
            write_atomically(self._path, self._file.model_dump_json(indent=2).encode() + b"\n")


def _elapsed_ns(file: _File, boot_id: str, now_ns: int) -> int:
    if file.boot_id != boot_id:
        return file.elapsed_ns
    return file.elapsed_ns + max(0, min(now_ns, file.kept_until_ns) - file.anchor_ns)


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
        lock = open_lock(path.with_suffix(".lock"))
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _part(span: timedelta, part: Fraction) -> timedelta:
    return timedelta(microseconds=int(Fraction(span // timedelta(microseconds=1)) * part))


def _span(seconds: Fraction) -> timedelta:
    return timedelta(microseconds=int(seconds * 1_000_000))
