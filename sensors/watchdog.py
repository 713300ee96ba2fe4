"""The watchdog in Dagster: every 30 s it looks, the ledger gets the news, and three checks show what is open.

The checks are kept up to date without a run: the sensor reports evaluations, when one changes and now and then otherwise, since
runless events are never purged. They belong to an asset that nothing materialises: Dagster shows a check of a materialised asset as
not evaluated from each new bar on. A dead daemon runs no sensor: the supervisor of `trading up` watches for that.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorState, InstigatorType, SensorInstigatorData
from dagster._utils.schedules import schedule_execution_time_iterator

from trading_pipeline.adapters.alert_command import alert_all
from trading_pipeline.adapters.clocks import market_pace
from trading_pipeline.domain.events import instant_from, instant_text
from trading_pipeline.ports import Ledger
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.watchdog import (
    Alarms,
    Beat,
    Kind,
    Look,
    as_message,
    heartbeat,
    look_at_bars,
    look_at_beats,
    look_at_calendar,
    look_at_positions,
    report,
)
from trading_pipeline.settings import Settings, WatchdogSettings

CHECKS = {
    "bars_are_on_time": (
        frozenset({Kind.BARS, Kind.CALENDAR}),
        "The newest bar is the one the calendar expects at this instant of the market clock, and the calendar reaches on.",
    ),
    "schedules_and_sensors_tick": (
        frozenset({Kind.TICK, Kind.WATCHDOG}), "Every schedule and sensor that is switched on has ticked when it should.",
    ),
    "positions_are_protected": (
        frozenset({Kind.STOP}),
        "Whatever had a stop has one that the broker confirms, or an exit at work. What an emergency stop has left: `trading stop review`.",
    ),
    "daemons_are_alive": (frozenset({Kind.DAEMON, Kind.PAGE}), "Dagster's daemons send heartbeats, and its page answers."),
}
REPEAT_SECONDS = 900.0
"""A check that has not changed is evaluated anew after so long, so that its time in the page shows that somebody looks."""
PAUSE_SECONDS = 45.0
"""A longer time between two looks was a sleep or a daemon that stood, and the others wake beside us: what is overdue counts anew."""
SENSOR_LOOP_SECONDS = 5.0

WATCHED = dg.AssetSpec(
    "watchdog", group_name="watchdog", owners=["team:desk"],
    description="What should be there by now: bars, ticks, heartbeats, stops. Its checks fail while an alarm is open.",
)


@dataclass(slots=True)
class _Memory:
    """What one look leaves to the next, in the sensor's cursor. Seconds are since the epoch."""

    looked: float = 0.0
    wall: float = 0.0
    """Since when somebody has looked without a pause."""
    market: str = ""
    """The market's instant at that time."""
    shown: dict[str, list[Any]] = field(default_factory=dict)
    """By check: what it said and when."""


