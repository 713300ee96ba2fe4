"""Leases in PostgreSQL: a lock that ends with its connection, and a token that every new holder raises.

A token is at least the time in milliseconds: a table that was put back from a backup gives none again that it gave before (C14).

The lock makes a holder's death known at once; the token fences one that only slept. Who waits for a holder that has not renewed
its lease in time ends that holder's connection, takes the lock and raises the token: whatever the sleeper still means to submit
fails in the transaction of its submission, which reads the token under a row lock.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
import sqlalchemy as sa

from trading_pipeline.adapters.ledger.fences import fenced
from trading_pipeline.adapters.ledger.tables import LEASES
from trading_pipeline.errors import LedgerUnavailable
from trading_pipeline.ports import Fence

_LOCK = sa.text("SELECT pg_advisory_lock(:number)")
_UNLOCK = sa.text("SELECT pg_advisory_unlock(:number)")
_SET = sa.text("SELECT set_config(:name, :value, false)")
_NOW = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_TAKE = sa.text(f"""
    INSERT INTO leases (name, token, holder, backend, renewed_at) VALUES (:name, {_NOW}, :holder, pg_backend_pid(), clock_timestamp())
    ON CONFLICT (name) DO UPDATE SET token = greatest(leases.token + 1, excluded.token), holder = excluded.holder,
        backend = excluded.backend, renewed_at = excluded.renewed_at
    RETURNING token
""")
_REVOKE = sa.text(f"""
    INSERT INTO leases (name, token, holder, backend, renewed_at) VALUES (:name, {_NOW}, 'revoked', 0, clock_timestamp())
    ON CONFLICT (name) DO UPDATE SET token = greatest(leases.token + 1, excluded.token), holder = 'revoked'
""")
_RENEW = sa.text("UPDATE leases SET renewed_at = clock_timestamp() WHERE name = :name AND token = :token")
_REQUIRE = sa.select(LEASES.c.token).where(LEASES.c.name == sa.bindparam("name")).with_for_update(read=True)
_LAPSED = sa.text("""
    SELECT pg_terminate_backend(l.backend) FROM leases l
    WHERE l.name = :name AND l.renewed_at < clock_timestamp() - make_interval(secs => :life)
      AND EXISTS (SELECT FROM pg_locks k WHERE k.locktype = 'advisory' AND k.pid = l.backend AND k.granted)
""")
_TRY_SECONDS = 0.5
"""How long one wait for the lock lasts before the holder is looked at again."""


@contextmanager
def hold(engine: sa.Engine, name: str, wait_seconds: float, life_seconds: float) -> Iterator[Fence]:
    """Hold the lease by a connection of its own; see `ports.Ledger.lease`."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
    with engine.connect() as connection:
        connection.execute(_SET, {"name": "statement_timeout", "value": "0"})
        _take(connection, name, number, wait_seconds, life_seconds)
        token = connection.execute(_TAKE, {"name": name, "holder": f"pid {os.getpid()}"}).scalar_one()
        connection.commit()
        fence = Fence(name, token)
        yield fence
        try:
            connection.execute(_UNLOCK, {"number": number})
        except sa.exc.DBAPIError as error:
            # Whoever took the lease from a sleeper ended this connection; a server that went away is another matter.
            if error.connection_invalidated and _has_passed_on(engine, fence):
                raise fenced(fence) from error
            raise


def _has_passed_on(engine: sa.Engine, fence: Fence) -> bool:
    with engine.connect() as connection:
        return connection.execute(sa.select(LEASES.c.token).where(LEASES.c.name == fence.name)).scalar_one_or_none() != fence.token


def _take(connection: sa.Connection, name: str, number: int, wait_seconds: float, life_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    while True:
        left = min(_TRY_SECONDS, deadline - time.monotonic())
        connection.execute(_SET, {"name": "lock_timeout", "value": f"{max(1, round(left * 1000))}ms"})
        connection.commit()
        try:
            connection.execute(_LOCK, {"number": number})
        except sa.exc.OperationalError as error:
            if not isinstance(error.orig, psycopg2.errors.LockNotAvailable):
                raise
            connection.rollback()
            connection.execute(_LAPSED, {"name": name, "life": life_seconds})
            connection.commit()
            if time.monotonic() >= deadline:
                raise LedgerUnavailable(
                    f"The lease {name} is held by another process.", value=name, rule="one holder at a time",
                    remedy="let the other finish, or stop it",
                ) from None
        else:
            return


def renew(connection: sa.Connection, fence: Fence) -> None:
    """Say that the holder is alive; Fenced when it is not the holder any more."""
    if connection.execute(_RENEW, {"name": fence.name, "token": fence.token}).rowcount != 1:
        raise fenced(fence)


def require(connection: sa.Connection, fence: Fence) -> None:
    """Make sure, until the transaction ends, that nobody else takes the lease; Fenced when somebody has."""
    if connection.execute(_REQUIRE, {"name": fence.name}).scalar_one_or_none() != fence.token:
        raise fenced(fence)


def revoke(connection: sa.Connection, name: str) -> None:
    """Raise the token."""
    connection.execute(_REVOKE, {"name": name})
