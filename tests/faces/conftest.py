"""A home of its own for each test of the command line, on a real ledger, with a replay that stands where the test puts it."""

import itertools
import json
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.conftest import TEMPLATE
from trading_pipeline.adapters.calendar import load_calendar
from trading_pipeline.adapters.clocks import Pace, ReplayClock
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.ledger.postgres import PostgresLedger
from trading_pipeline.adapters.market_data import samples
from trading_pipeline.bootstrap import open_desk
from trading_pipeline.domain.events import Event
from trading_pipeline.faces.cli.main import main
from trading_pipeline.service.desk import Desk
from trading_pipeline.settings import Settings

STRATEGY = """
name = "steady"
symbols = ["GOOG", "FB"]
mode = "{mode}"
interval = "1d"
[agent]
form = "expression"
enter_when = "close > 0"
[sizing]
method = "fraction"
fraction = 0.05
[limits]
max_order_value = {order}
"""


@dataclass(frozen=True)
class Said:
    """What one command line came to."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The answer of a command called with --json."""
        return json.loads(self.out)

    def error(self) -> dict[str, Any]:
        """The error of a command called with --json."""
        found: dict[str, Any] = json.loads(self.err.splitlines()[-1])
        return found

ASKED = "asked"
_copies = itertools.count(1)
_samples = cache(samples.read_samples)


class Shell:
    """Runs `trading` in this process, in a project folder of its own."""

    def __init__(
        self, project: Path, environment: Mapping[str, str], database: str, capture: pytest.CaptureFixture[str] | None,
    ) -> None:
        self.project = project
        self.home = project / ".trading" / "paper"
        self.environment = environment
        self.database = database
        self._capture = capture

    def __call__(self, *arguments: object) -> Said:
        assert self._capture is not None
        self._capture.readouterr()
        code = main([str(each) for each in arguments])
        captured = self._capture.readouterr()
        return Said(code, captured.out, captured.err)

    def attended(self, *arguments: object) -> Said:
        """Run `trading` in this process with a pseudo-terminal as its input: somebody is there, and is not asked."""
        keeper, terminal = pty.openpty()
        with pytest.MonkeyPatch.context() as monkeypatch, os.fdopen(terminal, encoding="utf-8") as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            try:
                return self(*arguments)
            finally:
                os.close(keeper)

    def strategy(self, text: str | None = None, *, mode: str = "approval", order: int = 10_000) -> Path:
        """A strategy file."""
        path = self.project / "strategy.toml"
        path.write_text(STRATEGY.format(mode=mode, order=order) if text is None else text)
        return path

    def at(self, new_york: str) -> None:
        """Let the replay stand at an instant of October 2012, New York: `2012-10-15T09:30:05`."""
        path = self.home / "clock.json"
        path.unlink(missing_ok=True)
        start, end = datetime.fromisoformat(f"{new_york}-04:00"), datetime.fromisoformat("2013-03-01T16:00:00-05:00")
        calendar = load_calendar(self.home / "cache")
        ReplayClock.create(path, market="samples", pace=Pace.INTRADAY, start=start, end=end, calendar=calendar, running=False)

    @contextmanager
    def desk(self) -> Iterator[Desk]:
        """The desk that the commands use."""
        with open_desk(Settings.load(self.home)) as desk:
            yield desk

    def events(self) -> list[Event]:
        """The whole ledger."""
        with closing(PostgresLedger.open(self.environment["TRADING_DATABASE_URL"], "paper")) as ledger:
            return ledger.events()

    def at_a_terminal(self, arguments: list[str], answers: dict[str, str], columns: int = 100) -> Said:
        """Run `trading` in a forked process on a pseudo-terminal, answering each question when it has appeared."""
        pid, terminal = pty.fork()
        if pid == 0:
            _at_the_terminal(self.project, arguments, columns)
        shown, waiting, end = b"", dict(answers), time.monotonic() + 60
        while time.monotonic() < end:
            if select.select([terminal], [], [], 0.2)[0]:
                try:
                    read = os.read(terminal, 65536)
                except OSError:
                    break
                if not read:
                    break
                shown += read
            for question in [each for each in waiting if each.encode() in shown]:
                os.write(terminal, waiting.pop(question).encode() + b"\n")
        os.close(terminal)
        return Said(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode(), "")

    def process(self, *arguments: str, **settings: Any) -> "subprocess.Popen[str]":
        """Start `trading` as a process of its own."""
        command = [sys.executable, "-c", "from trading_pipeline.faces.cli.__main__ import run; run()", *arguments]
        return subprocess.Popen(command, cwd=self.project, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings)


