"""Engines and sessions: pooled, UTC, synchronous_commit on, every wait bounded, whatever the server's defaults are."""

from collections.abc import Callable
from typing import Any

import psycopg2
import sqlalchemy as sa

from trading_pipeline.errors import SettingsError

SESSION = {
    "timezone": "UTC",
    "synchronous_commit": "on",
    "default_transaction_isolation": "read\\ committed",
    "lock_timeout": "10s",
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": "60s",
    "client_min_messages": "warning",
}
"""A writer that hangs for a minute with the head locked is cut off: all others wait for it."""

DRIVER = "postgresql+psycopg2"


def engine_for(
    url: sa.URL | str, revive: Callable[[], object] | None = None, *, pooled: bool = True, reading: bool = False,
) -> sa.Engine:
    """An engine on a PostgreSQL URL; `postgresql://` is read as psycopg2.

    Args:
        pooled: False makes a new connection each time, in autocommit, and closes it after use.
        reading: Pooled and in autocommit from the start: switching it on and off costs a read as much as its query.
        revive: Called once when the server does not answer, before trying again.

    Raises:
        SettingsError: No such URL.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise _refused("given") from None
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername=DRIVER)
    if parsed.drivername != DRIVER:
        raise _refused(parsed.drivername)
    pool: dict[str, Any] = (
        {"pool_size": 5, "max_overflow": 15, "pool_timeout": 10, "isolation_level": "AUTOCOMMIT" if reading else "READ COMMITTED"}
        if pooled else {"poolclass": sa.NullPool, "isolation_level": "AUTOCOMMIT"}
    )
    engine = sa.create_engine(
        parsed, **pool, hide_parameters=True,
        connect_args={
            "options": " ".join(f"-c {name}={value}" for name, value in SESSION.items()), "client_encoding": "UTF8",
            "connect_timeout": 10, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
        },
    )
    if revive is not None:

        def connect(dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
            try:
                return dialect.connect(*arguments, **options)
            except psycopg2.OperationalError:
                revive()
                return dialect.connect(*arguments, **options)

        sa.event.listen(engine, "do_connect", connect)
    return engine


def _refused(value: str) -> SettingsError:
    return SettingsError(
        f"The database URL ({value}) cannot be used.", value=value, rule="postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
        remedy="correct the database URL in the settings, or leave it out for the embedded server",
    )
