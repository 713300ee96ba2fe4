"""The market clocks (D28): real time, time stepped by hand, and a replay that several processes share.

A replay is a pure function of a small file and the machine's monotonic clock, so all processes that read the file agree
and none can go back. It runs only while somebody keeps it running: `keep` lets it go on for KEPT_SECONDS at a time, so that
after a kill, a reboot or a clean `pause` it stands still until the next `keep`, and the time between does not count; after a power
cut it stands where it was allowed to go, up to KEPT_SECONDS ahead of where it was. A daily replay has two gates a session: at a
closed one it runs in real time instead of leaping ahead, and one of minutes does for as long as it is told to; what is waited for is
its keeper's business. Host time zone and wall clock steps change nothing here, except for the SystemClock, which waits out a step back.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from pydantic import ValidationError

from trading_pipeline.adapters.daily_replay import Linger, daily_instant, gate_ns, no_sessions, slot_at
from trading_pipeline.adapters.durable_files import storage_errors, write_atomically
from trading_pipeline.adapters.replay_file import (
    Pace,
    Progress,
    ReplayFile,
    aware,
    first_closed,
    locked,
    next_closed,
    progress_of,
    read_file,
)
from trading_pipeline.domain.events import instant_text
from trading_pipeline.domain.sessions import NEW_YORK, Session, TradingCalendar
from trading_pipeline.errors import Conflict, InputError, StorageError
from trading_pipeline.ports import Clock

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


def real_seconds_left(clock: Clock, until: datetime, patience: float) -> float | None:
    """Real seconds that a person has before a replay shows an instant, at the least.

    Args:
        clock: Any market clock.
        until: Such as when a proposal expires, within the present session.
        patience: The setting `market.decision_seconds`.

    Returns:
        None when market time says it already: the clock is no replay, or stands still.
    """
    return clock.real_seconds_until(until, patience) if isinstance(clock, ReplayClock) and clock.runs else None


def market_pace(clock: Clock) -> float:
    """Market seconds a real second: 1 unless a replay runs at another speed, 0 while one stands still or is at its end.

    A daily replay counts as real time, as it runs while it waits for a session's work; its leaps are no time that anybody had. One of
    minutes counts at its speed also while it takes its time for a person.
    """
    if not isinstance(clock, ReplayClock):
        return 1.0
    if not clock.runs or clock.now() >= clock.end:
        return 0.0
    return clock.speed if clock.pace is Pace.INTRADAY else 1.0


class SteppedClock:
    """Time that moves when told to: demo, tests, backtests."""

    def __init__(self, start: datetime) -> None:
        self._now = aware(start)

    def now(self) -> datetime:
        """The instant it was moved to last."""
        return self._now

    def advance_to(self, instant: datetime) -> None:
        """Move on, or stay.

        Raises:
            Conflict: The instant is in the past.
        """
        if aware(instant) < self._now:
            raise Conflict(
                f"The clock stands at {instant_text(self._now)} and cannot go back to {instant_text(instant)}.", value=instant,
                rule="the market clock never goes back", remedy="start a new replay for an earlier instant",
            )
        self._now = instant.astimezone(UTC)


@cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import psutil

        return f"booted-{psutil.boot_time():.0f}"


@dataclass(frozen=True, slots=True)
class Gate:
    """A closed gate at which a daily replay runs in real time: before the sweep to the close, or at the close."""

    session: Session
    closing: bool
    number: int


@dataclass(frozen=True, slots=True)
class Ticks:
    """The machine's clock: monotonic nanoseconds within a boot, and the boot's name. Tests hand in their own."""

    monotonic_ns: Callable[[], int] = time.monotonic_ns
    boot_id: Callable[[], str] = _boot_id


class ReplayClock:
    """History run again, shared through `clock.json` by all processes of a home."""

    def __init__(self, path: Path, file: ReplayFile, sessions: Sequence[Session], ticks: Ticks) -> None:
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
            file = ReplayFile(
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
        with locked(path):
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
        file = read_file(path)
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
        self._latest = max(self._latest, self._instant(self._progress()))
        return self._latest

    @property
    def runs(self) -> bool:
        """Whether somebody keeps it running at this moment."""
        file = self._current()
        return file.boot_id == self._ticks.boot_id() and self._ticks.monotonic_ns() < file.kept_until_ns

    @property
    def gate(self) -> Gate | None:
        """The closed gate at which it is now."""
        file = self._current()
        if file.gate is None or file.gate // 2 >= len(self._sessions) or not self._progress().at_gate:
            return None
        return Gate(self._sessions[file.gate // 2], file.gate % 2 == 1, file.gate)

    def real_seconds_until(self, instant: datetime, patience: float) -> float:
        """Real seconds until it shows an instant of its present session, at the soonest; 0 when it has.

        Args:
            patience: For how many real seconds the keeper of a daily replay waits at the gate before the sweep.
        """
        ahead = max(0.0, (instant - self.now()).total_seconds())
        if self._file.pace is Pace.INTRADAY:
            real = min(ahead, max(0.0, (self._file.real_until_ns - self._ticks.monotonic_ns()) / 1e9))
            return real + (ahead - real) / self._file.speed
        file, progress = self._file, self._progress()
        sweep = 2 * slot_at(progress.elapsed_ns, file.session_seconds)
        until_gate = (gate_ns(sweep, file.session_seconds) - progress.elapsed_ns) / 1e9
        if until_gate < 0 or (until_gate == 0 and not (progress.at_gate and file.gate == sweep)):
            return 0.0  # it sweeps, or the session is over
        waited = progress.lingered_ns / 1e9 if progress.lingered_gate == sweep else 0.0
        return min(ahead, until_gate + (max(0.0, patience - waited) if file.gate is not None else 0.0))

    def keep_minutes(self, wall: datetime) -> None:
        """At real speed: skip less than a minute, so that market minutes end with the wall clock's as live ones do, and schedules fit.

        Args:
            wall: Now, by the wall clock.
        """
        if self._file.pace is Pace.INTRADAY and self._file.speed == 1:
            self._rewrite(lambda _now, until: until, ahead=(wall - self.now()) % timedelta(minutes=1))

    def take_time(self, seconds: float) -> None:
        """Run in real time for so long from now at least, 0 to end that; a replay of minutes that is faster does. Errors as of `keep`."""
        if self._file.pace is Pace.INTRADAY and self._file.speed > 1:
            until = round(seconds * 1e9)
            self._rewrite(lambda _now, kept: kept, real_until=lambda now, before: max(before, now + until) if seconds else 0)

    def keep_gates(self) -> None:
        """Let no gate from here on be passed before `open_gate`; the errors are those of `keep`."""
        if self._file.pace is Pace.DAILY:
            self._rewrite(lambda _now, until: until, first_closed)

    def open_gate(self) -> None:
        """Let it go on to the next gate, if it is at one; the errors are those of `keep`."""
        self._rewrite(lambda _now, until: until, next_closed)

    def keep(self) -> None:
        """Let the replay go on for KEPT_SECONDS more, from where it stands; call it every few seconds.

        Raises:
            StorageError: The file cannot be written; the replay runs on until its time is over.
        """
        self._rewrite(lambda now, _until: now + _KEPT_NS)

    def pause(self) -> None:
        """Stand still from PAUSE_SECONDS on, until the next `keep`; the errors are those of `keep`."""
        self._rewrite(lambda now, until: min(until, now + _PAUSE_NS))

    def _rewrite(
        self, kept_until: Callable[[int, int], int], gate: Callable[[ReplayFile, Progress], int | None] | None = None,
        ahead: timedelta = timedelta(0), real_until: Callable[[int, int], int] | None = None,
    ) -> None:
        with locked(self._path):
            file = read_file(self._path)
            boot, now = self._ticks.boot_id(), self._ticks.monotonic_ns()
            until = kept_until(now, file.kept_until_ns if file.boot_id == boot else now)
            real = file.real_until_ns if file.boot_id == boot else 0
            progress = progress_of(file, boot, now)
            changed = {
                "boot_id": boot, "anchor_ns": now, "kept_until_ns": until,
                "elapsed_ns": progress.elapsed_ns + round(ahead.total_seconds() * 1e9),
                "lingered_gate": progress.lingered_gate, "lingered_ns": progress.lingered_ns,
                "gate": gate(file, progress) if gate is not None else file.gate,
                "real_until_ns": real_until(now, real) if real_until is not None else real,
            }
            self._file = file.model_copy(update=changed)
            self._write()

    def _progress(self) -> Progress:
        return progress_of(self._current(), self._ticks.boot_id(), self._ticks.monotonic_ns())

    def _current(self) -> ReplayFile:
        """The file as it is now; an unreadable one leaves what was read before."""
        with suppress(OSError, StorageError):
            stat = self._path.stat()
            seen = stat.st_mtime_ns, stat.st_ino
            if seen != self._seen:
                self._file, self._seen = read_file(self._path), seen
        return self._file

    def _instant(self, progress: Progress) -> datetime:
        elapsed = timedelta(microseconds=progress.elapsed_ns // 1000)
        if self._file.pace is Pace.DAILY:
            linger = Linger(progress.lingered_gate, timedelta(microseconds=progress.lingered_ns // 1000))
            return min(daily_instant(self._sessions, elapsed, self._file.session_seconds, linger), self._file.end)
        left = self._file.end - self._file.start
        return self._file.end if elapsed >= left / self._file.speed else min(self._file.start + elapsed * self._file.speed, self._file.end)

    def _write(self) -> None:
        with storage_errors("The replay clock", self._path):
            write_atomically(self._path, self._file.model_dump_json(indent=2).encode() + b"\n")


def _sessions(file: ReplayFile, calendar: TradingCalendar) -> tuple[Session, ...]:
    if file.pace is Pace.INTRADAY:
        return ()
    between = calendar.between(file.start.astimezone(NEW_YORK).date(), file.end.astimezone(NEW_YORK).date())
    sessions = tuple(each for each in between if each.close > file.start and each.open < file.end)
    if not sessions:
        raise no_sessions()
    return sessions
