"""A home with its code server and a launcher's parent, all real processes, for the launcher's tests."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
from dagster._core.definitions.selector import JobSubsetSelector
from dagster._core.storage.dagster_run import make_new_run_id
from dagster._core.workspace.context import BaseWorkspaceRequestContext, WorkspaceProcessContext
from dagster._core.workspace.load_target import GrpcServerTarget

from assets.partitions import tags_of
from resources.launcher.protocol import Message, NoAnswer, NotAsked, ask
from tests.conftest import execute, stop_at_once
from tests.waiting import PATIENCE_SECONDS, until
from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.clocks import Pace, ReplayClock
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.strategy_files import parse_strategy
from trading_pipeline.bootstrap import open_desk
from trading_pipeline.ports import Home
from trading_pipeline.service import controls
from trading_pipeline.service.timetable import newest_cycle, running_intervals
from trading_pipeline.settings import Settings

MODULE = "tests.orchestration.launcher.location"
CANARY = "wJalrXUtnFEMI-canary"
DAY = date(2012, 6, 1)
SETTINGS = """\
environment = "demo"
[market]
clock = "replay"
source = "synthetic"
symbols = ["AAA", "BBB"]
first = "2010-01-04"
last = "2012-12-31"
"""
STRATEGY = """\
name = "steady"
symbols = ["AAA", "BBB"]
mode = "autonomous"
interval = "1d"
lifetime = "open"
min_confidence = 0.6
[agent]
form = "expression"
enter_when = "close > 0"
[chart]
bars = 60
overlays = ["sma_20"]
panels = ["rsi_14"]
"""
INSTANCE = """\
storage:
  custom: {{module: resources.storage, class: TradingPostgresStorage, config: {{home: "{home}"}}}}
