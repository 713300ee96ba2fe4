"""`trading up` with real processes: comes up, is alone on its home, heals, leaves nobody behind, recovers from any kill."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from trading_pipeline.adapters.dagster_page import DagsterPage, PageStatus
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.ports import Home

PROJECT = Path(__file__).parents[2]
CALL = """
import sys
from pathlib import Path
from trading_pipeline.adapters.home_lock import held
from trading_pipeline.errors import TradingError
from trading_pipeline.faces.cli.up import up
try:
    with held(Path(sys.argv[1]), "trading up") as lock:
        up(Path(sys.argv[1]), int(sys.argv[2]), lock, say=lambda text: print(text, flush=True), module=sys.argv[3])
except TradingError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Up:
    """`up` in a process of its own."""

    def __init__(self, home: Path, port: int, *, module: str = "tests.faces.tiny_definitions", said: Path | None = None) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in ("DAGSTER_HOME", "TRADING_HOME")}
        self.said = said or home.with_name(home.name + ".said")
        with self.said.open("w") as output:
            argv = [sys.executable, "-c", CALL, str(home), str(port), module]
            self.process = subprocess.Popen(
                argv, cwd=PROJECT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def text(self) -> str:
        return self.said.read_text()

    def until(self, word: str) -> str:
        until(lambda: word in self.text() or self.process.poll() is not None)
        assert word in self.text()
        return self.text()

    def ended(self) -> int:
        return self.process.wait(90)


def until(done: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def of_home(home: Path) -> list[psutil.Process]:
    """Every living process that has to do with a home: by its command line, or by its environment."""
    found = []
    for process in psutil.process_iter(["pid"]):
        try:
            about = [*process.cmdline(), *process.environ().values()]
            if process.status() != psutil.STATUS_ZOMBIE and any(str(home) in word for word in about):
                found.append(process)
        except psutil.Error:
            continue
    return found


def names(processes: list[psutil.Process]) -> list[str]:
    return [" ".join(process.cmdline())[:120] for process in processes]


def command_of(home: Path, word: str) -> psutil.Process:
    return next(p for p in of_home(home) if word in p.cmdline() and "guard.py" not in " ".join(p.cmdline()))


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="trading-up-")) / "home"
    yield folder
    for process in of_home(folder):
        process.kill()
    shutil.rmtree(folder.parent)


@pytest.fixture
def resting(home: Path) -> Path:
    """The home with nothing of it alive: tests are shared out among processes, and the one that ends `running` may be another's."""
    for process in of_home(home):
        process.kill()
    until(lambda: not of_home(home))
    return home


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def page(port: int) -> DagsterPage:
    return DagsterPage(port)


@pytest.fixture(scope="module")
def running(home: Path, port: int) -> Iterator[Up]:
    home.parent.mkdir(exist_ok=True)
    one = Up(home, port)
    one.until("Ready.")
    yield one
    one.process.kill()
    one.process.wait()


def test_it_is_ready_when_the_page_answers_and_what_is_on_runs(running: Up, page: DagsterPage) -> None:
    assert f"Dagster answers at {page.url}." in running.text()
    assert "Running: once, yearly." in running.text()
    assert "Switched off: off." in running.text()
    assert page.status(0) == PageStatus(loaded=True, error="", silent=(), running=("once", "yearly"), stopped=("off",))
    heard = page.heard()
    assert heard is not None
    assert [(sensor.name, sensor.interval) for sensor in heard.sensors] == [("once", 1)]
    assert heard.daemons["SENSOR"] is not None
    assert abs(time.time() - heard.daemons["SENSOR"].timestamp()) < 120


def test_the_page_is_on_the_loopback_alone(running: Up, port: int) -> None:
    """75."""
    listeners = {c.laddr.ip for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr.port == port}
    assert listeners == {"127.0.0.1"}


def test_a_second_one_on_the_home_is_refused_and_changes_nothing(running: Up, home: Path, page: DagsterPage, tmp_path: Path) -> None:
    second = Up(home, free_port(), said=tmp_path / "second")
    assert second.ended() == 1
    assert f"The home {home} is in use already (trading up, pid {running.process.pid})" in second.text()
    assert page.answers()


