"""One partition a trading session, and which cycle a run is about.

Symbols, strategies and minutes are rows in the archive and the ledger, not partitions; a session is
materialised again at each of its bars.
"""

from datetime import date, datetime, timedelta
from pathlib import Path

import dagster as dg

from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.cycles import Cycle, CycleKind, backfill
from trading_pipeline.domain.events import instant_from, instant_text
from trading_pipeline.domain.sessions import NEW_YORK
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.steps import LIVE_STATES, spec_of
from trading_pipeline.settings import Settings

FIRST_SESSION = date(2000, 1, 3)


def _sessions() -> dg.TimeWindowPartitionsDefinition:
    calendar = load_calendar(_cache())
    open_days = {session.day for session in calendar.between(FIRST_SESSION, calendar.horizon.day)}
    days = (calendar.horizon.day - FIRST_SESSION).days + 1
    every = (FIRST_SESSION + timedelta(days=n) for n in range(days))
    closed = [datetime(day.year, day.month, day.day, tzinfo=NEW_YORK) for day in every if day.weekday() < 5 and day not in open_days]
    return dg.TimeWindowPartitionsDefinition(
        start=FIRST_SESSION.isoformat(), cron_schedule="0 0 * * 1-5", fmt="%Y-%m-%d", timezone="America/New_York", end_offset=1,
        exclusions=closed,
    )


def _cache() -> Path:
    return Settings.load().home / "cache"


SESSIONS = _sessions()
"""Every XNYS session since 2000, today's included."""


def tags_of(cycle: Cycle) -> dict[str, str]:
    """A cycle as run tags: what a run is about can be read, searched and run again in the UI."""
    tags = {
        "trading/cycle": cycle.cycle_id, "trading/kind": cycle.kind.value, "trading/session": cycle.session.isoformat(),
        "trading/due_at": instant_text(cycle.due_at), "dagster/max_retries": "0",
        "dagster/priority": "10" if cycle.kind is CycleKind.BAR else "5",
    }
    if cycle.interval is not None:
        tags["trading/interval"] = cycle.interval.value
    if cycle.bar_end is not None:
        tags["trading/bar_end"] = instant_text(cycle.bar_end)
    if cycle.actions:
        tags["trading/actions"] = ",".join(cycle.actions)
    return tags


def cycles_of(desk: Desk, tags: dict[str, str], partitions: list[str]) -> list[Cycle]:
    """The cycle that a run's tags name, or the backfill of the given partitions: without tags nothing may trade."""
    if "trading/cycle" in tags:
        interval, bar_end = tags.get("trading/interval"), tags.get("trading/bar_end")
        return [
            Cycle(
                tags["trading/cycle"], CycleKind(tags["trading/kind"]), date.fromisoformat(tags["trading/session"]),
                instant_from(tags["trading/due_at"]), Interval(interval) if interval else None, instant_from(bar_end) if bar_end else None,
                tuple(filter(None, tags.get("trading/actions", "").split(","))),
            )
        ]
    specs = (spec_of(row) for row in desk.ledger.find("strategies", state=LIVE_STATES))
    intervals = sorted({spec.interval for spec in specs}, key=lambda interval: interval.minutes)
    cycles = []
    for key in partitions:
        session = desk.calendar.session(date.fromisoformat(key))
        for interval in intervals:
            of = desk.calendar.previous(session.day) if interval.daily else session
            cycles.append(backfill(desk.calendar.slots(of, interval)[-1], session))
    return cycles