def _at_the_terminal(project: Path, arguments: list[str], columns: int) -> NoReturn:
    """The life of the forked process, which ends without a word to the test run that it is a copy of."""
    code = 70
    try:
        os.chdir(project)
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(columns)}
        streams = [open(number, mode, encoding="utf-8", closefd=False) for number, mode in ((0, "r"), (1, "w"), (2, "w"))]  # noqa: SIM115
        sys.stdin, sys.stdout, sys.stderr = streams
        code = main(arguments)
        for stream in streams[1:]:
            stream.flush()
    finally:
        os._exit(code)


def environment_of(postgres: EmbeddedPostgres, database: str, account: str) -> dict[str, str]:
    """Variables that put a home's ledger and paper broker into a database of the run's server."""
    return {
        "TRADING_DATABASE_URL": postgres.app_url(database).render_as_string(hide_password=False),
        "TRADING_OWNER_DATABASE_URL": postgres.owner_url(database).render_as_string(hide_password=False),
        "TRADING_PAPER__ACCOUNT": account,
    }


def enter(monkeypatch: pytest.MonkeyPatch, project: Path, environment: Mapping[str, str]) -> None:
    """Work in a project folder, with these settings and none of the machine's."""
    # The package's file is the same for every command of the run: read it once.
    monkeypatch.setattr(samples, "read_samples", _samples)
    for name in [each for each in os.environ if each.startswith("TRADING_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(project)


@pytest.fixture
def trading(
    tmp_path: Path, postgres: EmbeddedPostgres, ledger_database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> Shell:
    """The command line on an empty ledger, before the first cycle, at 09:30:05 on 2012-10-15."""
    environment = environment_of(postgres, ledger_database, f"PAPER-{tmp_path.name[-40:]}")
    enter(monkeypatch, tmp_path, environment)
    shell = Shell(tmp_path, environment, ledger_database, capsys)
    shell.home.mkdir(parents=True)
    shell.at("2012-10-15T09:30:05")
    return shell


@pytest.fixture(scope="session")
def asked_once(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which one cycle has run and proposals wait; its ledger is the database ASKED."""
    project = tmp_path_factory.mktemp("asked")
    postgres.ensure_database(ASKED, template=TEMPLATE)
    with pytest.MonkeyPatch.context() as monkeypatch:
        enter(monkeypatch, project, environment_of(postgres, ASKED, "PAPER-1"))
        shell = Shell(project, {}, ASKED, None)
        shell.home.mkdir(parents=True)
        shell.at("2012-10-15T09:30:05")
        path = str(shell.strategy())
        for arguments in (["strategy", "create", path], ["strategy", "start", "steady"], ["run"]):
            assert main(arguments) == 0
    return project


@pytest.fixture
def asked(
    tmp_path: Path, postgres: EmbeddedPostgres, asked_once: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> Shell:
    """A running strategy whose proposals wait for a person: a copy of `asked_once`."""
    database = f"asked_{next(_copies)}"
    postgres.ensure_database(database, template=ASKED)
    shutil.copytree(asked_once, tmp_path, dirs_exist_ok=True)
    environment = environment_of(postgres, database, "PAPER-1")
    enter(monkeypatch, tmp_path, environment)
    return Shell(tmp_path, environment, database, capsys)
