"""Supervision of long-running child processes: start, watch, restart, stop; nobody survives us.

Each command runs under a `guard`, which takes it down when our end of a pipe closes, so a kill -9 of the supervisor ends
everything as a Ctrl-C does. A command that dies is started again with growing pauses; one that keeps dying ends
the whole: a trading system with half of its processes is worse than none. Knows nothing of what it runs.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten

import psutil

from trading_pipeline.adapters import guard
from trading_pipeline.errors import ServiceError, StorageError

Say = Callable[[str], None]

RESTARTS = 5
STEADY_SECONDS = 300.0
"""Alive this long, a command's earlier deaths are forgotten."""
KEPT_LOGS = 5
MAX_LOG_BYTES = 20_000_000
_KILL_MARGIN_SECONDS = 15.0
"""What a guard needs beyond the grace of its command."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Command:
    """What to run: `grace` is how many seconds it may take to end by itself when asked to."""

    name: str
    argv: Sequence[str]
    grace: float


@dataclass(slots=True)
class _Child:
    command: Command
    log: Path
    process: "subprocess.Popen[bytes]"
    started: float
    deaths: int = 0
    due: float | None = field(default=None)
    """When to start it again, monotonic seconds; None while it runs."""


class Supervisor:
    """Runs commands until `stop`. Not thread-safe: the loop that calls `watch` owns it."""

    def __init__(self, logs: Path, environment: Mapping[str, str], say: Say, *, inherited: Sequence[int] = ()) -> None:
        """Prepare; nothing is started.

        Args:
            logs: Folder of one log a command, `NAME.log`; earlier ones, of former starts or when it grew past 20 MB, are kept
                as `NAME.log.1` ... `.5`.
            environment: The commands' whole environment.
            say: Told of deaths and restarts.
            inherited: File descriptors the guards keep open, such as a lock that shall last until the last of them is gone.
        """
        self._logs = logs
        self._environment = dict(environment)
        self._say = say
        self._inherited = tuple(inherited)
        self._children: list[_Child] = []

    def start(self, command: Command) -> None:
        """Start a command.

        Raises:
            StorageError: Its log cannot be written.
        """
        log = self._logs / f"{command.name}.log"
        try:
            self._logs.mkdir(mode=0o700, parents=True, exist_ok=True)
            _rotate(log)
        except OSError as error:
            raise StorageError(
                f"The log of {command.name} cannot be written: {error.strerror}.", value=str(log), rule="the home is writable",
                remedy="check the folder's permissions and the space on its disk",
            ) from error
        self._children.append(_Child(command, log, self._spawn(command, log), time.monotonic()))

    def watch(self) -> None:
        """Notice deaths and start again what is due; call it a few times a second.

        Raises:
            ServiceError: A command has died once more than it may.
        """
        now = time.monotonic()
        for child in self._children:
            if child.log.exists() and child.log.stat().st_size > MAX_LOG_BYTES:
                _cut(child.log)
            if child.due is None and child.process.poll() is not None:
                self._died(child, now)
            elif child.due is not None and now >= child.due:
                child.process, child.started, child.due = self._spawn(child.command, child.log), now, None
                self._say(f"{child.command.name} started again (pid {child.process.pid}).")

    def require_alive(self) -> None:
        """For the time of starting up, when starting again would only repeat the fault.

        Raises:
            ServiceError: A command has ended; carries the end of its log.
        """
        for child in self._children:
            if child.process.poll() is not None:
                raise ServiceError(
                    f"{child.command.name} ended with {_how(child)} while starting:\n{_tail(child.log)}\n", value=child.command.name,
                    rule="every process comes up", remedy=f"look at {child.log}",
                )

    def stop(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """End all, the newest first; returns within each one's grace and a few seconds.

        Args:
            hurry: Asked while waiting: when true, the rest is killed at once.
        """
        for child in reversed(self._children):
            _let_go(child.process)
            deadline = time.monotonic() + child.command.grace + _KILL_MARGIN_SECONDS
            while child.process.poll() is None and time.monotonic() < deadline and not hurry():
                time.sleep(0.05)
            _sweep(child.process)
        self._children.clear()

    def _died(self, child: _Child, now: float) -> None:
        _sweep(child.process)
        how = _how(child)
        child.deaths = 1 if now - child.started > STEADY_SECONDS else child.deaths + 1
        if child.deaths > RESTARTS:
            raise ServiceError(
                f"{child.command.name} ended {child.deaths} times, last with {how}:\n{_tail(child.log)}\n", value=child.command.name,
                rule=f"a process is started again {RESTARTS} times, then everything is stopped", remedy=f"look at {child.log}",
            )
        pause = float(2 ** (child.deaths - 1))
        child.due = now + pause
        self._say(f"{child.command.name} ended with {how}, starting it again in {pause:.0f} s. The end of {child.log}:\n{_tail(child.log)}")

    def _spawn(self, command: Command, log: Path) -> "subprocess.Popen[bytes]":
        argv = [sys.executable, "-I", "-S", guard.__file__, str(command.grace), *command.argv]
        with log.open("ab") as output:
            return subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, env=self._environment, start_new_session=True,
                pass_fds=self._inherited,
            )


def require_free_port(port: int, host: str = "127.0.0.1") -> None:
    """Make sure that a port can be listened on.

    Raises:
        ServiceError: It cannot; names who listens there, if that can be known.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError:
            raise ServiceError(
                f"Port {port} may not be opened by this user.", value=port, rule="ports below 1024 belong to root",
                remedy="give another with --port",
            ) from None
        except OSError as error:
            raise ServiceError(
                f"Port {port} cannot be opened: {_listener(port) or error.strerror}.", value=port,
                rule="a port has one listener", remedy="stop that process, or give another port with --port",
            ) from error