run_launcher: {{module: resources.launcher.run_launcher, class: WarmRunLauncher, config: {{socket: "{socket}"}}}}
run_coordinator: {{module: resources.launcher.run_coordinator, class: PromptRunCoordinator, config: {{max_concurrent_runs: 4}}}}
run_monitoring: {{enabled: true}}
telemetry: {{enabled: false}}
"""


def kill(process: psutil.Process, number: signal.Signals = signal.SIGKILL) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


@contextmanager
def stopped(process: psutil.Process) -> Iterator[None]:
    process.suspend()
    try:
        yield
    finally:
        process.resume()


class LauncherHouse:
    """The home, and what a test does to its processes; `parent` may be killed, the next test that asks has a new one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.reports, self.edited = folder, folder / "reports", folder / "code" / "launcher_edited.py"
        self.socket, self.code_socket = folder / "dagster" / "runs.sock", folder / "dagster" / "code.sock"
        for made in (self.reports, self.edited.parent):
            made.mkdir()
        self.socket.parent.mkdir(mode=0o700)
        self.edited.write_text("VERSION = 1\n")
        self.instance: dg.DagsterInstance
        self.workspace: BaseWorkspaceRequestContext
        self.postgres: EmbeddedPostgres
        self._parent: subprocess.Popen[bytes] | None = None
        self._started: list[subprocess.Popen[bytes]] = []

    def environment(self) -> dict[str, str]:
        # Dagster takes the first entry of sys.path for the folder of a script, and removes it.
        path = os.pathsep.join(map(str, [self.reports, Path(__file__).parents[3], self.edited.parent]))
        return {
            **os.environ, "DAGSTER_HOME": str(self.folder / "dagster"), "TRADING_HOME": str(self.folder), "PYTHONPATH": path,
            "PYTHONSAFEPATH": "1", "TRADING_TEST_REPORTS": str(self.reports), "AWS_SECRET_ACCESS_KEY": CANARY, "AGENT_API_KEY": CANARY,
        }

    @contextmanager
    def open(self) -> Iterator["LauncherHouse"]:
        """Everything but the parent."""
        (self.folder / "trading.toml").write_text(SETTINGS)
        (self.folder / "dagster" / "dagster.yaml").write_text(INSTANCE.format(home=self.folder, socket=self.socket))
        with ExitStack() as stack:
            stack.callback(self._end)
            self.postgres = EmbeddedPostgres.start(Home(self.folder).database)
            stack.callback(stop_at_once, self.postgres)
            execute(self.postgres.superuser_url(), "ALTER SYSTEM SET fsync = off")
            execute(self.postgres.superuser_url(), "SELECT pg_reload_conf()")
            code = ["dagster", "api", "grpc", "-s", str(self.code_socket), "-m", MODULE]
            server = self._spawn(code, "code-server")
            self.parent()
            self._furnish()
            self.instance = stack.enter_context(dg.DagsterInstance.from_config(str(self.folder / "dagster")))
            target = GrpcServerTarget(host="localhost", port=None, socket=str(self.code_socket), location_name="trading_pipeline")
            until(lambda: self.code_socket.exists() or server.poll() is not None, "the code server listens")
            assert server.poll() is None, (self.folder / "code-server.log").read_text()
            context = stack.enter_context(WorkspaceProcessContext(self.instance, target))
            self.workspace = context.create_request_context()
            yield self

    def _furnish(self) -> None:
        calendar = load_calendar(self.folder / "cache")
        ReplayClock.create(
            self.folder / "clock.json", market="synthetic", pace=Pace.DAILY, start=calendar.session(DAY).open,
            end=calendar.session(date(2012, 12, 31)).close, calendar=calendar, running=False,
        )
        with open_desk(Settings.load(self.folder)) as desk:
            spec = parse_strategy(STRATEGY)
            controls.create(desk, spec, actor="demo:person")
            controls.start(desk, spec.name, actor="demo:person")
            self.cycle_tags = tags_of(desk, newest_cycle(desk, running_intervals(desk)[0])) | {"dagster/partition": DAY.isoformat()}

    def _spawn(self, module: list[str], name: str) -> "subprocess.Popen[bytes]":
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", *module]
            self._started.append(
                subprocess.Popen(command, env=self.environment(), stdout=log, stderr=log, cwd=self.folder, start_new_session=True)
            )
        return self._started[-1]

    # The parent

    def start_parent(self) -> "subprocess.Popen[bytes]":
        return self._spawn(["tests.orchestration.launcher.impatient_parent", str(self.socket), MODULE, "AGENT_API_KEY"], "parent")

    def parent(self) -> psutil.Process:
        """The one that serves, or a new one."""
        if self._parent is None or self._parent.poll() is not None:
            self._parent = self.start_parent()
        return psutil.Process(self._parent.pid)

    def ready(self, spares: int = 1) -> psutil.Process:
        """The parent, serving, no run in flight."""
        parent = self.parent()
        until(lambda: (told := self.tell()) and not told["runs"] and len(told["spares"]) >= spares, "spares wait")
        return parent

    def wait_parent(self) -> int:
        assert self._parent is not None
        return self._parent.wait(PATIENCE_SECONDS)

    def ask(self, do: str, run_id: str = "", seconds: float = 15.0) -> Message:
        return ask(self.socket, {"do": do, "run_id": run_id}, seconds)

    def tell(self) -> Message | None:
        """What the parent tells of itself; None while it does not serve."""
        with suppress(NotAsked, NoAnswer):
            told = self.ask("tell")
            return told if "spares" in told else None
        return None

    def fresh_children(self) -> list[psutil.Process]:
        """Children that have just been forked and are stopped before they can say that they are ready."""
        parent = self.ready(2)
        old = {child.pid for child in parent.children()}
        for child in parent.children():
            kill(child)
        fresh: dict[int, psutil.Process] = {}

        def stopped() -> bool:
            for child in parent.children():
                if child.pid not in old | fresh.keys():
                    child.suspend()
                    fresh[child.pid] = child
            return len(fresh) == 2

        until(stopped, "new children are there")
        assert not set(self.ask("tell")["spares"]) & fresh.keys()
        return list(fresh.values())

    def _end(self) -> None:
        """End all that was started and what they forked, runs that have outlived their parent included."""
        for process in self._started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    # Runs

    def create(self, job: str, tags: dict[str, str] | None = None) -> str:
        """A run as Dagster's page makes it, not yet launched."""
        location = self.workspace.get_code_location("trading_pipeline")
        selector = JobSubsetSelector("trading_pipeline", "__repository__", job, op_selection=None)
        remote = self.workspace.get_full_job(selector)
        plan = self.workspace.get_execution_plan(remote, {}, None, None)
        run = self.instance.create_run(
            job_name=job, run_id=make_new_run_id(), run_config={}, status=dg.DagsterRunStatus.NOT_STARTED, tags=remote.tags | (tags or {}),
            root_run_id=None, parent_run_id=None, step_keys_to_execute=plan.execution_plan_snapshot.step_keys_to_execute,
            execution_plan_snapshot=plan.execution_plan_snapshot, job_snapshot=remote.job_snapshot,
            parent_job_snapshot=remote.parent_job_snapshot, asset_selection=None, asset_check_selection=None, resolved_op_selection=None,
            op_selection=None, remote_job_origin=remote.get_remote_origin(), job_code_origin=remote.get_python_origin(),
            asset_graph=location.get_repository("__repository__").asset_graph,
        )
        return run.run_id

    def launch(self, job: str, tags: dict[str, str] | None = None) -> str:
        run_id = self.create(job, tags)
        self.instance.launch_run(run_id, self.workspace)
        return run_id

    def run(self, run_id: str) -> dg.DagsterRun:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run

    def finished(self, run_id: str) -> dg.DagsterRunStatus:
        """How a run ended, once it has."""
        run: dg.DagsterRun = until(lambda: (run := self.run(run_id)).is_finished and run, f"{run_id} has ended")
        return run.status

    def report(self, run_id: str) -> dict[str, Any]:
        """What a run of the tests' own tells of itself, once its step has begun."""
        path = self.reports / f"{run_id}.json"
        until(lambda: path.exists() or self.run(run_id).is_finished, f"{run_id} works")
        return dict(json.loads(path.read_text()))

    def release(self, run_id: str) -> None:
        """Let a `waiter` end."""
        (self.reports / f"release-{run_id}").touch()

    def messages(self, run_id: str) -> str:
        return "\n".join(entry.message for entry in self.instance.all_logs(run_id))


@contextmanager
def launcher_house() -> Iterator[LauncherHouse]:
    """Not under tmp_path, which is too long for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="tp-"))
    try:
        with LauncherHouse(folder).open() as house:
            yield house
    finally:
        shutil.rmtree(folder, ignore_errors=True)
