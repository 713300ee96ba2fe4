"""Every exception of the database as one of ours, by its SQLSTATE; the remedy says who acts.

Messages of the server are passed on, connection strings never are.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
import sqlalchemy as sa

from trading_pipeline.errors import LedgerCorrupt, LedgerUnavailable, StorageError, TradingError

Sort = tuple[type[TradingError], str, str]

UNREACHABLE: Sort = (
    LedgerUnavailable, "the ledger's database runs and can be reached", "start the database (`trading doctor` says which) and try again",
)
LOCKED: Sort = (
    LedgerUnavailable, "a lock is had within ten seconds", "wait for the other process, or see who holds it in pg_stat_activity",
)
FULL: Sort = (StorageError, "the disk has space for the record", "free space on the database's disk and try again")
DENIED: Sort = (
    StorageError, "the application appends and reads, nothing more", "connect as the application's role, or leave the record alone",
)
UNWRITABLE: Sort = (
    StorageError, "the database's files can be read and written", "repair the disk or its permissions, then run `trading verify`",
)
CORRUPT: Sort = (LedgerCorrupt, "the record is whole", "run `trading verify`; restore a backup if it confirms this")
UNPREPARED: Sort = (LedgerCorrupt, "the database has the ledger's tables", "let the owner's role migrate it (`trading doctor`)")
BUSY: Sort = (LedgerUnavailable, "the server has connections and memory left", "close other clients, or raise max_connections")

BY_STATE: tuple[tuple[str, Sort], ...] = (
    ("08", UNREACHABLE),
    ("57P", UNREACHABLE),
    ("25P03", UNREACHABLE),
    ("28", UNREACHABLE),
    ("3D", UNREACHABLE),
    ("55P03", LOCKED),
    ("57014", LOCKED),
    ("40", LOCKED),
    ("53100", FULL),
    ("53", BUSY),
    ("42501", DENIED),
    ("25006", UNWRITABLE),
    ("58030", UNWRITABLE),
    ("58", CORRUPT),
    ("XX", CORRUPT),
    ("23", CORRUPT),
    ("42P01", UNPREPARED),
    ("42703", UNPREPARED),
)


def said(error: BaseException) -> str:
    """What the server said, in one line without its full stop, and without the excerpt of the statement, in which values stand."""
    original = _original(error)
    text = getattr(getattr(original, "diag", None), "message_primary", None) or str(original)
    return " ".join(text.split()).rstrip(".") or type(original).__name__


def _original(error: BaseException) -> BaseException:
    return getattr(error, "orig", None) or error


def translated(error: BaseException) -> TradingError:
    """The error of ours that a database exception means."""
    original, text = _original(error), said(error)
    state = getattr(original, "pgcode", None) or ""
    sort = next((sort for prefix, sort in BY_STATE if state.startswith(prefix)), None) if state else None
    if sort is None:
        if "No space left" in text:
            sort = FULL
        elif isinstance(error, sa.exc.TimeoutError):
            sort, text = BUSY, "no connection of the pool became free"
        elif state or not isinstance(original, psycopg2.OperationalError | psycopg2.InterfaceError | psycopg2.DatabaseError):
            sort = CORRUPT
        else:
            sort = UNREACHABLE
    kind, rule, remedy = sort
    return kind(f"The ledger's database answered: {text}.", value=state or type(original).__name__, rule=rule, remedy=remedy)


@contextmanager
def translating() -> Iterator[None]:
    """Raise what the database raises as an error of ours."""
    try:
        yield
    except (sa.exc.SQLAlchemyError, psycopg2.Error) as error:
        raise translated(error) from error
