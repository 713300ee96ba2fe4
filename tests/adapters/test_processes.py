"""Supervision with real processes: nobody outlives the supervisor, however it ends."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.waiting import gone, until
from trading_pipeline.adapters import processes
from trading_pipeline.adapters.processes import Command, Supervisor, require_free_port
from trading_pipeline.errors import ServiceError

PARENT = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
{then}
"""
"""A command with a child of its own, as a code server has runs."""
POLITE = """
import signal, sys, time
def goodbye(*_):
    with open(sys.argv[1], "a") as file:
        file.write(sys.argv[2])
    sys.exit()
signal.signal(signal.SIGTERM, goodbye)
print("up", flush=True)
time.sleep(60)
"""
DEAF = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
time.sleep(60)
"""
LOUD = """
import time
print("x" * 2000, flush=True)
time.sleep(1)
print("later", flush=True)
time.sleep(60)
"""


def pid_in(path: Path) -> int:
    until(lambda: path.exists() and path.read_text())
    return int(path.read_text())


def command(name: str, code: str, *arguments: object, grace: float = 5) -> Command:
    return Command(name, [sys.executable, "-S", "-c", code, *map(str, arguments)], grace)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(tmp_path: Path, said: list[str]) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path / "logs", os.environ, said.append)
    yield supervisor
    supervisor.stop()


def test_a_stop_ends_the_command_and_what_it_started(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(command("server", PARENT.format(then="time.sleep(60)"), tmp_path / "pid"))
    grandchild = pid_in(tmp_path / "pid")
    supervisor.stop()
    assert gone(grandchild)


def test_logs_are_nobody_elses(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(Command("quick", [sys.executable, "-c", ""], 1))
    assert (tmp_path / "logs").stat().st_mode & 0o077 == 0


def test_the_newest_is_stopped_first_and_may_say_goodbye(supervisor: Supervisor, tmp_path: Path) -> None:
    for name in ("first", "second"):
        supervisor.start(command(name, POLITE, tmp_path / "order", name + " "))
        until(lambda name=name: (tmp_path / "logs" / f"{name}.log").read_text() == "up\n")
    supervisor.stop()
    assert (tmp_path / "order").read_text() == "second first "


def test_a_command_deaf_to_signals_is_killed(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(command("deaf", DEAF, tmp_path / "pid", grace=0.1))
    deaf = pid_in(tmp_path / "pid")
    asked = iter([False, True])
    supervisor.stop(hurry=lambda: next(asked, True))
    assert gone(deaf)


def test_a_death_is_told_with_the_end_of_the_log_and_started_again(supervisor: Supervisor, said: list[str]) -> None:
    supervisor.start(command("weak", "print('\\x1b[31mout of memory\\x1b[0m'); raise SystemExit(7)"))
    until(lambda: supervisor.watch() or said)
    assert "weak ended with code 7, starting it again in 1 s" in said[0] and "  out of memory" in said[0]
    until(lambda: supervisor.watch() or len(said) > 1)
    assert said[1].startswith("weak started again (pid ")


def test_a_killed_commands_signal_is_named(supervisor: Supervisor, said: list[str]) -> None:
    supervisor.start(command("weak", "import os; os.kill(os.getpid(), 9)"))
    until(lambda: supervisor.watch() or said)
    assert said[0].startswith("weak ended with SIGKILL")


def test_a_command_that_keeps_dying_ends_the_whole(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "RESTARTS", 1)
    supervisor.start(command("broken", "raise SystemExit('no such table')"))
    with pytest.raises(ServiceError, match="broken ended 2 times, last with code 1:\n  no such table"):
        until(lambda: supervisor.watch())


def test_a_command_that_dies_leaves_nobody_behind(supervisor: Supervisor, said: list[str], tmp_path: Path) -> None:
    supervisor.start(command("server", PARENT.format(then="import os; os.kill(os.getpid(), 9)"), tmp_path / "pid"))
    until(lambda: supervisor.watch() or said)
    assert gone(pid_in(tmp_path / "pid"))


def test_while_starting_up_a_death_is_final(supervisor: Supervisor) -> None:
    supervisor.start(command("broken", "raise SystemExit('cannot import')"))
    with pytest.raises(ServiceError, match="broken ended with code 1 while starting:\n  cannot import"):
        until(lambda: supervisor.require_alive())


def test_a_start_sets_the_last_log_aside(tmp_path: Path, said: list[str]) -> None:
    for number in range(7):
        supervisor = Supervisor(tmp_path, os.environ, said.append)
        supervisor.start(command("job", f"print('start {number}', flush=True); import time; time.sleep(60)"))
        until(lambda: (tmp_path / "job.log").read_text())
        supervisor.stop()
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == [f"start {n}\n" for n in (6, 5, 4, 3, 2, 1)]


def test_a_log_that_has_grown_is_set_aside_without_losing_its_writer(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "MAX_LOG_BYTES", 1000)
    supervisor.start(command("loud", LOUD))
    log = tmp_path / "logs" / "loud.log"
    until(lambda: supervisor.watch() or log.with_name("loud.log.1").exists())
    until(lambda: log.read_text() == "later\n")
    assert log.with_name("loud.log.1").read_text() == "x" * 2000 + "\n"


KILLED = """
import os, pathlib, sys, time
from trading_pipeline.adapters.processes import Command, Supervisor
supervisor = Supervisor(pathlib.Path(sys.argv[1]), os.environ, print)
supervisor.start(Command("server", [sys.executable, "-S", "-c", sys.argv[2], sys.argv[3]], 1))
time.sleep(60)
"""


def supervised_elsewhere(tmp_path: Path) -> tuple["subprocess.Popen[bytes]", int]:
    code = PARENT.format(then="time.sleep(60)")
    argv = [sys.executable, "-c", KILLED, str(tmp_path / "logs"), code, str(tmp_path / "pid")]
    parent = subprocess.Popen(argv, cwd=Path(__file__).parents[2])
    return parent, pid_in(tmp_path / "pid")


def test_no_orphan_remains_after_the_supervisor_is_killed(tmp_path: Path) -> None:
    supervisor, grandchild = supervised_elsewhere(tmp_path)
    family = psutil.Process(supervisor.pid).children(recursive=True)
    assert len(family) == 3
    supervisor.kill()
    supervisor.wait()
    until(lambda: gone(grandchild) and all(gone(process.pid) for process in family))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_a_killed_guard_takes_its_command_with_it(tmp_path: Path) -> None:
    supervisor, _ = supervised_elsewhere(tmp_path)
    guard, server, grandchild = psutil.Process(supervisor.pid).children(recursive=True)
    guard.kill()
    until(lambda: gone(server.pid))
    supervisor.kill()
    supervisor.wait()
    grandchild.kill()


def test_a_port_in_use_names_its_listener_and_the_remedy() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(ServiceError, match=rf"Port {port} cannot be opened: .*\(pid {os.getpid()}: .*--port"):
            require_free_port(port)
    require_free_port(port)


def test_signals_to_the_guards_do_not_reach_the_command(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(command("server", PARENT.format(then="time.sleep(60)"), tmp_path / "pid"))
    grandchild = psutil.Process(pid_in(tmp_path / "pid"))
    guard = grandchild.parent().parent()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        guard.send_signal(number)
    time.sleep(0.2)
    assert guard.is_running() and grandchild.is_running()
