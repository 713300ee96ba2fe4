"""One embedded PostgreSQL for the whole run, and a fresh ledger for each test that asks, copied from a migrated template."""

import itertools
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import psycopg2
import psycopg2.extensions
import pytest
import sqlalchemy as sa

from tests.network_guard import only_loopback as only_loopback
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.ledger.postgres import PostgresLedger, prepare_database
from trading_pipeline.domain.projections import TABLES

TEMPLATE = "ledger_template"
RESET = """
    SET session_replication_role = replica;
    DELETE FROM events; {deletes}
    DROP SCHEMA IF EXISTS paper CASCADE;
    UPDATE ledger_head SET environment = NULL, seq = 0, hash = decode(repeat('00', 32), 'hex');
"""
# What runs tests side by side sets a width for its workers, and people's shells do: the command's own is what is tested.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)
_numbers = itertools.count(1)
_free: list[str] = []


def pytest_configure() -> None:
    """A run in a shell's background ignores Ctrl-C, and so would every process that a test starts and interrupts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def short_home() -> Iterator[Path]:
    """A temporary folder whose path leaves room for a socket."""
    home = Path(tempfile.mkdtemp(prefix="tp-"))
    yield home
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """The server of this test run, with a migrated template database; what must survive a power cut has servers of its own."""
    home = Path(tempfile.mkdtemp(prefix="tp-"))
    server = EmbeddedPostgres.start(home / "postgres")
    execute(server.superuser_url(), "ALTER SYSTEM SET fsync = off")
    execute(server.superuser_url(), "SELECT pg_reload_conf()")
    server.ensure_database(TEMPLATE)
    prepare_database(server.owner_url(TEMPLATE))
    yield server
    stop_at_once(server)
    shutil.rmtree(home)


@pytest.fixture
def ledger_database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The name of an empty, prepared database on the server of this run; emptied and used again afterwards."""
    name = _free.pop() if _free else f"ledger_{next(_numbers)}"
    postgres.ensure_database(name, template=TEMPLATE)
    yield name
    execute(postgres.superuser_url(name), RESET.format(deletes=" ".join(f"DELETE FROM {table};" for table in TABLES)))
    _free.append(name)


@pytest.fixture
def postgres_ledger(postgres: EmbeddedPostgres, ledger_database: str) -> Iterator[PostgresLedger]:
    """A fresh ledger of the environment `demo`."""
    ledger = PostgresLedger.open(postgres.app_url(ledger_database), "demo")
    yield ledger
    ledger.close()


def connect(url: sa.URL) -> psycopg2.extensions.connection:
    """A plain connection in autocommit."""
    connection = psycopg2.connect(url.set(drivername="postgresql").render_as_string(hide_password=False))
    connection.autocommit = True
    return connection


def execute(url: sa.URL, statement: str, *values: object) -> None:
    """One statement on a connection of its own."""
    with closing(connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(statement, values or None)


def stop_at_once(server: EmbeddedPostgres) -> None:
    """End a server without its last checkpoint, and wait until it is gone."""
    with suppress(FileNotFoundError, psutil.NoSuchProcess):
        process = psutil.Process(int((server.data_dir / "postmaster.pid").read_text().split()[0]))
        process.send_signal(signal.SIGQUIT)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
