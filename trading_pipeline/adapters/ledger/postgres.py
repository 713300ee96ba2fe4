"""The ledger in PostgreSQL. Writers take turns on the locked row of `ledger_head`, so seq has no gaps whatever rolls back.

A transaction is few round trips: lock the head, look for keys, prefetch rows, then at the end one insert (a trigger of it moves
the head), one upsert a table, COMMIT. When the connection dies at COMMIT the outcome is read back by the newest event's key.
Sessions set synchronous_commit and their time-outs themselves. Nothing that may have been written is ever retried.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from trading_pipeline.adapters.ledger import leases, queries
from trading_pipeline.adapters.ledger.connecting import engine_for
from trading_pipeline.adapters.ledger.database_errors import translated, translating
from trading_pipeline.adapters.ledger.draft import Draft, WallClock, wall_now
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.ledger.migrations import REVISION, migrate, revision_of
from trading_pipeline.adapters.ledger.opening import check_environment, opened_event
from trading_pipeline.adapters.ledger.selection import plain, selection, table_named
from trading_pipeline.adapters.ledger.statements import fetched
from trading_pipeline.adapters.ledger.transaction import Known, PostgresTransaction, headless
from trading_pipeline.domain.derivation import Derivation, collector_paused
from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.domain.projections import Row
from trading_pipeline.errors import LedgerCorrupt, LedgerUnavailable, SettingsError
from trading_pipeline.ports import LEASE_SECONDS, Fence, Health

T = TypeVar("T")


def prepare_database(owner_url: sa.URL | str, app_role: str = "trading_app") -> None:
    """Create or migrate the ledger's tables as their owner, and grant the application's role (which exists) what it needs."""
    engine = engine_for(owner_url)
    try:
        with translating(), engine.begin() as connection:
            migrate(connection, app_role)
    finally:
        engine.dispose()


class PostgresLedger:
    """A `Ledger` in a PostgreSQL database; make one with `open` or `for_home`."""

    def __init__(self, engine: sa.Engine, reading: sa.Engine, leases: sa.Engine, environment: str, clock_wall: WallClock) -> None:
        self._engine = engine
        self._reading = reading
        self._leases = leases
        self._environment = environment
        self._clock_wall = clock_wall
        self._known: Known | None = None

    @classmethod
    def open(
        cls, url: sa.URL | str, environment: str, *, clock_wall: WallClock = wall_now, opened_at: datetime | None = None,
        revive: Callable[[], object] | None = None,
    ) -> "PostgresLedger":
        """Open a prepared database as the application's role; the first opening stamps the environment.

        Args:
            url: `postgresql+psycopg2://...` of a role that may insert and select events, no more.
            environment: live, paper, backtest or demo.
            clock_wall: What `recorded_at` is read from.
            opened_at: Market time of the first event, `ledger.opened`; the wall clock when None.
            revive: Called once when the server cannot be reached, before the second try.

        Raises:
            EnvironmentMismatch: It is another environment's ledger.
            SettingsError: The role could rewrite history.
            LedgerCorrupt: The schema is absent or of another version.
        """
        opening = opened_event(environment, opened_at or clock_wall())
        engine = engine_for(url, revive)
        ledger = cls(engine, engine_for(url, revive, reading=True), engine_for(url, revive, pooled=False), environment, clock_wall)
        with ExitStack() as refused:
            refused.callback(ledger.close)
            ledger._read(_check_database)
            with ledger.transaction() as transaction:
                stamped = transaction.stamped
                if stamped is None:
                    transaction.stamp(environment)
                    transaction.append(opening)
            check_environment(environment if stamped is None else stamped, environment)
            refused.pop_all()
        return ledger

    @classmethod
    def for_home(
        cls, home: Path, environment: str, url: str | None = None, owner_url: str | None = None, *, clock_wall: WallClock = wall_now,
        opened_at: datetime | None = None,
    ) -> "PostgresLedger":
        """The ledger of a home: on the server given, or on the embedded one in `home/postgres`, started when it does not run.

        Args:
            url: The application's role on a given server; None for the embedded one.
            owner_url: The owner's role on a given server; with it the tables are created and migrated here.
        """
        if url is not None:
            if owner_url is not None:
                prepare_database(owner_url, sa.make_url(url).username or "trading_app")
            return cls.open(url, environment, clock_wall=clock_wall, opened_at=opened_at)
        folder = home / "postgres"
        server = EmbeddedPostgres.start(folder)
        if not is_prepared(server.app_url()):
            prepare_database(server.owner_url())
        return cls.open(
            server.app_url(), environment, clock_wall=clock_wall, opened_at=opened_at, revive=lambda: EmbeddedPostgres.start(folder)
        )

    @property
    def environment(self) -> str:
        """As stamped."""
        return self._environment

    # Writing

    @contextmanager
    def transaction(self) -> Iterator["PostgresTransaction"]:
        """Begin a serialised write; LedgerUnavailable when the head is not had within ten seconds."""
        with translating():
            connection, head = self._begin()
        try:
            transaction = PostgresTransaction(connection, *head, self._known, self._clock_wall)
            yield transaction
            transaction.finish()
            self._commit(connection, transaction.draft)
            self._known = transaction.known()
        finally:
            # After a commit there is nothing to roll back; on a dead connection it fails, and what raised is what counts.
            with suppress(sa.exc.SQLAlchemyError):
                connection.rollback()
            connection.close()

    def _begin(self) -> tuple[sa.Connection, tuple[int, bytes, str | None]]:
        """A connection that holds the head; a pooled one that turns out dead has done nothing yet and is replaced."""
        for last in (False, True):
            connection = self._engine.connect()
            try:
                connection.begin()
                if head := fetched(connection, queries.LOCK_HEAD):
                    return connection, (head[0][0], bytes(head[0][1]), head[0][2])
                raise LedgerCorrupt(
                    "The ledger has no head.", rule="ledger_head has one row", remedy="restore a backup, or prepare the database anew"
                )
            except BaseException as error:
                connection.close()
                if last or not _is_disconnect(error):
                    raise
        raise AssertionError("unreachable")

    def _commit(self, connection: sa.Connection, draft: Draft) -> None:
        try:
            connection.commit()
        except sa.exc.SQLAlchemyError as error:
            if draft.events and not self._was_committed(draft, error):
                raise translated(error) from error

    def _was_committed(self, draft: Draft, error: sa.exc.SQLAlchemyError) -> bool:
        """Whether the events of a COMMIT without an answer are there; waits for the head, which that COMMIT may still hold."""
        newest = draft.events[-1]
        try:
            connection, _ = self._begin()
            with connection:
                found = queries.event_by_key(connection, newest.key)
                connection.rollback()
        except sa.exc.SQLAlchemyError:
            raise LedgerUnavailable(
                f"The connection was lost while event {newest.seq} was committed; whether it was is unknown.", value=newest.key,
                rule="what is not acknowledged may or may not be in the ledger", remedy="look for that key before anything is done again",
            ) from error
        return found is not None and found.hash == newest.hash

    @contextmanager
    def lease(self, name: str, wait_seconds: float = 10.0, life_seconds: float = LEASE_SECONDS) -> Iterator[Fence]:
        """Hold a named lock among all processes on this database, by a connection of its own, under a new fence.

        Raises:
            LedgerUnavailable: Not had in time, or found lost on leaving (the server went away meanwhile).
        """
        with translating(), leases.hold(self._leases, name, wait_seconds, life_seconds) as fence:
            yield fence

    def renew(self, fence: Fence) -> None:
        """Say that the holder is alive; Fenced when it no longer holds the lease."""
        self._read(lambda connection: leases.renew(connection, fence))

    def revoke(self, name: str) -> None:
        """Raise the fence of a lease without taking it."""
        self._read(lambda connection: leases.revoke(connection, name))

    def beat(self, name: str, content: Mapping[str, Any]) -> None:
        """Renew a process's health row."""
        self._read(lambda connection: queries.beat(connection, name, json.dumps(content, sort_keys=True)))

    def health(self, name: str) -> Health | None:
        """The health row, if there ever was one."""
        found = self._read(lambda connection: queries.health(connection, name))
        return None if found is None else Health(name, found[0], json.loads(found[1]))

    def rebuild(self) -> int:
        """Derive the tables anew; LedgerCorrupt, and nothing changed, when the events do not verify."""
        derivation = Derivation()
        with collector_paused(), self.transaction() as transaction:
            for event in self.scan(last=transaction.head()[0]):
                difference = derivation.add(event)
                if difference is not None:
                    raise LedgerCorrupt(
                        f"The ledger cannot be rebuilt: {difference}.", value=difference.seq, rule=difference.rule,
                        remedy="restore a backup",
                    )
            if (derivation.seq, derivation.hash) != transaction.head():
                raise headless(transaction.head()[0])
            transaction.replace_tables(derivation)
        return derivation.seq

    def close(self) -> None:
        """Let go of connections; the server goes on."""
        for engine in (self._engine, self._reading, self._leases):
            engine.dispose()

    # Reading

    def _read(self, work: Callable[[sa.Connection], T]) -> T:
        with translating():
            for last in (False, True):
                try:
                    with self._reading.connect() as connection:
                        return work(connection)
                except sa.exc.SQLAlchemyError as error:
                    if last or not _is_disconnect(error):
                        raise
        raise AssertionError("unreachable")

    def get(self, table: str, *key: Any) -> Row | None:
        """One row by key."""
        table_named(table)
        rows = self._read(lambda connection: queries.rows_by_keys(connection, table, [plain(key)]))
        return rows[0] if rows else None

    def find(
        self, table: str, *, since: tuple[str, datetime] | None = None, order_by: str | None = None, descending: bool = False,
        limit: int | None = None, **equals: Any,
    ) -> list[Row]:
        """Rows whose columns equal the given values."""
        wanted = selection(table, since, order_by, descending, limit, equals)
        return self._read(lambda connection: queries.find(connection, wanted))

    def event(self, seq: int) -> Event | None:
        """One event by seq."""
        return self._read(lambda connection: queries.event_by_seq(connection, seq))

    def event_by_key(self, key: str) -> Event | None:
        """One event by its key."""
        plain((key,))
        return self._read(lambda connection: queries.event_by_key(connection, key))

    def events(
        self, *, after: int = 0, types: Collection[EventType] = (), stream: str | None = None, limit: int | None = None,
    ) -> list[Event]:
        """Events in order of seq."""
        plain((stream,))
        return self._read(lambda connection: queries.events(connection, after, types, stream, limit))

    def head(self) -> tuple[int, bytes]:
        """The newest seq and its hash."""
        [(seq, hash_)] = self._read(lambda connection: fetched(connection, queries.READ_HEAD))
        return seq, bytes(hash_)

    def count(self) -> int:
        """How many facts there are."""
        return self.head()[0]

    def scan(self, first: int = 1, last: int | None = None) -> Iterator[Event]:
        """All events in order of seq, in pages; also those beyond the head, of which there should be none."""
        last = 2**62 if last is None else last
        while True:
            page = self._read(lambda connection, first=first: queries.page(connection, first, last))  # type: ignore[misc]
            yield from page
            if len(page) < queries.PAGE:
                return
            first = page[-1].seq + 1

    def dump(self, table: str) -> Iterator[Row]:
        """All rows of a table in key order, as of one instant."""
        table_named(table)
        with translating(), self._connected() as connection:
            yield from queries.all_rows(connection, table)

    def _connected(self) -> sa.Connection:
        """A connection that did not die while it was idle: a stream once begun cannot be begun again."""
        for last in (False, True):
            connection = self._engine.connect()
            try:
                connection.begin()
                fetched(connection, queries.READ_HEAD)
                connection.rollback()
                return connection
            except BaseException as error:
                connection.close()
                if last or not _is_disconnect(error):
                    raise
        raise AssertionError("unreachable")


