"""`trading up`: Dagster's code server, webserver and daemon on one home, from ready to cleanly gone.

Three processes under one supervisor (`adapters.processes`) and the home's PostgreSQL beside them. Everything listens on the
loopback or on a Unix socket: Dagster's page has no login. The processes' guards share the home's lock, so that a new `up` waits
for the last process of a killed one.
"""

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from trading_pipeline.adapters.dagster_home import DATABASE_VARIABLE, DagsterHome, render
from trading_pipeline.adapters.dagster_page import DagsterPage, PageStatus
from trading_pipeline.adapters.home_lock import HomeLock
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.processes import Command, Say, Supervisor, require_free_port
from trading_pipeline.errors import ServiceError, StorageError
from trading_pipeline.faces.cli.signals import on_ending
from trading_pipeline.ports import Home

MODULE = "trading_pipeline.definitions"
WEBSERVER = "resources.webserver"
"""Dagster's own, behind a check of who asks."""
LAUNCHER = "resources.launcher.parent"
READY_SECONDS = 120.0
_TICK_SECONDS = 0.2
_DATABASE_CHECK_SECONDS = 5.0
_RUN_GRACE_SECONDS = 20.0
"""How long runs in flight may take to end; then they are cancelled, and the ledger continues them next time."""


def up(
    home: Path, webserver_port: int, lock: HomeLock, *, say: Say, module: str = MODULE, embedded: bool = True,
    run_variables: Sequence[str] = (), desk: Sequence[str] = (), environment: Mapping[str, str] | None = None,
    ready_seconds: float = READY_SECONDS, keep: Callable[[], None] | None = None,
    watch: Callable[[DagsterPage], AbstractContextManager[None]] | None = None,
) -> None:
    """Run the pipeline of a home until Ctrl-C or SIGTERM; a second one kills instead of waiting.

    Call it in the main thread: it handles signals while it runs.

    Args:
        home: There already, as its lock is held.
        webserver_port: Of Dagster's page, on the loopback.
        lock: Held on the home.
        say: Told, in whole sentences, what happens.
        module: The code location.
        embedded: Whether the ledger is in the home's own PostgreSQL; Dagster is, unless TRADING_DAGSTER_DATABASE_URL is set.
        run_variables: Names of variables that warm runs are given besides those all need: API keys.
        desk: The command of the desk's process; none is started when empty.
        environment: Variables for the processes besides our own.
        ready_seconds: Everything answers within this.
        keep: Called a few times a second while it runs: what lets a replayed market go on.
        watch: Entered for as long as all of it runs, with Dagster's page: the watchdog.

    Raises:
        ServiceError: The port is taken; a process does not come up or keeps dying.
        SettingsError: A rendered file was edited by hand.
        StorageError, LedgerUnavailable: The home cannot be written; PostgreSQL does not start.
    """
    home = home.expanduser().absolute()
    variables = {**os.environ, **(environment or {})}
    page = DagsterPage(webserver_port)
    with _signals() as stop:
        require_free_port(webserver_port)
        rendered = render(home, variables)
        sockets = [path for path in (rendered.socket, rendered.launcher) if path is not None]
        for path in sockets:
            _make_room(path)
        own_server = embedded or not variables.get(DATABASE_VARIABLE)
        with _database(home, say) if own_server else contextlib.nullcontext(_nothing) as keep_database:
            supervisor = Supervisor(
                home / "logs", {**variables, **rendered.environment(), "PYTHONUNBUFFERED": "1"}, say, inherited=[lock.descriptor]
            )
            try:
                if _start(supervisor, rendered, page, module, run_variables, desk, stop, say, time.monotonic() + ready_seconds):
                    with watch(page) if watch is not None else contextlib.nullcontext():
                        _run(supervisor, stop, keep_database, keep or _nothing)
            finally:
                say("Stopping.")
                supervisor.stop(stop.hurry)
                for path in sockets:
                    path.unlink(missing_ok=True)
    say("Stopped.")


@dataclass(slots=True)
class _Stop:
    asked: int = 0

    def hurry(self) -> bool:
        return self.asked > 1


