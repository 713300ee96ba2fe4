"""A home over a synthetic market with Dagster's page above it, whose market is moved by hand from one bar's close to the next.

What `trading up` starts, the desk's process included, with sensors and schedules switched off: runs are begun over Dagster's GraphQL, as
its page begins them, at the instant that the bench chooses.
"""

import json
import os
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from bench.strategies import start_strategies, symbol_names
from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.clocks import ReplayClock
from trading_pipeline.adapters.dagster_home import render
from trading_pipeline.adapters.dagster_page import DagsterPage
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.processes import Command, Supervisor
from trading_pipeline.adapters.replay_file import Pace
from trading_pipeline.bootstrap import open_desk
from trading_pipeline.domain.bars import Interval
from trading_pipeline.domain.sessions import TradingCalendar
from trading_pipeline.ports import Home
from trading_pipeline.service.submitter import handover
from trading_pipeline.service.timetable import newest_cycle, running_intervals
from trading_pipeline.settings import Settings

SETTINGS = """\
environment = "demo"

[market]
clock = "replay"
source = "synthetic"
interval = "{interval}"
symbols = {symbols}
first = "{first}"
last = "{last}"
"""
_LAUNCH = """
mutation ($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""
_REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "trading_pipeline"}
_AUTOMATION = """
query ($repository: RepositorySelector!) {
  sensorsOrError(repositorySelector: $repository) { ... on Sensors { results { sensorState { id } } } }
  schedulesOrError(repositorySelector: $repository) { ... on Schedules { results { scheduleState { id } } } } }
"""
_STOP_SENSOR = "mutation ($id: String!) { stopSensor(id: $id) { __typename ... on PythonError { message } } }"
_STOP_SCHEDULE = "mutation ($id: String!) { stopRunningSchedule(id: $id) { __typename ... on PythonError { message } } }"
_RUN = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status startTime endTime stepStats { stepKey startTime endTime } } } }"


@dataclass(frozen=True, slots=True)
class Market:
    """Its bars, where its data begin and end, and the session of the first cycle."""

    interval: Interval
    first: date
    start: date
    last: date

    def cycles(self, calendar: TradingCalendar) -> Iterator[datetime]:
        """When its cycles are to run, one after another: right after each minute's close, or a minute after each session's open."""
        for session in calendar.between(self.start, self.last):
            if self.interval.daily:
                yield session.open + timedelta(minutes=1)
            else:
                yield from (slot.end + timedelta(seconds=1) for slot in calendar.slots(session, self.interval))


SESSIONS = Market(Interval.DAY1, date(2010, 1, 4), date(2011, 1, 3), date(2012, 12, 31))
MINUTES = Market(Interval.MIN1, date(2012, 5, 30), date(2012, 6, 1), date(2012, 6, 29))


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds from just before the question: to the first step, to the end; and CPU seconds of all the home's processes."""

    first_step_s: float
    total_s: float
    cpu_s: float