@dg.sensor(minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def watchdog(context: dg.SensorEvaluationContext, desk: dg.ResourceParam[Desk]) -> dg.SensorResult:
    """Look at ticks, heartbeats, bars and stops; alarms and their end are facts, and go to `alert_command`."""
    settings, now = Settings.load(), datetime.now(UTC)
    memory = _Memory(**json.loads(context.cursor)) if context.cursor else _Memory()
    if not 0 <= now.timestamp() - memory.looked <= PAUSE_SECONDS or instant_from(memory.market) > desk.now():
        memory.wall, memory.market = now.timestamp(), instant_text(desk.now())
    memory.looked = now.timestamp()
    repository = context.repository_def
    assert repository is not None
    look = _look(context.instance, repository, desk, settings.watchdog, now, memory)
    alarms = _alarms(desk.ledger)
    news = report(desk, alarms, look, "sensor")
    for event in news:
        context.log.info(f"{event.type.value}: {event.payload['reason']}")
    for trouble in alert_all(settings.alert_command, (as_message(event, desk) for event in news)):
        context.log.warning(trouble)
    evaluations = []
    for evaluation in _evaluations(alarms, desk):
        said = [evaluation.passed, sorted(evaluation.metadata)]
        before = memory.shown.get(evaluation.check_name)
        if before is None or before[0] != said or memory.looked - before[1] >= REPEAT_SECONDS:
            memory.shown[evaluation.check_name] = [said, memory.looked]
            evaluations.append(evaluation)
    open_ = len(alarms.read(desk.ledger))
    return dg.SensorResult(asset_events=evaluations, skip_reason=f"{open_} alarms are open", cursor=json.dumps(asdict(memory)))


@dg.multi_asset_check(
    name="watchdog_checks",
    specs=[dg.AssetCheckSpec(name, asset=WATCHED.key, description=description) for name, (_, description) in CHECKS.items()],
)
def watchdog_checks(desk: dg.ResourceParam[Desk]) -> Iterator[dg.AssetCheckResult]:
    """The alarms that are open now; the sensor keeps the checks up to date, nobody needs to run them."""
    for each in _evaluations(Alarms(), desk):
        yield dg.AssetCheckResult(
            asset_key=each.asset_key, check_name=each.check_name, passed=each.passed, metadata=each.metadata, description=each.description,
        )


def _evaluations(alarms: Alarms, desk: Desk) -> list[dg.AssetCheckEvaluation]:
    """One of each check, by the alarms that are open."""
    open_ = alarms.read(desk.ledger)
    found = []
    for name, (kinds, _) in CHECKS.items():
        faults = {alarm: raised for alarm, raised in open_.items() if Kind(alarm.partition(":")[0]) in kinds}
        found.append(
            dg.AssetCheckEvaluation(
                asset_key=WATCHED.key, check_name=name, passed=not faults, severity=dg.AssetCheckSeverity.ERROR,
                description="; ".join(raised.payload["reason"] for raised in faults.values()) or "as it should be",
                metadata={alarm: dg.MetadataValue.text(f"since {raised.payload['since']}") for alarm, raised in faults.items()},
            )
        )
    return found


def _look(
    instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, desk: Desk, allowed: WatchdogSettings, now: datetime,
    memory: _Memory,
) -> Look:
    since = datetime.fromtimestamp(memory.wall, UTC)
    beats = [*_ticks(instance, repository, timedelta(seconds=allowed.tick_seconds), since)]
    beats += _heartbeats(instance, timedelta(seconds=allowed.heartbeat_seconds))
    look = look_at_beats({Kind.TICK, Kind.DAEMON}, beats, now, since) | look_at_calendar(desk) | look_at_positions(desk)
    pace = market_pace(desk.clock)
    return look | look_at_bars(desk, allowed.bars(pace), instant_from(memory.market)) if pace else look


def _ticks(
    instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, limit: timedelta, watching_since: datetime,
) -> Iterator[Beat]:
    """Every schedule and sensor of this code location that is switched on, but for the one that looks."""
    states = _own(instance.all_instigator_state())
    for sensor in repository.sensor_defs:
        state = states.get((InstigatorType.SENSOR, sensor.name))
        if state is None or not state.is_running or sensor.name == "watchdog":
            continue
        last = _last_start(state)
        interval = max(SENSOR_LOOP_SECONDS, sensor.minimum_interval_seconds or 0)
        due = last + timedelta(seconds=interval) if last is not None else None
        yield Beat(Kind.TICK, f"the sensor {sensor.name}", last, due, limit)
    for schedule in repository.schedule_defs:
        state = states.get((InstigatorType.SCHEDULE, schedule.name))
        if state is None or not state.is_running:
            continue
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
        last = datetime.fromtimestamp(ticks[0].timestamp, UTC) if ticks else None
        after = (last or watching_since).timestamp() + 1
        due = next(schedule_execution_time_iterator(after, schedule.cron_schedule, schedule.execution_timezone))
        yield Beat(Kind.TICK, f"the schedule {schedule.name}", last, due, limit)


def _own(states: Any) -> dict[tuple[InstigatorType, str], InstigatorState]:
    """Those of the code location that runs: an earlier one, under another name or socket, leaves its own behind."""
    ours = [state for state in states if state.name == "watchdog"]
    if not ours:
        return {}
    origin = max(ours, key=lambda state: _last_start(state) or datetime.min.replace(tzinfo=UTC)).repository_origin_id
    return {(state.instigator_type, state.name): state for state in states if state.repository_origin_id == origin}


def _last_start(state: InstigatorState) -> datetime | None:
    data = state.instigator_data
    if not isinstance(data, SensorInstigatorData):
        return None
    seconds = max(data.last_tick_start_timestamp or 0.0, data.last_tick_timestamp or 0.0)
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _heartbeats(instance: dg.DagsterInstance, limit: timedelta) -> list[Beat]:
    heard = {
        name: datetime.fromtimestamp(status.last_heartbeat.timestamp, UTC) if status.last_heartbeat else None
        for name, status in instance.get_daemon_statuses().items() if status.required
    }
    return [heartbeat(heard, limit)] if heard else []


_followed: WeakKeyDictionary[Ledger, Alarms] = WeakKeyDictionary()


def _alarms(ledger: Ledger) -> Alarms:
    """One for each ledger that this process has open, so that its facts are read once."""
    return _followed.setdefault(ledger, Alarms())