def _is_disconnect(error: BaseException) -> bool:
    return isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated


def is_prepared(url: sa.URL) -> bool:
    """Whether the database holds a ledger of this version's schema."""
    engine = engine_for(url)
    try:
        with translating(), engine.connect() as connection:
            return revision_of(connection) == REVISION
    finally:
        engine.dispose()


def _check_database(connection: sa.Connection) -> None:
    found = revision_of(connection)
    if found != REVISION:
        raise LedgerCorrupt(
            "The database has no ledger." if found is None else f"The ledger's schema is of revision {found}.", value=found,
            rule=f"this version works on schema {REVISION}", remedy="let the owner's role migrate it, or use the version that wrote it",
        )
    encoding = connection.execute(sa.text("SHOW server_encoding")).scalar_one()
    if encoding != "UTF8":
        raise SettingsError(
            f"The database's encoding is {encoding}.", value=encoding, rule="names and reasons are any Unicode text: the encoding is UTF8",
            remedy="create the database with ENCODING 'UTF8' TEMPLATE template0",
        )
    row = connection.execute(sa.text("SELECT current_user, has_table_privilege('events', 'UPDATE, DELETE, TRUNCATE')")).one()
    if row[1]:
        raise SettingsError(
            f"The database role {row[0]} may rewrite events.", value=row[0],
            rule="the application's role may insert and select events, nothing more",
            remedy="connect as a role that does not own the tables; the owner's URL is only for preparing them",
        )
