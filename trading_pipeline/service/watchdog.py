"""The watchdog: what should have happened by now and has not, in words; raised and cleared in the ledger, once each.

Looking and reporting are apart: whoever looks (a sensor, the supervisor of `trading up`) says what is overdue and what it
could not judge, and the record decides what is news. An alarm ends on evidence, or when nobody expects the thing any more;
not because an observer has only just arrived. Ticks and heartbeats are measured by the wall clock, bars by the market's.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.cycles import bar_cycle
from trading_pipeline.domain.events import Event, EventType, NewEvent, instant_text
from trading_pipeline.domain.portfolio import EXTERNAL
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.sessions import Session
from trading_pipeline.domain.strategies import StrategyState
from trading_pipeline.ports import Reader
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.orders.gaps import TOLD_AFTER, doubts, gaps, shortages
from trading_pipeline.service.steps import spec_of, step_key
from trading_pipeline.service.timetable import newest_cycle, running_intervals

CALENDAR_AHEAD = timedelta(days=30)
"""The least that the trading calendar reaches ahead."""
STREAM = "watchdog"
"""The alarms' own story, so that reading it costs nothing of the rest."""


class Kind(StrEnum):
    """What is watched; the first word of an alarm's name."""

    BARS = "bars"
    TICK = "tick"
    DAEMON = "daemon"
    PAGE = "page"
    CALENDAR = "calendar"
    STOP = "stop"
    """Shares that no stop protects."""
    WATCHDOG = "watchdog"
    """The sensor that watches the others: only the supervisor can say that it has stopped."""


@dataclass(frozen=True, slots=True)
class Beat:
    """Something that happens again and again.

    Args:
        kind: Of what beats, such as ticks.
        what: In words, such as `the sensor bar_close`; its last word ends the alarm's name.
        last: When it did, by the wall clock; None: never.
        due: When the next one was to come after `last`; None when that is not known.
        limit: How late it may be.
        part: Which part of it is the latest, for people.
    """

    kind: Kind
    what: str
    last: datetime | None
    due: datetime | None
    limit: timedelta
    part: str = ""

    @property
    def name(self) -> str:
        """`tick:bar_close`."""
        return f"{self.kind}:{self.what.rpartition(' ')[2]}"


@dataclass(frozen=True, slots=True)
class Symptom:
    """Something overdue. `since` is when it was last there, by the clock it is measured with; `measured` is beyond `limit`."""

    name: str
    since: datetime
    measured: timedelta
    limit: timedelta
    says: str


@dataclass(slots=True)
class Look:
    """What one observer saw: all of some kinds. `undecided` are names that may be overdue, which it cannot tell yet."""

    kinds: frozenset[Kind]
    symptoms: list[Symptom] = field(default_factory=list)
    undecided: set[str] = field(default_factory=set)

    def __or__(self, other: "Look") -> "Look":
        return Look(self.kinds | other.kinds, self.symptoms + other.symptoms, self.undecided | other.undecided)


def heartbeat(daemons: Mapping[str, datetime | None], limit: timedelta) -> Beat:
    """Dagster's daemons as one: they are threads of one process, and the most silent of them speaks for it.

    Args:
        daemons: At least one; the last heartbeat of each, None for never.
        limit: Between two heartbeats.
    """
    part, last = min(daemons.items(), key=lambda item: (item[1] is not None, item[1]))
    return Beat(Kind.DAEMON, "Dagster's daemon", last, last, limit, part)


def look_at_beats(kinds: Collection[Kind], beats: Iterable[Beat], now: datetime, watching_since: datetime) -> Look:
    """Which beats are overdue.

    Args:
        kinds: All beats of these kinds are given.
        now: Wall clock.
        watching_since: Since when this observer has been looking without a pause: what was due before counts from then.
    """
    look = Look(frozenset(kinds))
    for beat in beats:
        due = beat.due or watching_since
        late = now - max(due, watching_since)
        if late > beat.limit:
            whom = f"{beat.what} ({beat.part})" if beat.part else beat.what
            heard = f"nothing of {whom} for {_seconds(now - beat.last)}" if beat.last else f"nothing of {whom} yet"
            says = f"{heard}: it is {_seconds(late)} late, {_seconds(beat.limit)} are allowed"
            look.symptoms.append(Symptom(beat.name, beat.last or watching_since, late, beat.limit, says))
        elif beat.last is None or now - due > beat.limit:
            look.undecided.add(beat.name)
    return look