def _start(
    supervisor: Supervisor, rendered: DagsterHome, page: DagsterPage, module: str, run_variables: Sequence[str], desk: Sequence[str],
    stop: _Stop, say: Say, deadline: float,
) -> bool:
    """Start all and wait until it works; False when asked to stop meanwhile."""
    began = time.time()
    python = [sys.executable, "-m"]
    workspace = ["-w", str(rendered.workspace)]

    def until(done: Callable[[], object], what: str) -> bool:
        while not done():
            if stop.asked:
                return False
            supervisor.require_alive()
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"{what} did not come up in time.", value=what, rule="everything answers within the time given",
                    remedy=f"look into {rendered.folder.parent / 'logs'} and at the load of this machine",
                )
            time.sleep(_TICK_SECONDS)
        return True

    say("Starting the code server.")
    code_server = [*python, "dagster", "api", "grpc", "-s", str(rendered.socket), "-m", module, "--use-python-environment-entry-point"]
    supervisor.start(Command("code-server", code_server, _RUN_GRACE_SECONDS))
    if not until(lambda: _listens(rendered.socket), "The code server"):
        return False
    if desk:
        say("Starting the desk.")
        supervisor.start(Command("desk", desk, _RUN_GRACE_SECONDS))
    say("Starting webserver and daemon.")
    if rendered.launcher is not None:
        launcher = [*python, LAUNCHER, str(rendered.launcher), module, *run_variables]
        supervisor.start(Command("launcher", launcher, _RUN_GRACE_SECONDS))
    webserver = [*python, WEBSERVER, "-h", "127.0.0.1", "-p", page.url.rpartition(":")[2], *workspace]
    supervisor.start(Command("webserver", webserver, 5))
    supervisor.start(Command("daemon", [*python, "dagster._daemon", "run", *workspace], 10))
    if not until(page.answers, "The webserver"):
        return False
    say(f"Dagster answers at {page.url}.")
    seen: list[PageStatus] = []

    def works() -> bool:
        status = page.status(began)
        if status is not None and status.error:
            raise ServiceError(
                f"The code location does not load: {status.error}", value=module, rule="its definitions load",
                remedy=f"run `dagster definitions validate`, and look into {rendered.folder.parent / 'logs'}",
            )
        if status is None or not status.loaded or status.silent:
            return False
        seen.append(status)
        return True

    if not until(works, "The daemon"):
        return False
    say(f"Running: {', '.join(seen[-1].running) or 'no schedule and no sensor'}.")
    if seen[-1].stopped:
        say(f"Switched off: {', '.join(seen[-1].stopped)}. Switch on at {page.url}/automation.")
    say("Ready. Ctrl-C stops everything.")
    return True


def _run(supervisor: Supervisor, stop: _Stop, keep_database: Callable[[], None], keep: Callable[[], None]) -> None:
    check = time.monotonic()
    while not stop.asked:
        supervisor.watch()
        if time.monotonic() >= check:
            keep_database()
            check = time.monotonic() + _DATABASE_CHECK_SECONDS
        keep()
        time.sleep(_TICK_SECONDS)


def _nothing() -> None:
    return


@contextlib.contextmanager
def _database(home: Path, say: Say) -> Iterator[Callable[[], None]]:
    """The home's PostgreSQL for as long as we run; yields what starts it again if it has died.

    A connection is kept, so that no command that ends meanwhile takes itself for the last one and stops it.
    """
    folder = Home(home).database
    server = EmbeddedPostgres.start(folder)
    present = contextlib.ExitStack()
    present.enter_context(server.attended())

    def keep() -> None:
        again = EmbeddedPostgres.start(folder)
        if again.started_here:
            say("PostgreSQL had ended; started it again.")
            present.close()
            present.enter_context(again.attended())

    try:
        yield keep
    finally:
        present.close()
        others = server.leave()
        if others:
            say(f"PostgreSQL keeps running: {others} other connections.")


@contextlib.contextmanager
def _signals() -> Iterator[_Stop]:
    stop = _Stop()

    def ask() -> None:
        stop.asked += 1

    with on_ending(ask):
        yield stop


def _make_room(path: Path) -> None:
    """Clear the socket's place; whoever listened there has gone, we hold the lock."""
    with contextlib.suppress(FileExistsError):
        path.parent.mkdir(mode=0o700)
    found = path.parent.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise StorageError(
            f"The socket folder {path.parent} is not private.", value=str(path.parent), rule="a folder of mode 0700 of our own",
            remedy="remove it",
        )
    path.unlink(missing_ok=True)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
