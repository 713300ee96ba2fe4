"""`kill -9` of everything in the middle of a cycle: supervisor, servers, runs, PostgreSQL. Then `trading up` again, as a stranger would.

What has to hold is the record: it verifies, no order went out twice, book and broker agree, and the replay goes on. Rounds kill
after different steps; `make kill-everything ROUNDS=20` plays more of them than the one of the test run.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from trading_pipeline import homes
from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.ledger.postgres import PostgresLedger
from trading_pipeline.adapters.strategy_files import parse_strategy
from trading_pipeline.bootstrap import open_desk
from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.ports import Home
from trading_pipeline.service import controls
from trading_pipeline.service.accounting import compare_with_broker
from trading_pipeline.settings import Environment, Settings

ROUNDS = int(os.environ.get("KILL_ROUNDS", "1"))
STEPS = ("verdicts", "orders", "signals", "bars", "fills", "indicators", "charts")
"""After which step everything is killed, round by round."""
TRADES_EVERY_SESSION = """
name = "{name}"
symbols = ["{symbol}"]
mode = "autonomous"
interval = "1d"
lifetime = "open"
[agent]
form = "expression"
enter_when = "close > 0"
max_bars = 1
[sizing]
method = "fraction"
fraction = 0.05
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180 * ROUNDS)]


@pytest.fixture
def home(short_home: Path) -> Iterator[Path]:
    """Three strategies that trade in every session of a quick replay, each on a stock of its own."""
    home = short_home / "home"
    calendar = load_calendar(home / "cache")
    stage = homes.stage_samples(calendar)
    homes.furnish(home, stage, Environment.PAPER)
    homes.begin_replay(home, stage, calendar, homes.default_start(stage, calendar), session_seconds=5)
    with open_desk(Settings.load(home)) as desk:
        for name, symbol in (("apples", "AAPL"), ("windows", "MSFT"), ("machines", "IBM")):
            controls.create(desk, parse_strategy(TRADES_EVERY_SESSION.format(name=name, symbol=symbol), name), actor="user:anna")
            controls.start(desk, name, actor="user:anna")
    yield home
    kill_everything(home)


def test_nothing_is_lost_and_nothing_is_sent_twice(home: Path) -> None:
    """6, 12, fault 2, fault 27."""
    for number in range(ROUNDS):
        killed_at = killed_in_a_cycle(home, STEPS[number % len(STEPS)])
        up = start(home)
        try:
            later_cycle(home, up, after=killed_at)
        finally:
            up.send_signal(signal.SIGINT)
            code = up.wait(60)
        assert code == 0, said(home)
        assert processes_of(home) == []
        check_the_record(home)


def killed_in_a_cycle(home: Path, step: str) -> Event:
    """Kill everything once a cycle has taken this step and not its last; the newest fact then."""
    up = start(home)
    with closing(ledger_of(home, up)) as ledger:
        seen = ledger.head()[0]

        def in_flight() -> Event | None:
            taken = [event for event in ledger.events(after=seen, types=(EventType.STEP_COMPLETED,)) if "1d@" in event.payload["cycle"]]
            return next((event for event in taken if event.payload["step"] == step), None)

        until(in_flight, up, home)
    kill_everything(home)
    up.wait()
    assert processes_of(home) == []
    with closing(ledger_of(home)) as ledger:
        return ledger.events(after=ledger.head()[0] - 1)[0]


def later_cycle(home: Path, up: "subprocess.Popen[bytes]", after: Event) -> None:
    """Wait until a cycle that began after this fact has run to its end; a person resumes what the lost run has paused."""
    with closing(ledger_of(home)) as ledger:
        sessions = {event.payload["session"] for event in ledger.events(types=(EventType.SESSION_OPENED,))}

        def gone_on() -> bool:
            for row in ledger.find("strategies", state="paused_risk"):
                assert row["reason"].startswith("run_failed"), row["reason"]
                trading(home, "strategy", "resume", row["name"])
            done = ledger.events(after=after.seq, types=(EventType.STEP_COMPLETED,))
            return any(e.payload["step"] == "portfolio_snapshots" and e.payload["session"] not in sessions for e in done)

        until(gone_on, up, home)


