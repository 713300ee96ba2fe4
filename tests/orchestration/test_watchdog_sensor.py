"""The watchdog in Dagster: what the sensor sees, what the checks show without a run, whom it tells."""

import json
import sys
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._daemon.types import DaemonHeartbeat

from tests.desks import at, bars, floor, market, strategy
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType
from trading_pipeline.service.watchdog import open_alarms

E = EventType
CHECKS = {"bars_are_on_time", "schedules_and_sensors_tick", "positions_are_protected", "daemons_are_alive"}
NOW = datetime(2026, 1, 5, 15, 0, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def storage():
    """An instance with a schedule storage, which one in memory has not."""
    with dg.instance_for_test() as instance:
        yield instance


@pytest.fixture
def instance(storage):
    storage.wipe_all_schedules()
    storage.wipe_daemon_heartbeats()
    return storage


@pytest.fixture
def stage(tmp_path):
    source = market(bars(interval=Interval.MIN5, first=date(2024, 8, 27), last=date(2024, 8, 29)))
    return floor(tmp_path, source, at(9, 31), strategy(interval=Interval.MIN5))


class Looker:
    """Lets the sensor look at instants of the wall clock, with what it remembers."""

    def __init__(self, house, stage, monkeypatch):
        self.house, self.stage, self.cursor, self.now = house, stage, None, NOW
        for name in ("bar_close", "watchdog"):
            self.state(InstigatorType.SENSOR, name)
        looker = self

        class Clock(datetime):
            @classmethod
            def now(cls, tz=None):
                return looker.now

        monkeypatch.setattr("sensors.watchdog.datetime", Clock)

    def origin(self, name, place="trading_pipeline"):
        location = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name=place), location_name=place)
        return RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "__repository__"), name)

    def state(self, kind, name, last=None, status=InstigatorStatus.DECLARED_IN_CODE, place="trading_pipeline"):
        seconds = (last or self.now).timestamp()
        data = (
            SensorInstigatorData(last_tick_timestamp=seconds, last_tick_start_timestamp=seconds)
            if kind is InstigatorType.SENSOR else ScheduleInstigatorData("* * * * *", seconds)
        )
        state = InstigatorState(self.origin(name, place), kind, status, data)
        known = self.house.instance.get_instigator_state(state.instigator_origin_id, state.selector_id)
        (self.house.instance.update_instigator_state if known else self.house.instance.add_instigator_state)(state)
        return state

    def heartbeat(self, at):
        for name in self.house.instance.get_required_daemon_types():
            self.house.instance.add_daemon_heartbeat(DaemonHeartbeat(at.timestamp(), name, "one", []))

    def look(self, seconds=30.0, *, alive=("bar_close",), beating=True):
        """Let time pass on both clocks, what is alive ticking; what the sensor then answers."""
        self.now += timedelta(seconds=seconds)
        self.stage.go(self.stage.desk.now() + timedelta(seconds=seconds))
        for name in (*alive, "watchdog"):
            self.state(InstigatorType.SENSOR, name)
        if beating:
            self.heartbeat(self.now)
        sensor = self.house.repository.get_sensor_def("watchdog")
        with dg.build_sensor_context(
            instance=self.house.instance, repository_def=self.house.repository, resources={"desk": self.stage.desk}, cursor=self.cursor,
        ) as context:
            found = sensor.evaluate_tick(context)
        self.cursor = found.cursor
        return {event.check_name: event for event in found.asset_events}

    def alarms(self):
        return [alarm["name"] for alarm in open_alarms(self.stage.desk)]


@pytest.fixture
def looker(house, stage, monkeypatch, tmp_path):
    monkeypatch.setenv("TRADING_HOME", str(tmp_path))
    return Looker(house, stage, monkeypatch)


def test_all_is_well_and_the_checks_say_so_once(looker):
    shown = looker.look()
    assert {name: check.passed for name, check in shown.items()} == dict.fromkeys(CHECKS, True)
    assert looker.look() == {}
    for _ in range(29):
        seen = looker.look()
        if looker.stage.desk.now() >= at(9, 35):
            looker.stage.cycle(Interval.MIN5)
    assert set(seen) == CHECKS, "after a quarter of an hour the same again, so that its time moves"
    assert looker.alarms() == []