def _listener(port: int) -> str:
    try:
        found = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port]
        if not found:
            return ""
        if found[0].pid is None:
            return "a process of another user listens there"
        process = psutil.Process(found[0].pid)
        command = shorten(" ".join(process.cmdline()), 80, placeholder=" …")
        return f"{process.name()} (pid {process.pid}: {command}) listens there"
    except psutil.Error:
        return ""


def _how(child: _Child) -> str:
    code = child.process.returncode
    return signal.Signals(code - 128).name if code - 128 in set(signal.Signals) else f"code {code}"


def _let_go(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin is not None:
        process.stdin.close()


def _sweep(process: "subprocess.Popen[bytes]") -> None:
    """Kill whoever is left of a guard's session, the guard last, and reap it."""
    _let_go(process)
    deadline = time.monotonic() + _KILL_MARGIN_SECONDS
    while (left := _session(process.pid)) and time.monotonic() < deadline:
        for member in left:
            with contextlib.suppress(psutil.Error):
                member.kill()
        time.sleep(0.01)
    process.kill()
    process.wait()


def _session(leader: int) -> list[psutil.Process]:
    members = []
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
            if pid != leader and os.getsid(pid) == leader and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                members.append(psutil.Process(pid))
    return members


def _rotate(log: Path) -> None:
    _shift(log)
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))


def _shift(log: Path) -> None:
    for number in range(KEPT_LOGS - 1, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number + 1}"))


def _cut(log: Path) -> None:
    """Set aside a log that is being written: its writers append, so that emptying it is safe for them."""
    whole = log.with_name(f"{log.name}.0")
    shutil.copyfile(log, whole)
    os.truncate(log, 0)
    _shift(log)
    whole.replace(log.with_name(f"{log.name}.1"))


def _tail(log: Path, lines: int = 15) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16_384))
            end = _COLOUR.sub("", file.read().decode(errors="replace"))
            return "\n".join("  " + line for line in end.splitlines()[-lines:])
    except OSError:
        return ""