class LiveHome:
    """Make with `live_home`."""

    def __init__(self, folder: Path, page: DagsterPage, supervisor: Supervisor, processes: set[int], cycles: Iterator[datetime]) -> None:
        """Over what runs already."""
        self.folder, self.page, self.supervisor = folder, page, supervisor
        self._before = processes
        self._cycles = cycles
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def run_cycle(self, most_seconds: float = 120, settle_seconds: float = 0.5) -> Run:
        """Move the market to its next cycle and run it to the end.

        Args:
            settle_seconds: Until the run's process has ended, and its CPU counts as its parent's.
        """
        from assets.partitions import tags_of

        stand_at(self.folder, next(self._cycles))
        with open_desk(Settings.load(self.folder)) as desk:
            running = running_intervals(desk)
            assert running, [f"{row['name']} is {row['state']}: {row['reason']}" for row in desk.ledger.find("strategies")]
            cycle = newest_cycle(desk, running[0])
            assert cycle is not None
            tags = tags_of(desk, cycle) | {"dagster/partition": cycle.session.isoformat()}
        params = {
            "selector": _REPOSITORY | {"jobName": "cycle"},
            "runConfigData": "{}", "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }
        cpu, begun = self.cpu_s(), time.time()
        launched = self.ask(_LAUNCH, {"params": params})["launchPipelineExecution"]
        assert "run" in launched, launched
        while (run := self.ask(_RUN, {"id": launched["run"]["runId"]})["runOrError"])["status"] not in ("SUCCESS", "FAILURE", "CANCELED"):
            assert time.time() - begun < most_seconds, run
            time.sleep(0.25)
        assert run["status"] == "SUCCESS", run
        first = min(step["startTime"] for step in run["stepStats"])
        time.sleep(settle_seconds)
        return Run(first - begun, run["endTime"] - begun, self.cpu_s() - cpu)

    def cpu_s(self) -> float:
        """CPU seconds of the home's processes, ended children included."""
        total = 0.0
        for process in self.processes():
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            total += times.user + times.system + times.children_user + times.children_system
        return total

    def processes(self) -> list[psutil.Process]:
        """Everything under the home's supervisor, and its database."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.pid in self._before:
                    continue
                if str(self.folder) in " ".join((*process.cmdline(), process.environ().get("TRADING_HOME", ""))):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def stop_automation(self) -> None:
        """Switch off what would begin runs by itself."""
        found = self.ask(_AUTOMATION, {"repository": _REPOSITORY})
        for sensor in found["sensorsOrError"]["results"]:
            self.ask(_STOP_SENSOR, {"id": sensor["sensorState"]["id"]})
        for schedule in found["schedulesOrError"]["results"]:
            self.ask(_STOP_SCHEDULE, {"id": schedule["scheduleState"]["id"]})

    def ask(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data that GraphQL answers with."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.page.url}/graphql", body, {"Content-Type": "application/json"})
        with self._opener.open(request, timeout=60) as reply:
            answer = json.load(reply)
        assert "errors" not in answer, answer["errors"]
        return dict(answer["data"])


@contextmanager
def live_home(
    folder: Path, *, launcher: str = "warm", symbols: int = 5, strategies: Sequence[tuple[str, str]] = (),
    market: Market = SESSIONS,
) -> Iterator[LiveHome]:
    """Prepare a home and start its code server, desk, webserver, daemon and, if wanted, launcher; everything is gone afterwards.

    Args:
        folder: Empty.
        launcher: warm or default.
        symbols: How many.
        strategies: Mode, and the TOML after `[agent]`, of each.
        market: What is traded.
    """
    settings = {"symbols": json.dumps(symbol_names(symbols)), "interval": market.interval, "first": market.first, "last": market.last}
    (folder / "trading.toml").write_text(SETTINGS.format(**settings), "utf-8")
    calendar = load_calendar(folder / "cache")
    before = {process.pid for process in psutil.process_iter()}
    server = EmbeddedPostgres.start(Home(folder).database)
    try:
        ReplayClock.create(
            folder / "clock.json", market="synthetic", pace=Pace.INTRADAY, start=calendar.session(market.start).open,
            end=calendar.session(market.last).close, calendar=calendar, running=False,
        )
        with open_desk(Settings.load(folder)) as desk:
            start_strategies(desk, symbols, strategies, market.interval)
        os.environ["TRADING_HOME"] = str(folder)
        rendered = render(folder, {"TRADING_LAUNCHER": launcher})
        said: list[str] = []
        supervisor = Supervisor(folder / "logs", {**os.environ, **rendered.environment()}, said.append)
        python = [sys.executable, "-m"]
        module = "trading_pipeline.definitions"
        port = free_port()
        page = DagsterPage(port)
        try:
            supervisor.start(Command("code-server", [*python, "dagster", "api", "grpc", "-s", str(rendered.socket), "-m", module], 5))
            if rendered.launcher is not None:
                supervisor.start(Command("launcher", [*python, "resources.launcher.parent", str(rendered.launcher), module], 5))
            _until(supervisor, rendered.socket.exists)
            supervisor.start(Command("desk", [sys.executable, "-P", "-m", "trading_pipeline.faces.cli", "--home", str(folder), "desk"], 5))
            arguments = ["-h", "127.0.0.1", "-p", str(port), "-w", str(rendered.workspace)]
            supervisor.start(Command("webserver", [*python, "resources.webserver", *arguments], 5))
            _until(supervisor, page.answers)
            _until(supervisor, lambda: rendered.launcher is None or rendered.launcher.exists())
            with open_desk(Settings.load(folder)) as desk:
                _until(supervisor, lambda: handover.attended(desk))
            home = LiveHome(folder, page, supervisor, before, market.cycles(calendar))
            home.stop_automation()
            supervisor.start(Command("daemon", [*python, "dagster._daemon", "run", "-w", str(rendered.workspace)], 5))
            yield home
        finally:
            supervisor.stop()
    finally:
        server.stop()


def free_port() -> int:
    """For a page, on the loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stand_at(folder: Path, instant: datetime) -> None:
    """Move the home's standing clock."""
    path = folder / "clock.json"
    stands = json.loads(path.read_text("utf-8"))
    elapsed = instant - datetime.fromisoformat(stands["start"])
    moved = path.with_suffix(".moved")
    moved.write_text(json.dumps(stands | {"elapsed_ns": elapsed // timedelta(microseconds=1) * 1_000}), "utf-8")
    moved.replace(path)


def _until(supervisor: Supervisor, done: Any) -> None:
    deadline = time.monotonic() + 60
    while not done():
        supervisor.require_alive()
        assert time.monotonic() < deadline
        time.sleep(0.1)
