"""The pace of a daily replay: what the market shows after so much real time, one session in every slot of it.

Two gates divide a slot, numbered through from 0: the even ones before the sweep to the close, the odd ones at the close. At a
closed gate the market runs on in real time, which `Linger` counts; what opens it is not known here. Pure functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from math import ceil

from trading_pipeline.domain.sessions import Session
from trading_pipeline.errors import CalendarError

REGULAR_SHARE = Fraction(8, 10)
SWEEP_SHARE = Fraction(9, 10)
"""Of a daily slot: until the first the clock runs in real time, until the second it sweeps to the close, then to the next open."""


@dataclass(frozen=True, slots=True)
class Linger:
    """Real time that a daily replay spent at a gate beside its slots: `gate` counts them, two a session, from 0."""

    gate: int = -1
    span: timedelta = timedelta(0)

    def at(self, gate: int) -> timedelta:
        """What was spent at this one."""
        return self.span if gate == self.gate else timedelta(0)


NO_LINGER = Linger()


def daily_instant(sessions: Sequence[Session], elapsed: timedelta, session_seconds: float, linger: Linger = NO_LINGER) -> datetime:
    """The market's instant of a daily replay, one session in every `session_seconds` of real time.

    Of each slot the first 80 % run in real time from the open (at most until the close), the next 10 % sweep to the close, the last
    10 % from there to just before the next open. After the last session it stays at its close.

    Args:
        sessions: In order; the first begins at `elapsed` 0.
        elapsed: Real time since the replay began without what it lingered, not negative.
        session_seconds: Real seconds a session, above zero.
        linger: Real time at the newest gate, by which the market is further: the sweep to the close or to the next open is shorter.
    """
    if not sessions:
        raise no_sessions()
    slot_length = Fraction(session_seconds)
    passed = Fraction(elapsed // timedelta(microseconds=1), 1_000_000)
    index = int(passed // slot_length)
    if index >= len(sessions):
        return sessions[-1].close
    session = sessions[index]
    into = passed - index * slot_length
    until = min(session.open + _span(REGULAR_SHARE * slot_length) + linger.at(2 * index), session.close)
    if into < REGULAR_SHARE * slot_length:
        return min(session.open + _span(into), session.close)
    if into < SWEEP_SHARE * slot_length:
        part = (into / slot_length - REGULAR_SHARE) / (SWEEP_SHARE - REGULAR_SHARE)
        return until + _part(session.close - until, part)
    if index + 1 == len(sessions):
        return session.close
    part = (into / slot_length - SWEEP_SHARE) / (1 - SWEEP_SHARE)
    last = sessions[index + 1].open - timedelta(microseconds=1)
    closed = min(session.close + linger.at(2 * index + 1), last)
    return closed + _part(last - closed, part)


def slot_at(elapsed_ns: int, session_seconds: float) -> int:
    """Which slot it is after so much real time, from 0."""
    return int(Fraction(elapsed_ns) / (Fraction(session_seconds) * 1_000_000_000))


def gate_ns(gate: int, session_seconds: float) -> int:
    """When a gate comes, real nanoseconds since the replay began: whole microseconds, not before the share it stands for."""
    share = (REGULAR_SHARE, SWEEP_SHARE)[gate % 2]
    return ceil((gate // 2 + share) * Fraction(session_seconds) * 1_000_000) * 1000


def no_sessions() -> CalendarError:
    """A daily replay without a session to visit."""
    return CalendarError(
        "There is no session to replay.", rule="a daily replay visits sessions of the exchange",
        remedy="choose a start and an end with sessions between them",
    )


def _part(span: timedelta, part: Fraction) -> timedelta:
    return timedelta(microseconds=int(Fraction(span // timedelta(microseconds=1)) * part))


def _span(seconds: Fraction) -> timedelta:
    return timedelta(microseconds=int(seconds * 1_000_000))
