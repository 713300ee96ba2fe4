"""Ledgers of backtests in the home's PostgreSQL server: each in a database of its own, opened like any other ledger.

A database is called after the home's ledger and the backtest, `trading.bt-03603948e0`, and its comment says what it holds, so that
one query lists them all. Events are copied in bulk behind those that are there already, whole sessions at a time; what a killed run
left is a prefix, which the next run of the same plan is held against and goes on from. A prefix that differs is made anew.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from trading_pipeline.adapters.code_version import code_version
from trading_pipeline.adapters.ledger import queries
from trading_pipeline.adapters.ledger.connecting import engine_for
from trading_pipeline.adapters.ledger.database_errors import translating
from trading_pipeline.adapters.ledger.migrations import REVISION
from trading_pipeline.adapters.ledger.postgres import PostgresLedger, is_prepared, prepare_database
from trading_pipeline.adapters.ledger.sealed import SealedLedger
from trading_pipeline.adapters.ledger.statements import fetched
from trading_pipeline.domain.backtests import BacktestPlan
from trading_pipeline.domain.codec import decode, encode
from trading_pipeline.domain.events import instant_from, instant_text
from trading_pipeline.domain.projections import TABLES
from trading_pipeline.errors import Conflict, InputError, LedgerUnavailable, SettingsError, UnknownName
from trading_pipeline.ports import Ledger

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
_TEMPLATE = f"template-{REVISION}"
_LONGEST = 63
"""Bytes of a name in PostgreSQL, which cuts a longer one off without a word."""
_MADE_MEANWHILE, _IN_USE = ("42P04", "23505"), "55006"
"""PostgreSQL's states: duplicate_database, also as a unique violation while it is made; object_in_use."""
_OTHERS_CONNECTED = ("42501", "55006")
"""The same, and insufficient_privilege: an owner may not end another role's connections."""
_COMMENT = sa.text("SELECT format('COMMENT ON DATABASE %I IS %L', CAST(:database AS text), CAST(:said AS text))")
"""COMMENT takes no parameters; the server quotes them, whatever they hold."""
_COPY_TRIES = 40
_COPY_PAUSE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Stored:
    """A backtest that is stored, whole or as far as its run came."""

    name: str
    plan: BacktestPlan
    engine: str
    why: str
    version: str
    """Of the code that ran it, see `code_version`."""
    digest: str
    """Of the bars, as the bench had it."""
    data: tuple[str, ...]
    """The folders its bars came from; empty: the home's market."""
    assumptions: tuple[str, ...]
    sessions: int
    """That are stored, of the plan's."""
    marks: Mapping[str, Decimal]
    """By symbol, the last close in USD a share of the sessions that are stored: what is still held then is valued at it."""
    complete: bool
    stored_at: datetime
    """When it was last written to, by the machine's clock."""

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        data: dict[str, Any] = encode(self)
        return data | {"type": "backtest"}