def test_a_sensor_that_stops_ticking_is_an_alarm_and_its_next_tick_the_end(looker):
    looker.look()
    for _ in range(2):
        looker.look(alive=())
        assert looker.alarms() == []
    shown = looker.look(alive=())
    assert looker.alarms() == ["tick:bar_close"]
    assert not shown["schedules_and_sensors_tick"].passed
    assert "nothing of the sensor bar_close for 90 s" in shown["schedules_and_sensors_tick"].description
    assert looker.look()["schedules_and_sensors_tick"].passed
    assert [event.type for event in looker.stage.events(E.WATCHDOG_ALARM, E.WATCHDOG_CLEARED)] == [E.WATCHDOG_ALARM, E.WATCHDOG_CLEARED]


def test_a_sensor_that_is_switched_off_or_of_an_earlier_code_location_is_not_expected(looker):
    looker.state(InstigatorType.SENSOR, "orders", NOW - timedelta(hours=1), InstigatorStatus.STOPPED)
    looker.state(InstigatorType.SENSOR, "approvals", NOW - timedelta(days=9), place="elsewhere")
    for _ in range(5):
        looker.look()
    assert looker.alarms() == []


@pytest.mark.parametrize(("name", "overdue_after"), [("bar_close_by_the_minute", 4), ("retention_nightly", None)])
def test_a_schedule_is_overdue_a_minute_after_its_time(looker, name, overdue_after):
    state = looker.state(InstigatorType.SCHEDULE, name)
    looker.house.instance.create_tick(
        TickData(
            state.instigator_origin_id, name, InstigatorType.SCHEDULE, TickStatus.SKIPPED, NOW.timestamp() - 30,
            selector_id=state.selector_id,
        )
    )
    seen = []
    for number in range(6):
        looker.look()
        seen += [number] if looker.alarms() else []
    assert seen == ([] if overdue_after is None else list(range(overdue_after - 1, 6)))


def test_bars_that_do_not_come_are_an_alarm_in_market_hours(looker):
    for _ in range(13):
        looker.look()
    assert looker.alarms() == [], "the strategy has run, and somebody has looked, for six minutes"
    looker.look()
    assert looker.alarms() == ["bars:5min"]
    looker.stage.cycle(Interval.MIN5)
    assert looker.look()["bars_are_on_time"].passed


def test_a_daemon_without_heartbeat_is_an_alarm(looker):
    looker.look()
    for _ in range(4):
        shown = looker.look(beating=False)
    assert not shown["daemons_are_alive"].passed
    assert looker.alarms() == ["daemon:daemon"]


@pytest.mark.parametrize("seconds", [65, 3600], ids=["the daemon stood", "the machine slept"])
def test_after_a_sleep_nothing_is_overdue_before_it_had_time_to_come(looker, seconds):
    looker.look()
    looker.look(seconds, alive=(), beating=False)
    assert looker.alarms() == []
    looker.look(alive=(), beating=False)
    looker.look(alive=(), beating=False)
    looker.look(alive=(), beating=False)
    assert "tick:bar_close" in looker.alarms()


def test_the_program_that_the_settings_name_is_told(looker, tmp_path, monkeypatch):
    told = tmp_path / "told"
    program = f"import sys; open({str(told)!r}, 'a').write(sys.stdin.read())"
    monkeypatch.setenv("TRADING_ALERT_COMMAND", json.dumps([sys.executable, "-c", program]))
    looker.look()
    for alive in ((), (), (), ("bar_close",)):
        looker.look(alive=alive)
    messages = [json.loads(line) for line in told.read_text().splitlines()]
    assert [(message["state"], message["name"]) for message in messages] == [("alarm", "tick:bar_close"), ("cleared", "tick:bar_close")]


def test_a_cycle_does_not_run_the_watchdogs_checks(house, stage):
    """What the watchdog knows is no business of a run, and reading it would cost every cycle."""
    stage.go(at(9, 35, 1))
    [result] = house.tick_and_launch("bar_close", "cycle", stage)
    assert {event.check_name for event in result.get_asset_check_evaluations()} >= {"bars_are_sane", "ledger_verifies"}
    assert not CHECKS & {event.check_name for event in result.get_asset_check_evaluations()}
