"""The watchdog of `trading up`: what no sensor can see, because the daemon that runs sensors may be what is dead.

It looks from a thread of its own, at Dagster's page and at the ledger, and whatever it finds it says, writes down and goes on.
A dead daemon explains its silent sensors: they are no alarms of their own then. When the ledger cannot be written an alarm is
said, and the notification sent, all the same.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from trading_pipeline.adapters.alert_command import alert_all
from trading_pipeline.adapters.clocks import market_pace
from trading_pipeline.adapters.dagster_page import DagsterPage, Heard
from trading_pipeline.domain.events import Event
from trading_pipeline.errors import TradingError
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
from trading_pipeline.settings import Settings

Say = Callable[[str], None]
LOOK_SECONDS = 15.0
PAUSE_SECONDS = 60.0
"""A longer time between two looks was a sleep of the machine: what is overdue counts from the look after it."""
SENSOR_LOOP_SECONDS = 5.0
PAGE_SECONDS = 60.0
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class Watcher:
    """One look at a time; remembers since when it has been looking, and what it has said."""

    page: DagsterPage
    settings: Settings
    say: Say
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _alarms: Alarms = field(default_factory=Alarms)
    _looked: datetime | None = None
    _wall: datetime = _NEVER
    _market: datetime = _NEVER
    _answered: datetime | None = None
    _said: set[str] = field(default_factory=set)
    _unwritten: set[str] = field(default_factory=set)
    _open: dict[str, Event] = field(default_factory=dict)

    def look(self, desk: Desk) -> None:
        """Look once; nothing that goes wrong is raised."""
        now = self.now()
        try:
            if self._looked is None or not timedelta(0) <= now - self._looked <= timedelta(seconds=PAUSE_SECONDS):
                self._wall, self._market = now, desk.now()
            self._looked = now
            seen = self._at_dagster(now)
        except TradingError as error:
            self._say_once(f"Watchdog: {error.message}")
            return
        try:
            pace = market_pace(desk.clock)
            seen |= look_at_calendar(desk) | look_at_positions(desk)
            if pace:
                seen |= look_at_bars(desk, self.settings.watchdog.bars(pace), self._market)
            news = report(desk, self._alarms, seen, "supervisor")
            self._tell(self._alarms.read(desk.ledger))
        except TradingError as error:
            self._say_once(f"Watchdog: the ledger does not take what it finds: {error.message}")
            self._tell_without_ledger(seen)
            return
        told = [as_message(event, desk) for event in news if event.payload["name"] not in self._unwritten]
        self._unwritten.clear()
        self._notify(told)

    def _at_dagster(self, now: datetime) -> Look:
        heard = self.page.heard()
        if heard is not None:
            self._answered = now
        answers = Beat(Kind.PAGE, "the webserver", self._answered, self._answered, timedelta(seconds=PAGE_SECONDS))
        look = look_at_beats({Kind.PAGE}, [answers], now, self._wall)
        return look if heard is None else look | self._at_daemons(heard, now)

    def _at_daemons(self, heard: Heard, now: datetime) -> Look:
        allowed = self.settings.watchdog
        silence, late = timedelta(seconds=allowed.heartbeat_seconds), timedelta(seconds=allowed.tick_seconds)
        look = look_at_beats({Kind.DAEMON}, [heartbeat(heard.daemons, silence)] if heard.daemons else [], now, self._wall)
        if look.symptoms or look.undecided:
            return look
        # The other ticks are the watchdog's own business, as long as it ticks.
        own = [
            Beat(Kind.WATCHDOG, f"the sensor {each.name}", each.ticked, _due(each.ticked, each.interval), late)
            for each in heard.sensors if each.name == "watchdog"
        ]
        return look | look_at_beats({Kind.WATCHDOG}, own, now, self._wall)

    def _tell(self, open_: dict[str, Event]) -> None:
        """Whoever raised or ended it: the sensor's alarms are said here too."""
        for name, raised in open_.items():
            if name not in self._open and name not in self._unwritten:
                self.say(f"Watchdog {name}: {raised.payload['reason']}.")
        for name, raised in self._open.items():
            if name not in open_:
                self.say(f"Watchdog {name}: over: {raised.payload['reason']}.")
        self._open = open_

    def _tell_without_ledger(self, seen: Look) -> None:
        fresh = [symptom for symptom in seen.symptoms if symptom.name not in self._unwritten]
        for symptom in fresh:
            self._unwritten.add(symptom.name)
            self.say(f"Watchdog {symptom.name}: {symptom.says}.")
        self._notify([{"state": "alarm", "name": symptom.name, "reason": symptom.says, "seq": None} for symptom in fresh])

    def _notify(self, messages: list[dict[str, Any]]) -> None:
        for trouble in alert_all(self.settings.alert_command, messages):
            self._say_once(trouble)

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.say(text)


def _due(last: datetime | None, interval: float) -> datetime | None:
    return None if last is None else last + timedelta(seconds=max(SENSOR_LOOP_SECONDS, interval))


@contextmanager
def watching(page: DagsterPage, settings: Settings, open_desk: Callable[[], AbstractContextManager[Desk]], say: Say) -> Iterator[None]:
    """Look every LOOK_SECONDS until leaving; the desk is opened for it, and closed before this returns."""
    stop = threading.Event()

    def run() -> None:
        watcher = Watcher(page, settings, say)
        while not stop.is_set():
            try:
                with open_desk() as desk:
                    while not stop.wait(LOOK_SECONDS):
                        watcher.look(desk)
            except TradingError as error:
                say(f"Watchdog: it cannot look: {error.message} It tries again.")
                stop.wait(4 * LOOK_SECONDS)

    thread = threading.Thread(target=run, name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=30)
