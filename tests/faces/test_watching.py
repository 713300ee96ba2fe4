"""The supervisor's watchdog: what it says, writes and sends when the daemon, its page or the ledger is what fails."""

import json
import sys
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest

from tests.desks import at, bars, floor, market, strategy
from trading_pipeline.adapters.dagster_page import Heard, SensorHeard
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.events import EventType
from trading_pipeline.errors import LedgerUnavailable
from trading_pipeline.faces.cli.watching import Watcher
from trading_pipeline.service.watchdog import open_alarms
from trading_pipeline.settings import Settings

NOW = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)


class Evening:
    """A watcher with a wall clock, a page that answers what the test says, and a desk whose market is closed."""

    def __init__(self, stage, settings):
        self.stage, self.now, self.said = stage, NOW, []
        self.beat = self.tick = NOW
        self.answers = True
        page = SimpleNamespace(heard=lambda: self.heard())
        self.watcher = Watcher(page, settings, self.said.append, lambda: self.now)

    def heard(self):
        sensors = (SensorHeard("bar_close", 1, NOW - timedelta(days=1)), SensorHeard("watchdog", 30, self.tick))
        return Heard({"SENSOR": self.beat, "SCHEDULER": self.beat}, sensors) if self.answers else None

    def look(self, seconds=15, *, beating=True, ticking=True):
        self.now += timedelta(seconds=seconds)
        self.beat = self.now if beating else self.beat
        self.tick = self.now if beating and ticking else self.tick
        self.watcher.look(self.stage.desk)
        return self.said

    def alarms(self):
        return [alarm["name"] for alarm in open_alarms(self.stage.desk)]


@pytest.fixture
def told(tmp_path):
    return tmp_path / "told"


@pytest.fixture
def evening(tmp_path, told):
    source = market(bars(interval=Interval.MIN5, first=date(2024, 8, 27), last=date(2024, 8, 29)))
    program = f"import sys; open({str(told)!r}, 'a').write(sys.stdin.read())"
    stage = floor(tmp_path, source, at(20), strategy(interval=Interval.MIN5))
    return Evening(stage, Settings(alert_command=(sys.executable, "-c", program)))


def messages(told):
    return [json.loads(line) for line in told.read_text().splitlines()]


def test_a_daemon_that_is_silent_is_said_written_and_sent_once_and_its_return_too(evening, told):
    """85."""
    for _ in range(20):
        evening.look(beating=False)
    assert evening.alarms() == ["daemon:daemon"], "and no sensor: the daemon explains its silence"
    assert len(evening.said) == 1
    assert evening.said[0].startswith("Watchdog daemon:daemon: nothing of Dagster's daemon (SENSOR) for 120 s")
    evening.look()
    assert evening.alarms() == []
    assert evening.said[1].startswith("Watchdog daemon:daemon: over: nothing of Dagster's daemon")
    assert [message["state"] for message in messages(told)] == ["alarm", "cleared"]
    assert [event.payload["seen_by"] for event in evening.stage.events(EventType.WATCHDOG_ALARM)] == ["supervisor"]


def test_a_watchdog_sensor_that_does_not_tick_is_an_alarm_though_daemons_live(evening):
    for _ in range(10):
        evening.look(ticking=False)
    assert evening.alarms() == ["watchdog:watchdog"]


def test_a_page_that_does_not_answer_is_an_alarm_and_decides_nothing_about_daemons(evening):
    for _ in range(8):
        evening.look(beating=False)
    evening.answers = False
    for _ in range(6):
        evening.look(beating=False)
    assert "page:webserver" in evening.alarms()
    assert "daemon:daemon" in evening.alarms()


def test_after_a_sleep_of_the_machine_everybody_gets_time_to_come_back(evening):
    evening.look()
    evening.look(3600, beating=False)
    evening.look(beating=False)
    assert evening.alarms() == []
    assert evening.look() == []


def test_while_the_ledger_cannot_be_written_an_alarm_is_said_and_sent_once_and_written_when_it_can_be(evening, told, monkeypatch):
    desk = evening.stage.desk
    evening.look()
    with monkeypatch.context() as broken:
        def gone(*_args, **_kwargs):
            raise LedgerUnavailable("The ledger does not answer.", rule="it answers", remedy="start it")

        broken.setattr(type(desk.ledger), "events", gone)
        for _ in range(12):
            evening.look(beating=False)
    assert [text for text in evening.said if "the ledger does not take" in text] == evening.said[:1]
    assert len(messages(told)) == 1
    evening.look(beating=False)
    assert evening.alarms() == ["daemon:daemon"]
    assert len(messages(told)) == 1, "told once"
    assert len([text for text in evening.said if text.startswith("Watchdog daemon:daemon: nothing")]) == 1


def test_a_notification_that_fails_is_said_once(evening):
    """fault 64."""
    evening.watcher.settings = Settings(alert_command=("/no/such/program",))
    for beating in (True, *[False] * 8, True, *[False] * 8):
        evening.look(beating=beating)
    assert len([text for text in evening.said if "cannot be run" in text]) == 1