def look_at_bars(desk: Desk, allowed: timedelta, watching_since: datetime) -> Look:
    """Whether the newest bar of each interval is the one that the calendar expects at this instant of the market clock.

    Only while the session is open and only for intervals that running strategies decide on. A bar is there when its cycle has
    received it; that of one symbol is enough, for a thin symbol does not trade in every minute.

    Args:
        allowed: Market time from a bar's close, or of daily bars from the open that decides on them, until it is overdue.
        watching_since: Market instant from which on this observer has been looking.
    """
    look = Look(frozenset({Kind.BARS}))
    now = desk.now()
    session = desk.calendar.at(now)
    if session is None:
        return look
    for interval in running_intervals(desk):
        last = _last_bar(desk, interval, session)
        if interval.daily and last is not None:
            continue
        limit = allowed if interval.daily else allowed + timedelta(minutes=interval.minutes)
        since = _running_since(desk, interval)
        if since is None:
            continue
        begun = max(session.open, since)
        measured = now - max(last or begun, begun)
        if measured <= limit:
            continue
        name = f"{Kind.BARS}:{interval.value}"
        if now - watching_since <= limit:
            look.undecided.add(name)
            continue
        newest = f"the newest {interval.value} bar closed at {last:%H:%M} UTC" if last else f"no {interval.value} bar of {session.day} yet"
        if last is None and interval.daily:
            newest = f"the daily bar before {session.day} has not come"
        says = f"{newest}: {_seconds(measured)} by the market clock, {_seconds(limit)} are allowed"
        look.symptoms.append(Symptom(name, last or begun, measured, limit, says))
    return look


def look_at_calendar(desk: Desk) -> Look:
    """Whether the trading calendar reaches far enough beyond the market clock; where it ends, every day is closed (invariant 70)."""
    look, horizon = Look(frozenset({Kind.CALENDAR})), desk.calendar.horizon
    since = horizon.close - CALENDAR_AHEAD
    measured = desk.now() - since
    if measured > timedelta(0):
        says = f"the trading calendar ends with {horizon.day}, less than {CALENDAR_AHEAD.days} days ahead: update exchange_calendars"
        look.symptoms.append(Symptom(f"{Kind.CALENDAR}:XNYS", since, measured, timedelta(0), says))
    return look


def look_at_positions(desk: Desk) -> Look:
    """Whether shares that had a stop have been without one that the broker confirms for longer than C12 allows, by the market clock."""
    look, now = Look(frozenset({Kind.STOP})), desk.now()
    naked = [(gap.strategy, gap.symbol, gap.quantity, gap.stop["updated_at"]) for gap in (*gaps(desk.ledger), *doubts(desk.ledger, now))]
    for each in shortages(desk.ledger):
        last = desk.ledger.event(each.since_seq)
        naked.append((EXTERNAL, each.symbol, each.quantity, last.at if last is not None else now))
    for strategy, symbol in sorted({place[:2] for place in naked}):
        mine = [(shares, at) for *place, shares, at in naked if place == [strategy, symbol]]
        name, since = f"{Kind.STOP}:{strategy}/{symbol}", min(at for _, at in mine)
        if now - since <= TOLD_AFTER:
            look.undecided.add(name)
            continue
        whose = "the account" if strategy == EXTERNAL else strategy
        says = f"{sum(shares for shares, _ in mine)} shares of {symbol} held by {whose} have no stop that the broker confirms"
        look.symptoms.append(Symptom(name, since, now - since, TOLD_AFTER, says))
    return look


def _last_bar(desk: Desk, interval: Interval, session: Session) -> datetime | None:
    """The end of the newest bar that a cycle of the session has received, for any symbol."""
    newest = newest_cycle(desk, interval)
    if newest is None or newest.bar_end is None:
        return None
    cycles = [newest] if interval.daily else [
        bar_cycle(slot, session) for slot in reversed(desk.calendar.slots(session, interval)) if slot.end <= newest.bar_end
    ]
    received = next((cycle.bar_end for cycle in cycles if desk.ledger.event_by_key(step_key(cycle, "bars")) is not None), None)
    if received is None:
        return None
    held = desk.archive.read_many(_symbols(desk, interval), interval, until=received, count=1)
    ends = [table.last_end for table in held.values() if len(table)]
    wanted = received if interval.daily else session.open
    return max((end for end in ends if end >= wanted), default=None)