def check_the_record(home: Path) -> None:
    """What a person checks by hand after a power cut, and what only the ledger can tell."""
    trading(home, "verify")
    with open_desk(Settings.load(home)) as desk:
        assert compare_with_broker(desk) == []
        submitted = Counter(event.payload["client_id"] for event in desk.ledger.events(types=(EventType.ORDER_SUBMITTED,)))
        assert submitted
        assert set(submitted.values()) == {1}, submitted
        booked = {row["client_id"] for row in desk.ledger.find("orders")}
        assert submitted.keys() <= booked
        equity = None
        for event in desk.ledger.events(types=(EventType.SESSION_OPENED, EventType.SESSION_CLOSED)):
            if event.type is EventType.SESSION_OPENED:
                assert equity in (None, event.payload["baseline_equity"]), f"{event.payload['session']} begins where the last one closed"
            else:
                equity = event.payload["closing_equity"]
    assert processes_of(home) == []


# The machinery


def start(home: Path) -> "subprocess.Popen[bytes]":
    """`trading up` as a process group of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (home.parent / "said").open("ab") as output:
        argv = [*TRADING, "--home", str(home), "up", "--port", str(port)]
        return subprocess.Popen(argv, cwd=home.parent, env=ENVIRONMENT, stdout=output, stderr=output, start_new_session=True)


def trading(home: Path, *arguments: str) -> Any:
    """The answer of a command."""
    argv = [*TRADING, "--home", str(home), "--json", *arguments]
    done = subprocess.run(argv, cwd=home.parent, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout else None


ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("TRADING_", "DAGSTER_", "PYTHONPATH"))}
TRADING = (sys.executable, "-c", "from trading_pipeline.faces.cli.__main__ import run; run()")


def ledger_of(home: Path, up: "subprocess.Popen[bytes] | None" = None) -> PostgresLedger:
    """The ledger, once there is a server; nobody but `up` starts one here if it is given."""
    if up is not None:
        until((Home(home).database / "postmaster.pid").exists, up, home)
    server = EmbeddedPostgres.start(Home(home).database)
    return PostgresLedger.open(server.app_url(), "paper")


def processes_of(home: Path) -> list[psutil.Process]:
    """Every living process that has to do with the home: by its command line, its environment, its folder, or its parent."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            about = [*process.cmdline(), *process.environ().values(), process.cwd()]
            if process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE and any(str(home) in word for word in about):
                found |= {each.pid: each for each in (process, *process.children(recursive=True))}
    return [process for process in found.values() if process.is_running()]


def kill_everything(home: Path) -> None:
    """SIGKILL to all of them, again until nobody is left: somebody may have been born meanwhile."""
    while left := processes_of(home):
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=5)


def until(done: Callable[[], object], up: "subprocess.Popen[bytes]", home: Path, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert up.poll() is None, said(home)
        assert time.monotonic() < deadline, said(home)
        time.sleep(0.02)


def said(home: Path) -> str:
    """What `up` has said, and what the ledger tells of trouble: for a test that fails."""
    with open_desk(Settings.load(home)) as desk:
        states = [f"{row['name']} {row['state']} {row['reason']}" for row in desk.ledger.find("strategies")]
        newest = [f"{event.seq} {event.type} {event.payload_text[:200]}" for event in desk.ledger.events(after=desk.ledger.head()[0] - 25)]
        failed = [f"{event.seq} {event.type} {event.payload_text[:300]}" for event in desk.ledger.events(types=(EventType.RUN_FAILED,))]
    return "\n".join([(home.parent / "said").read_text(), *states, *failed, *newest])
