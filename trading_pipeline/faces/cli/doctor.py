"""`trading doctor`: is everything here that trading needs, and what to do where it is not.

Each check is one line: ok, warn or fail, with the remedy; a fail makes the exit code 1. Settings are listed without secrets.
"""

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from trading_pipeline.current_home import made_at
from trading_pipeline.domain.money import usd
from trading_pipeline.errors import TradingError
from trading_pipeline.faces.cli.invocation import Invocation, command
from trading_pipeline.faces.cli.limits import UNCONFIRMED
from trading_pipeline.faces.cli.output import Column, new_york, word

if TYPE_CHECKING:
    from trading_pipeline.settings import Settings

LEAST_PYTHON = (3, 11)
CALENDAR_DAYS = 30
"""A calendar that ends sooner is alarmed about (invariant 70)."""
LOW_DISK, NO_DISK = 5 * 1024**3, 512 * 1024**2
LIBRARIES = (
    "dagster", "dagster-webserver", "sqlalchemy", "psycopg2-binary", "TA-Lib", "pandas", "numpy", "pyarrow", "exchange_calendars",
    "matplotlib",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the answer; `state` is ok, warn or fail."""

    what: str
    state: str
    found: str
    remedy: str = ""


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""
    command(app, "doctor", panel=panel)(doctor)


def doctor(call: Invocation) -> None:
    """Check settings, folders, ports, ledger, calendar and libraries."""
    findings: list[Finding] = []
    settings: Settings | None = None
    try:
        settings = call.settings()
        findings.append(Finding("settings", "ok", f"read for {call.home}"))
    except TradingError as error:
        findings.append(_failed("settings", error))
    with call.output.working("Examining"):
        for check in _checks(call.home, settings):
            findings.extend(check())
    shown = settings.shown() if settings is not None else {}
    data = {"findings": [asdict(finding) for finding in findings], "settings": shown}

    def text() -> None:
        call.output.table(
            [Column("CHECK"), Column("STATE"), Column("FOUND", wrap=True), Column("REMEDY", wrap=True)],
            [[f.what, word(f.state), f.found, f.remedy] for f in findings],
        )
        if shown:
            call.output.heading("Settings")
            call.output.pairs(dict(_flat(shown)))

    call.output.answer(data, text)
    if any(finding.state == "fail" for finding in findings):
        raise typer.Exit(1)


Check = Callable[[], Iterator[Finding]]


def _checks(home: Path, settings: "Settings | None") -> list[Check]:
    checks: list[Check] = [lambda: _stop(home), _python, _libraries, _talib, _user, _keys]
    checks += [lambda: _folder(home), lambda: _disk(home), lambda: _calendar(home)]
    if settings is not None:
        checks += [lambda: _port(home, settings.webserver_port), lambda: _ledger(home, settings)]
        checks.append(lambda: _models(home, settings))
    return checks


def _stop(home: Path) -> Iterator[Finding]:
    from trading_pipeline.adapters.latch_files import LatchFiles

    account = next((stop for stop in LatchFiles(home / "stops").stops() if stop.strategy is None), None)
    if account is None:
        yield Finding("emergency stop", "ok", "none of the account is in force")
    else:
        yield Finding("emergency stop", "fail", f"by {account.actor}: {account.reason}", "trading stop review")


def _python() -> Iterator[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] < LEAST_PYTHON:
        yield Finding("python", "fail", version, "use Python 3.11 or newer")
    else:
        yield Finding("python", "ok", version)


def _libraries() -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    found, missing = [], []
    for name in ("trading-pipeline", *LIBRARIES):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        yield Finding("libraries", "fail", f"missing: {', '.join(missing)}", "install the dependencies again: make setup")
    else:
        yield Finding("libraries", "ok", ", ".join(found))


def _talib() -> Iterator[Finding]:
    try:
        import talib

        yield Finding("TA-Lib", "ok", str(talib.__version__))
    except ImportError as error:
        yield Finding("TA-Lib", "fail", str(error), "install the dependencies again: make setup")


def _user() -> Iterator[Finding]:
    if os.geteuid() == 0:
        yield Finding("user", "warn", "root", "trade as a user of its own; PostgreSQL is run as another one")
    else:
        yield Finding("user", "ok", f"uid {os.geteuid()}")


def _folder(home: Path) -> Iterator[Finding]:
    nearest = _nearest(home)
    try:
        with tempfile.TemporaryFile(dir=nearest) as probe:
            probe.write(b"x")
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        yield Finding("home", "fail", f"{nearest}: {error.strerror}", "give yourself write permission, or use another home with --home")
        return
    yield Finding("home", "ok", f"{home} is writable" if home.is_dir() else f"{home} does not exist yet and can be made")


def _disk(home: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(_nearest(home)).free
    state = "fail" if free < NO_DISK else "warn" if free < LOW_DISK else "ok"
    yield Finding("disk", state, f"{free / 1024**3:,.1f} GiB free", "" if state == "ok" else "make room: a full disk stops trading")


def _calendar(home: Path) -> Iterator[Finding]:
    from trading_pipeline.adapters.calendar import load_calendar

    try:
        horizon = load_calendar(home / "cache" if home.is_dir() else None).horizon.day
    except (TradingError, ImportError, ValueError) as error:
        yield Finding("calendar", "fail", str(error), "update exchange_calendars")
        return
    if horizon < (datetime.now(UTC) + timedelta(days=CALENDAR_DAYS)).date():
        yield Finding("calendar", "fail", f"known until {horizon}", "update exchange_calendars")
    else:
        yield Finding("calendar", "ok", f"XNYS until {horizon}")


def _port(home: Path, port: int) -> Iterator[Finding]:
    from trading_pipeline.adapters.home_lock import holder_of

    holder = holder_of(home)
    if holder is not None:
        yield Finding("port", "ok", f"this home runs: {holder}")
        return
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            yield Finding("port", "warn", f"{port} is taken ({error.strerror})", "set webserver_port, or give `trading up` another --port")
            return
    yield Finding("port", "ok", f"{port} is free for Dagster's page")


def _ledger(home: Path, settings: "Settings") -> Iterator[Finding]:
    if settings.database_url is None and made_at(home) is None:
        yield Finding("ledger", "ok", "none yet; the first command that needs one makes it")
        return
    from trading_pipeline.bootstrap import open_desk
    from trading_pipeline.service.account_limits import standing
    from trading_pipeline.service.record.verification import verify

    try:
        with open_desk(settings) as desk:
            report = verify(desk.ledger)
            now = desk.now()
            loosened = standing(desk, desk.ledger).unconfirmed
    except TradingError as error:
        yield _failed("ledger", error)
        return
    if report.difference is not None:
        remedy = "a table alone is mended by `trading rebuild`; else restore a backup"
        yield Finding("ledger", "fail", f"does not verify: {report.difference}", remedy)
    else:
        head = f"head {report.head_seq} {report.head_hash[:16]}"
        yield Finding("ledger", "ok", f"{report.environment}, {report.events:,} events verified, {head}")
    if loosened:
        yield Finding("limits", "warn", f"{UNCONFIRMED}: {', '.join(loosened)}", "trading limits")
    yield Finding("market clock", "ok", f"{settings.market.clock.value}, {new_york(now)} New York")


def _models(home: Path, settings: "Settings") -> Iterator[Finding]:
    """Who can be asked, and whether what is paid for it can be read."""
    from trading_pipeline.adapters.llm.providers import open_providers
    from trading_pipeline.adapters.prices import load_prices
    from trading_pipeline.ports import Home

    wanted = settings.model
    try:
        llms = open_providers(settings, Home(home))
        load_prices(home, wanted.claude_code.max_cost_per_call)
    except TradingError as error:
        yield _failed("models", error)
        return
    for llm in llms.values():
        llm.close()
    who = ", ".join(sorted(llms)) or "nobody but the rules agent: no key is set, and Claude Code is not there"
    bounds = f"{usd(wanted.budget_per_day)} a day, {wanted.calls_per_hour} calls an hour"
    yield Finding("models", "ok", f"{who}; {bounds}, cassette {wanted.cassette}")


def _keys() -> Iterator[Finding]:
    from dotenv import dotenv_values

    from trading_pipeline.settings import MODEL_KEYS, OWNER_VARIABLE

    file = Path(".env")
    if not file.is_file() or not file.stat().st_mode & 0o077:
        return
    found = [
        name for name, value in dotenv_values(file).items()
        if value and (name.removeprefix("TRADING_") in MODEL_KEYS or name == OWNER_VARIABLE)
    ]
    if found:
        yield Finding("keys", "warn", f"{', '.join(found)} in {file.absolute()}, which others may read", "chmod 600 .env")


def _failed(what: str, error: TradingError) -> Finding:
    return Finding(what, "fail", error.message, error.remedy)


def _nearest(folder: Path) -> Path:
    """The folder, or the closest one above it that exists."""
    return next(each for each in (folder, *folder.parents) if each.is_dir())


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", ", ".join(str(each) for each in value) if isinstance(value, list) else str(value)
