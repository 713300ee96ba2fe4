"""One partition a trading session, and which cycle a run is about.

Symbols, strategies and minutes are rows in the archive and the ledger, not partitions; a session is
materialised again at each of its bars.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

import dagster as dg

from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.domain.codec import decode, encode
from trading_pipeline.domain.cycles import Cycle, CycleKind, backfill, bar_cycle
from trading_pipeline.domain.sessions import NEW_YORK
from trading_pipeline.errors import InputError
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


CYCLE_TAG = "cycle"
_WHOLE_CYCLE_TAG = ".dagster/trading_cycle"
"""The cycle as JSON; Dagster's UI hides tags of this prefix."""


def tags_of(desk: Desk, cycle: Cycle) -> dict[str, str]:
    """A cycle as run tags: what a run is about, and on which market, can be read and searched in the UI."""
    tags = {
        CYCLE_TAG: cycle.cycle_id,
        "market": desk.world.value.upper(),
        _WHOLE_CYCLE_TAG: json.dumps(encode(cycle)),
        "dagster/max_retries": "0",
        "dagster/priority": "10" if cycle.kind is CycleKind.BAR else "5",
    }
    if cycle.actions:
        tags["actions"] = ",".join(cycle.actions)
    return tags


def cycles_of(desk: Desk, tags: Mapping[str, str], partitions: Sequence[str], run_id: str = "") -> list[Cycle]:
    """The cycle that a run's tags name, or the backfill of the given partitions: without tags nothing may trade.

    Args:
        run_id: Tells one backfill of a partition from the next.
    """
    if _WHOLE_CYCLE_TAG in tags:
        return [_believed(desk, decode(Cycle, json.loads(tags[_WHOLE_CYCLE_TAG])))]
    specs = (spec_of(row) for row in desk.ledger.find("strategies", state=LIVE_STATES))
    intervals = sorted({spec.interval for spec in specs}, key=lambda interval: interval.minutes)
    cycles = []
    for key in partitions:
        session = desk.calendar.session(date.fromisoformat(key))
        for interval in intervals:
            of = desk.calendar.previous(session.day) if interval.daily else session
            cycles.append(backfill(desk.calendar.slots(of, interval)[-1], session, run_id[:8]))
    return cycles


def _believed(desk: Desk, cycle: Cycle) -> Cycle:
    """The cycle, if it is one that the timetable makes: tags can be written by whoever reaches Dagster's page.

    Raises:
        InputError: It is no cycle of the calendar, its bar has not closed yet, or it names what it is not.
    """
    if cycle.kind is CycleKind.FOLLOW_UP and cycle.interval is None and cycle.bar_end is None:
        return cycle
    if cycle.kind is CycleKind.BAR and cycle.interval is not None and cycle.bar_end is not None and cycle.bar_end <= desk.now():
        slot = desk.calendar.last_closed_slot(cycle.bar_end, cycle.interval)
        if slot is not None and slot.end == cycle.bar_end:
            made = bar_cycle(slot, desk.calendar.next(slot.session.day) if slot.interval.daily else slot.session)
            if made == cycle:
                return cycle
    raise InputError(
        f"The run names the cycle {cycle.cycle_id!r}, which the timetable does not make.", value=cycle.cycle_id,
        rule="runs that trade are launched by the sensors", remedy="launch it without tags to refill data, or use `trading run`",
    )


def partitions_of(run: dg.DagsterRun) -> list[str]:
    """The partitions of a run, one or a range, from its tags."""
    if "dagster/partition" in run.tags:
        return [run.tags["dagster/partition"]]
    first, last = run.tags.get("dagster/asset_partition_range_start"), run.tags.get("dagster/asset_partition_range_end")
    return list(SESSIONS.get_partition_keys_in_range(dg.PartitionKeyRange(first, last))) if first and last else []