def _running(desk: Desk, interval: Interval) -> list[Row]:
    rows = desk.ledger.find("strategies", state=StrategyState.RUNNING.value)
    return [row for row in rows if spec_of(row).interval is interval]


def _symbols(desk: Desk, interval: Interval) -> list[str]:
    return sorted({symbol for row in _running(desk, interval) for symbol in spec_of(row).symbols})


def _running_since(desk: Desk, interval: Interval) -> datetime | None:
    """Since when the first of them runs; None where the last has been paused in the meantime."""
    since: list[datetime] = [row["state_since"] for row in _running(desk, interval)]
    return min(since, default=None)


class Alarms:
    """Which alarms are open; follows the record, and reads each of its facts once."""

    def __init__(self) -> None:
        self._after = 0
        self._open: dict[str, Event] = {}
        self._raised: Counter[str] = Counter()

    def read(self, reader: Reader) -> dict[str, Event]:
        """The facts that raised the alarms now open, by name, the oldest first."""
        for event in reader.events(after=self._after, stream=STREAM):
            self._after = event.seq
            name = event.payload["name"]
            if event.type is EventType.WATCHDOG_ALARM:
                self._open[name] = event
                self._raised[name] += 1
            else:
                self._open.pop(name, None)
        return dict(self._open)

    def number(self, name: str) -> int:
        """How often this one has been raised."""
        return self._raised[name]


def report(desk: Desk, alarms: Alarms, look: Look, seen_by: str) -> list[Event]:
    """Write down what has begun and what has ended since anybody looked; the new facts, none when there is no news.

    Args:
        alarms: Of the observer, on this desk's ledger.
        look: What it saw.
        seen_by: Who it is: `sensor`, `supervisor`.
    """
    if not _news(alarms.read(desk.ledger), look):
        return []
    with desk.ledger.transaction() as tx:
        begun, ended = _news(alarms.read(tx), look) or ([], [])
        events = [_alarm(desk, symptom, alarms.number(symptom.name) + 1, seen_by) for symptom in begun]
        events += [_cleared(desk, raised, alarms.number(raised.payload["name"]), seen_by) for raised in ended]
        return [event for event in tx.append(*events) if tx.is_new(event)]


def open_alarms(desk: Desk) -> list[dict[str, Any]]:
    """The alarms that are open, for people: name, words, when it was noticed by the market clock."""
    return [
        {"name": name, "says": raised.payload["reason"], "since": raised.payload["since"], "noticed": instant_text(raised.at)}
        for name, raised in Alarms().read(desk.ledger).items()
    ]


def _news(open_: dict[str, Event], look: Look) -> tuple[list[Symptom], list[Event]] | None:
    seen = {symptom.name for symptom in look.symptoms} | look.undecided
    begun = [symptom for symptom in look.symptoms if symptom.name not in open_]
    ended = [raised for name, raised in open_.items() if Kind(name.partition(":")[0]) in look.kinds and name not in seen]
    return (begun, ended) if begun or ended else None


def _alarm(desk: Desk, symptom: Symptom, number: int, seen_by: str) -> NewEvent:
    payload = {
        "name": symptom.name, "reason": symptom.says, "since": symptom.since, "measured_seconds": round(symptom.measured.total_seconds()),
        "limit_seconds": round(symptom.limit.total_seconds()), "seen_by": seen_by,
    }
    return NewEvent(EventType.WATCHDOG_ALARM, STREAM, f"watchdog.alarm:{symptom.name}:{number}", payload, desk.now(), "watchdog")


def _cleared(desk: Desk, raised: Event, number: int, seen_by: str) -> NewEvent:
    name = raised.payload["name"]
    payload = {"name": name, "reason": f"over: {raised.payload['reason']}", "since": raised.payload["since"], "seen_by": seen_by}
    return NewEvent(EventType.WATCHDOG_CLEARED, STREAM, f"watchdog.cleared:{name}:{number}", payload, desk.now(), "watchdog", raised.seq)


def as_message(event: Event, desk: Desk) -> dict[str, Any]:
    """What the notification hook is given: JSON values, no secret among them."""
    state = "alarm" if event.type is EventType.WATCHDOG_ALARM else "cleared"
    about = {"environment": desk.environment, "market": desk.world.value, "seq": event.seq, "at": instant_text(event.at)}
    return {"state": state, **event.payload, **about}


def _seconds(length: timedelta) -> str:
    """`95 s`, `12 min`, `3.5 h`."""
    seconds = length.total_seconds()
    if seconds < 180:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