class BacktestDatabases:
    """The stored backtests of one home."""

    def __init__(self, app: sa.URL, owner: sa.URL | None, maker: sa.URL | None, revive: Callable[[], object] | None = None) -> None:
        """Nothing is asked yet.

        Args:
            app: The application's role on the home's own ledger.
            owner: The role that owns ledgers; None where the settings do not name it: then backtests are read, not stored.
            maker: A role that may create and drop databases.
        """
        self._app, self._owner, self._maker, self._revive = app, owner, maker, revive
        self._prefix = f"{app.database}."

    # Reading

    def all(self) -> list[Stored]:
        """Every stored backtest, the newest first."""
        text = "SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database WHERE starts_with(datname, :prefix)"
        with self._on(self._app) as connection:
            rows = connection.execute(sa.text(text), {"prefix": self._prefix}).all()
        found = [_stored(name.removeprefix(self._prefix), comment) for name, comment in rows if comment is not None]
        return sorted(found, key=lambda each: (each.stored_at, each.name), reverse=True)

    def find(self, name: str) -> Stored | None:
        """One by its name, if it is there."""
        text = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = :name"
        with self._on(self._app) as connection:
            comment = connection.execute(sa.text(text), {"name": self._database(name)}).scalar()
        return None if comment is None else _stored(name, comment)

    def get(self, name: str) -> Stored:
        """One by its name or a beginning that only it has; UnknownName otherwise."""
        found = [each for each in self.all() if each.name == name] or [each for each in self.all() if each.name.startswith(name)]
        if len(found) == 1:
            return found[0]
        names = ", ".join(each.name for each in (found or self.all())[:8])
        raise UnknownName(
            f"{len(found)} backtests are called {name!r}." if found else f"There is no backtest {name!r}.", value=name,
            rule="a stored backtest is named by its name, or a beginning that only it has",
            remedy=f"choose one of {names}" if names else "run one with `trading backtest STRATEGY --from DATE --to DATE`",
        )

    @contextmanager
    def reading(self, stored: Stored) -> Iterator[Ledger]:
        """Its ledger, sealed; one that an older version has stored is migrated first."""
        if self._owner is not None and not is_prepared(self._url(self._app, stored.name)):
            prepare_database(self._url(self._owner, stored.name), self._app.username or "trading_app")
        ledger = PostgresLedger.open(self._url(self._app, stored.name), "backtest", revive=self._revive)
        try:
            yield SealedLedger(ledger, stored.name)
        finally:
            ledger.close()

    # Writing

    @contextmanager
    def writing(self, name: str) -> Iterator["Writer"]:
        """The ledger of one backtest, by one process at a time.

        Raises:
            Conflict: Another process runs the same backtest.
            SettingsError: Nobody here may create a database.
            InputError: The name is none.
        """
        if not NAME.fullmatch(name) or name == _TEMPLATE:
            raise InputError(
                f"{name!r} cannot name a backtest.", value=name, rule="1 to 31 of a-z, 0-9 and hyphen, a letter or digit first",
                remedy="choose another name",
            )
        longest = max(name, _TEMPLATE, key=len)
        if len(self._database(longest).encode()) > _LONGEST:
            raise InputError(
                f"{self._database(longest)!r} is too long for a database.", value=name,
                rule=f"the ledger's database and the backtest's name have at most {_LONGEST - 1} bytes together",
                remedy="choose a shorter --name, or a ledger database with a shorter name",
            )
        if self._owner is None or self._maker is None:
            raise SettingsError(
                "Backtests cannot be stored: no role that owns the ledger is set.", value="owner_database_url",
                rule="each stored backtest has a database of its own, which the owner makes",
                remedy="set TRADING_OWNER_DATABASE_URL to a role that may create databases, or run with --no-store",
            )
        lock = {"name": f"backtest {self._database(name)}"}
        with self._on(self._app) as connection:
            if not connection.execute(sa.text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))"), lock).scalar():
                raise Conflict(
                    f"Another process runs the backtest {name}.", value=name, rule="one writes a ledger at a time",
                    remedy="wait for it, or store this one under another name with --name",
                )
            try:
                yield Writer(self, name)
            finally:
                # The server gives back what a closed connection held in its own time: the next writer may be there first.
                with suppress(sa.exc.SQLAlchemyError):
                    connection.execute(sa.text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))"), lock)

    def remove(self, name: str) -> None:
        """Drop a stored backtest; Conflict while it runs."""
        with self.writing(name):
            self._drop(name)

    def _database(self, name: str) -> str:
        return f"{self._prefix}{name}"

    def _url(self, role: sa.URL, name: str) -> sa.URL:
        return role.set(database=self._database(name))

    @contextmanager
    def _on(self, url: sa.URL) -> Iterator[sa.Connection]:
        """A connection of its own, each statement by itself."""
        engine = engine_for(url, self._revive, pooled=False)
        try:
            with translating(), engine.connect() as connection:
                yield connection
        finally:
            engine.dispose()

    def _create(self, name: str) -> None:
        """An empty, prepared database: a copy of one that is made with the first backtest."""
        assert self._owner is not None and self._maker is not None
        if self.find(name) is not None:
            return
        self._make(_TEMPLATE, "template1")
        if not is_prepared(self._url(self._app, _TEMPLATE)):
            prepare_database(self._url(self._owner, _TEMPLATE), self._app.username or "trading_app")
        self._make(name, self._database(_TEMPLATE))

    def _make(self, name: str, template: str) -> None:
        assert self._owner is not None and self._maker is not None
        with self._on(self._maker) as connection:
            quoted = connection.dialect.identifier_preparer.quote
            database, owner, app = (quoted(each or "") for each in (self._database(name), self._owner.username, self._app.username))
            there = connection.execute(sa.text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": self._database(name)}).scalar()
            if not there:
                _create_patiently(connection, f"CREATE DATABASE {database} OWNER {owner} TEMPLATE {quoted(template)}")
            connection.execute(sa.text(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC"))
            connection.execute(sa.text(f"GRANT CONNECT ON DATABASE {database} TO {app}"))

    def _drop(self, name: str) -> None:
        assert self._maker is not None
        with self._on(self._maker) as connection:
            quoted = connection.dialect.identifier_preparer.quote(self._database(name))
            try:
                connection.execute(sa.text(f"DROP DATABASE IF EXISTS {quoted} WITH (FORCE)"))
            except sa.exc.DBAPIError as error:
                if getattr(error.orig, "pgcode", None) not in _OTHERS_CONNECTED:
                    raise
                raise Conflict(
                    f"Somebody reads the backtest {name}.", value=name, rule="it is deleted when nobody is connected to it",
                    remedy="end the command that reads it, and try again",
                ) from error


class Writer:
    """Writes one backtest's ledger; made by `BacktestDatabases.writing`."""

    def __init__(self, databases: BacktestDatabases, name: str) -> None:
        self._databases = databases
        self.name = name
        self._head: tuple[int, bytes] | None = None
        self._replaced = False

    @property
    def replaced(self) -> bool:
        """Whether something else was stored under this name, and is gone."""
        return self._replaced

    def append(self, ledger: Ledger, about: Mapping[str, Any], *, whole: bool = False) -> bool:
        """Store what the ledger has beyond the stored head, in one commit; False while it has not come that far yet.

        A stored prefix that is no prefix of this ledger is dropped: other bars, another version, or recordings that came since.

        Args:
            about: What the database's comment says of it.
            whole: The run is over: what is stored beyond it is none of it.
        """
        stored = self._stored_head()
        if ledger.head()[0] < stored[0] and not whole:
            return False
        same = ledger.event(stored[0])
        if stored[0] and (same is None or same.hash != stored[1]):
            self.clear()
            stored = self._stored_head()
        databases = self._databases
        assert databases._owner is not None
        engine = engine_for(databases._url(databases._owner, self.name), databases._revive, pooled=False)
        try:
            with translating(), engine.connect() as raw:
                connection = raw.execution_options(isolation_level="READ COMMITTED")
                with connection.begin():
                    connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
                    fetched(connection, queries.LOCK_HEAD)
                    queries.copy_events(connection, ledger.scan(stored[0] + 1))
                    for table in TABLES:
                        queries.replace_all(connection, table, ledger.dump(table))
                    if not stored[0]:
                        connection.execute(queries.STAMP, {"stamped": ledger.environment})
                    said = {"database": databases._database(self.name), "said": json.dumps(dict(about), sort_keys=True)}
                    comment: str = connection.execute(_COMMENT, said).scalar_one()
                    connection.exec_driver_sql(comment, execution_options={"no_parameters": True})
        finally:
            engine.dispose()
        self._head = ledger.head()
        return True

    def clear(self) -> None:
        """Drop what is stored under this name."""
        self._databases._drop(self.name)
        self._head, self._replaced = None, True

    def _stored_head(self) -> tuple[int, bytes]:
        if self._head is None:
            self._databases._create(self.name)
            with self._databases._on(self._databases._url(self._databases._app, self.name)) as connection:
                [(seq, hash_)] = fetched(connection, queries.READ_HEAD)
            self._head = seq, bytes(hash_)
        return self._head


def about(
    plan: BacktestPlan, *, engine: str, why: str, digest: str, data: tuple[str, ...], assumptions: tuple[str, ...], sessions: int,
    marks: Mapping[str, Decimal], complete: bool, at: datetime,
) -> dict[str, Any]:
    """What is written beside a stored backtest."""
    return {
        "plan": encode(plan), "engine": engine, "why": why, "version": code_version(), "digest": digest, "data": list(data),
        "assumptions": list(assumptions), "sessions": sessions,
        "marks": {symbol: f"{mark:f}" for symbol, mark in marks.items()}, "complete": complete, "stored_at": instant_text(at),
    }


def _stored(name: str, comment: str) -> Stored:
    said = json.loads(comment)
    return Stored(
        name, decode(BacktestPlan, said["plan"]), said["engine"], said["why"], said["version"], said["digest"], tuple(said["data"]),
        tuple(said["assumptions"]), said["sessions"], {symbol: Decimal(mark) for symbol, mark in said.get("marks", {}).items()},
        said["complete"], instant_from(said["stored_at"]),
    )


def _create_patiently(connection: sa.Connection, statement: str) -> None:
    """Run a statement that fails while somebody else is connected to the template, which is never for long."""
    for tries in range(_COPY_TRIES):
        try:
            connection.execute(sa.text(statement))
        except sa.exc.DBAPIError as error:
            state = getattr(error.orig, "pgcode", None)
            if state in _MADE_MEANWHILE:
                return
            if state != _IN_USE:
                raise
            if tries == _COPY_TRIES - 1:
                raise LedgerUnavailable(
                    "The template of stored backtests is in use.", rule="it is copied while nobody is connected to it",
                    remedy="wait a moment, and run the backtest again",
                ) from error
            time.sleep(_COPY_PAUSE_SECONDS)
        else:
            return
