"""Dagster's storage on PostgreSQL: the home's embedded server, or a server of one's own by URL.

Named in dagster.yaml as `storage: {custom: {module: resources.storage, class: TradingPostgresStorage}}`, so every Dagster
process finds the database by itself. It differs from `DagsterPostgresStorage` in three things: it starts or finds the
server, it keeps connections (dagster-postgres opens one per event: 17 ms instead of 4), and its commits do not wait for the
disk, because Dagster's event log is not the record.
It never stops the server, which outlives its clients: `trading up` and `trading demo` do.
"""

import os
import select
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import dagster as dg
import psycopg2
from dagster._config import UserConfigSchema
from dagster._core.storage.base_storage import DagsterStorage
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage, PostgresRunStorage, PostgresScheduleStorage
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DisconnectionError

from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.current_home import HOME_VARIABLE, current_home
from trading_pipeline.errors import SettingsError
from trading_pipeline.ports import Home

_CREATION_LOCK = 0x7472_6164
"""Any fixed number: one process at a time creates the tables."""


def _engine_of(url: str, *, kept: int, most: int, recycle_seconds: int = 3600, statement_timeout_ms: int = 0) -> Engine:
    """A pool that notices a restarted server before a query does."""
    options = f"-c synchronous_commit=off -c statement_timeout={statement_timeout_ms}"
    engine = create_engine(
        url, isolation_level="AUTOCOMMIT", pool_size=kept, max_overflow=most, pool_recycle=recycle_seconds,
        connect_args={"options": options},
    )
    event.listen(engine, "checkout", _ask_if_spoken_to)
    return engine


def _ask_if_spoken_to(connection: Any, _record: Any, _proxy: Any) -> None:
    """SQLAlchemy's pre-ping asks before every use, two hundred times a run. A server that has gone has closed its end: that can be read."""
    heard = select.poll()
    heard.register(connection, select.POLLIN)
    if heard.poll(0):
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except psycopg2.Error as error:
            raise DisconnectionError from error


class _Pooled:
    """Puts a pool under a storage of dagster-postgres, which hard-codes NullPool."""

    _engine: Engine
    postgres_url: str

    def pooled(self, engine: Engine) -> Self:
        self._engine = engine
        return self

    def optimize_for_webserver(self, statement_timeout: int, pool_recycle: int, max_overflow: int) -> None:
        """As dagster-postgres does, keeping the liveness check."""
        self._engine = _engine_of(
            str(self._engine.url.render_as_string(hide_password=False)), kept=1, most=max_overflow, recycle_seconds=pool_recycle,
            statement_timeout_ms=statement_timeout,
        )

    def dispose(self) -> None:
        """Close idle connections, so that nobody seems attached to the server."""
        super().dispose()  # type: ignore[misc]
        self._engine.dispose()


class _Runs(_Pooled, PostgresRunStorage):
    pass


class _Events(_Pooled, PostgresEventLogStorage):
    pass


class _Schedules(_Pooled, PostgresScheduleStorage):
    pass


class TradingPostgresStorage(DagsterPostgresStorage):
    """Runs, events and schedules in one database, over one small pool a process."""

    def __init__(self, postgres_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        """Connect, creating the tables if absent.

        Args:
            postgres_url: With the driver psycopg2; bare `postgresql://` means psycopg 3 to SQLAlchemy 2.1.
            inst_data: What dagster.yaml said.
        """
        self.postgres_url = postgres_url
        self.should_autocreate_tables = True
        self._inst_data = inst_data
        engine = _engine_of(postgres_url, kept=2, most=20)
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _CREATION_LOCK})
            try:
                self._run_storage = _Runs(postgres_url).pooled(engine)
                self._event_log_storage = _Events(postgres_url).pooled(engine)
                self._schedule_storage = _Schedules(postgres_url).pooled(engine)
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _CREATION_LOCK})
        # Not DagsterPostgresStorage's, which would make its own three storages without a pool.
        DagsterStorage.__init__(self)  # type: ignore[no-untyped-call, arg-type]

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """`home`: a home's folder; `database_url`: a server instead of the home's. Both may be `{env: NAME}`, both may lack."""
        return {
            "home": dg.Field(dg.StringSource, is_required=False),
            "database_url": dg.Field(dg.StringSource, is_required=False),
        }

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Start or find the server, create database and tables if absent, and attach.

        Raises:
            SettingsError: `database_url` is no URL of a PostgreSQL.
            LedgerUnavailable: The embedded server does not start.
        """
        given = config_value.get("home")
        home = Path(given).absolute() if given else current_home()
        if not given or os.environ.get("DAGSTER_HOME") == str(Home(home).dagster):
            # The desk, and processes started later, shall work on the same home, even if a demo makes another meanwhile.
            os.environ.setdefault(HOME_VARIABLE, str(home))
        url = config_value.get("database_url")
        return cls(_with_driver(url) if url else _embedded_url(home), inst_data)

    @property
    def run_storage_data(self) -> None:
        """None: Dagster would rebuild dagster-postgres' own class from it."""
        return

    @property
    def event_storage_data(self) -> None:
        """None, as above."""
        return

    @property
    def schedule_storage_data(self) -> None:
        """None, as above."""
        return


def _with_driver(url: str) -> str:
    parsed = make_url(url)
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise SettingsError(
            f"Dagster's database is given as {parsed.get_backend_name()}.", value=parsed.get_backend_name(),
            rule="Dagster's storage is a PostgreSQL", remedy="give a URL that begins with postgresql://",
        )
    return parsed.set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)


def _embedded_url(home: Path) -> str:
    server = EmbeddedPostgres.start(Home(home).database)
    return server.dagster_url().render_as_string(hide_password=False)