def test_a_port_in_use_is_named_with_its_listener(running: Up, port: int, tmp_path: Path) -> None:
    other = Up(tmp_path / "other", port)
    assert other.ended() == 1
    assert f"ServiceError: Port {port} cannot be opened: " in other.text() and "listens there" in other.text() and "--port" in other.text()
    assert not (tmp_path / "other" / "postgres").exists()


def test_a_killed_code_server_comes_back_and_leaves_no_run_behind(running: Up, home: Path, page: DagsterPage) -> None:
    until((home / "run.pid").exists)
    run = int((home / "run.pid").read_text())
    assert psutil.pid_exists(run)
    command_of(home, "grpc").kill()
    running.until("code-server ended with SIGKILL, starting it again in 1 s.")
    running.until("code-server started again")
    assert not psutil.pid_exists(run)
    until(lambda: (status := page.status(0)) is not None and status.loaded)


def test_a_foreign_page_can_change_nothing(running: Up, port: int) -> None:
    """75, fault 70: Dagster alone would execute a mutation by GET, for any Host and any Origin."""
    address = f"http://127.0.0.1:{port}/graphql"
    forged = [
        urllib.request.Request(f"{address}?query=mutation%7Bx%7D"),
        urllib.request.Request(address, headers={"Origin": "http://evil.example"}),
        urllib.request.Request(address, headers={"Host": "evil.example"}),
    ]
    for request in forged:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        assert refused.value.code == 403
        refused.value.close()


def test_a_killed_database_is_started_again(running: Up, home: Path, page: DagsterPage) -> None:
    pid = int((home / "postgres" / "postmaster.pid").read_text().splitlines()[0])
    psutil.Process(pid).kill()
    # Whoever needs it first starts it: the supervisor, which says so, or a process that was using it.
    lock = home / "postgres" / "postmaster.pid"
    until(lambda: lock.exists() and lock.read_text().splitlines()[:1] not in ([], [str(pid)]))
    until(lambda: (status := page.status(0)) is not None and status.loaded)


def test_after_kill_9_of_it_nothing_but_the_database_remains_and_a_new_one_takes_over(running: Up, home: Path, port: int) -> None:
    running.process.kill()
    running.process.wait()
    # At once, while the guards still take the processes down: it waits for them.
    again = Up(home, port)
    again.until("Ready.")
    ours = ("-m dagster", "-m resources.webserver")
    remaining = [name for name in names(of_home(home)) if any(each in name for each in ours) and "guard.py" not in name]
    assert len(remaining) == 3, remaining
    again.process.send_signal(signal.SIGTERM)
    assert again.ended() == 0
    assert again.text().endswith("Stopping.\nStopped.\n")
    assert names(of_home(home)) == []
    assert not (home / "postgres" / "postmaster.pid").exists()
    assert not (home / "dagster" / "code.sock").exists()
    assert (home / "up.lock").read_text() == ""
    assert (home / "logs" / "daemon.log.1").exists()


def test_kill_9_of_everything_is_recovered_from_and_another_client_keeps_the_database(resting: Path, port: int) -> None:
    first = Up(resting, port)
    first.until("Starting webserver")
    for process in of_home(resting):
        process.kill()
    first.process.wait()
    time.sleep(1)
    assert names(of_home(resting)) == []
    assert (resting / "postgres" / "postmaster.pid").exists()
    second = Up(resting, port)
    second.until("Starting webserver")
    server = EmbeddedPostgres.start(Home(resting).database)
    connection = server._connect()
    second.process.send_signal(signal.SIGINT)
    assert second.ended() == 0
    assert "PostgreSQL keeps running: 1 other connections." in second.text()
    connection.close()
    server.stop()
    assert names(of_home(resting)) == []


def test_definitions_that_do_not_load_end_it_with_their_error(resting: Path, port: int) -> None:
    broken = Up(resting, port, module="tests.faces.no_such_definitions")
    assert broken.ended() == 1
    assert "ServiceError: code-server ended with code 1 while starting:" in broken.text()
    assert "No module named 'tests.faces.no_such_definitions'" in broken.text()
    assert names(of_home(resting)) == []
