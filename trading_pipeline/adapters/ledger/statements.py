"""Statements that never change: compiled once, and their rows read by the driver's own cursor.

A search of the ledger takes the server a third of the time that SQLAlchemy needs to build it and to wrap its rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg2
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

_DIALECT = PGDialect_psycopg2()  # type: ignore[no-untyped-call]


def text_of(statement: sa.ClauseElement) -> str:
    """A statement as the driver takes it."""
    return str(statement.compile(dialect=_DIALECT))


def driver_of(connection: sa.Connection) -> Any:
    """The driver's own connection."""
    return connection.connection.dbapi_connection


def fetched(connection: sa.Connection, text: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
    """A query's rows. Within a transaction only after `connection.begin()`: SQLAlchemy knows of none that it has not begun.

    Raises:
        sqlalchemy.exc.DBAPIError: As SQLAlchemy's own would; a connection that turns out dead is not used again.
    """
    driver = driver_of(connection)
    try:
        with driver.cursor() as cursor:
            cursor.execute(text, values)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            return rows
    except psycopg2.Error as error:
        lost = bool(driver.closed)
        if lost:
            connection.invalidate(error)
        raise sa.exc.DBAPIError.instance(
            text, None, error, psycopg2.Error, hide_parameters=True, connection_invalidated=lost, dialect=_DIALECT,
        ) from error
