"""One turn of the pipeline: which bar close it is about, in which session it runs, and for which actions."""

import base64
import hashlib
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.limits import SIGNAL_TTL
from trading_pipeline.domain.sessions import BarSlot, Session


class CycleKind(StrEnum):
    """What a turn may do."""

    BAR = "bar"
    """A bar closed: all steps, for every strategy that is due."""
    FOLLOW_UP = "follow_up"
    """Approved or released actions, or open orders: only orders, fills and snapshots, for exactly those."""
    BACKFILL = "backfill"
    """A past session, again: bars, indicators and charts; decisions are recorded as missed (A7)."""


@dataclass(frozen=True, slots=True)
class Cycle:
    """A turn. `session` is the one in which it runs (the partition); `due_at` is when it should begin."""

    cycle_id: str
    kind: CycleKind
    session: date
    due_at: datetime
    interval: Interval | None = None
    bar_end: datetime | None = None
    actions: tuple[str, ...] = ()

    def stale_at(self) -> datetime:
        """From when on its signals are too old to act on: two bars, ten minutes at most (D20, D27)."""
        if self.interval is None or self.interval.daily:
            return self.due_at + SIGNAL_TTL
        return self.due_at + min(SIGNAL_TTL, 2 * (SIGNAL_TTL / 10) * self.interval.minutes)


def bar_cycle(slot: BarSlot, runs_in: Session) -> Cycle:
    """The turn of one closed bar: intraday at its end, daily at the open of the next session (D27)."""
    due_at = runs_in.open if slot.interval.daily else slot.end
    cycle_id = f"{slot.interval.value}@{slot.end:%Y-%m-%dT%H:%MZ}"
    return Cycle(cycle_id, CycleKind.BAR, runs_in.day, due_at, slot.interval, slot.end)


def follow_up(actions: tuple[str, ...], session: date, at: datetime, what: str) -> Cycle:
    """A turn for exactly these actions, or for the open orders as of `at` when there are none."""
    name = "+".join(actions) if len(actions) <= 4 else f"{len(actions)}:{_digest(*actions)}"
    return Cycle(f"{what}@{at:%Y-%m-%dT%H:%M:%S.%fZ}" + (f"/{name}" if name else ""), CycleKind.FOLLOW_UP, session, at, actions=actions)


def backfill(slot: BarSlot, partition: Session, attempt: str) -> Cycle:
    """A past partition's data again: the session's own intraday bars, or the daily bar it was decided on; `attempt` tells them apart."""
    cycle_id = f"backfill:{slot.interval.value}@{partition.day}#{attempt}"
    return Cycle(cycle_id, CycleKind.BACKFILL, partition.day, partition.close, slot.interval, slot.end)


def action_id(strategy: str, cycle_id: str, symbol: str) -> str:
    """Twelve characters A-Z2-7: the same decision always has the same name."""
    return _digest(strategy, cycle_id, symbol)


def _digest(*parts: str) -> str:
    # Ten bytes make sixteen letters: to encode the others as well would take most of the time.
    return base64.b32encode(hashlib.sha256("\x1f".join(parts).encode()).digest()[:10]).decode()[:12]
