"""The statements of the PostgreSQL ledger, built once, and rows as values.

Everything here works on a connection given by the caller; transactions are `postgres`'s business.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from io import StringIO
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from trading_pipeline.adapters.ledger.selection import Selection
from trading_pipeline.adapters.ledger.statements import driver_of, fetched, text_of
from trading_pipeline.adapters.ledger.tables import EVENTS, HEAD, PROJECTIONS
from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.domain.projections import TABLES, Key, Kind, Row
from trading_pipeline.errors import LedgerCorrupt

PAGE = 500
"""Events a query of `scan`."""

_TYPES = {type_.value: type_ for type_ in EventType}
_DECODE = json.JSONDecoder().raw_decode
_COLUMNS = {name: tuple(table.columns) for name, table in TABLES.items()}

LOCK_HEAD = text_of(sa.select(HEAD.c.seq, HEAD.c.hash, HEAD.c.environment).with_for_update())
READ_HEAD = text_of(sa.select(HEAD.c.seq, HEAD.c.hash))
_BEAT = sa.text("""
    INSERT INTO health (name, at, content) VALUES (:name, clock_timestamp(), :content)
    ON CONFLICT (name) DO UPDATE SET at = excluded.at, content = excluded.content
""")
_HEALTH = sa.text("SELECT extract(epoch FROM clock_timestamp() - at)::float, content FROM health WHERE name = :name")
STAMP = sa.update(HEAD).values(environment=sa.bindparam("stamped"))
_EVENTS = f"SELECT {', '.join(EVENTS.c.keys())} FROM events"
_BY_SEQ = f"{_EVENTS} WHERE seq = %s"
_BY_KEY = f"{_EVENTS} WHERE event_key = %s"
_PAGE = f"{_EVENTS} WHERE seq >= %s AND seq <= %s ORDER BY seq LIMIT %s"
_STREAM_HEADS = sa.text("""
    SELECT s.stream,
           (SELECT max(e.stream_seq) FROM events e WHERE e.stream = s.stream COLLATE "C"),
           (SELECT hash FROM events WHERE seq = :head)
    FROM unnest(CAST(:streams AS text[])) AS s (stream)
""")


def _inserting(statement: sa.ClauseElement) -> tuple[str, str, str]:
    """An insert of one row as text: before its values, the values, and after them."""
    head, _, rest = text_of(statement).partition(" VALUES ")
    values, conflict, action = rest.partition(" ON CONFLICT ")
    return f"{head} VALUES ", values, conflict + action


def _upsert(name: str) -> tuple[str, str, str]:
    table = PROJECTIONS[name]
    statement = insert(table)
    key = TABLES[name].key
    changed = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in key}
    return _inserting(statement.on_conflict_do_update(index_elements=list(key), set_=changed))


def _by_keys(name: str) -> str:
    return f"{text_of(sa.select(PROJECTIONS[name]))} WHERE ({', '.join(TABLES[name].key)}) IN %s"


_INSERT_EVENTS = _inserting(sa.insert(EVENTS))
_UPSERT: Mapping[str, tuple[str, str, str]] = {name: _upsert(name) for name in PROJECTIONS}
_EVENTS_BY_KEYS = f"{_EVENTS} WHERE event_key = ANY(%s)"
_ROWS_BY_KEYS: Mapping[str, str] = {name: _by_keys(name) for name in PROJECTIONS}


# Events


def event_from(row: Sequence[Any]) -> Event:
    """A stored row as an event; LedgerCorrupt when it cannot be one."""
    seq, stream, stream_seq, key, type_, schema, cause, actor, at, recorded_at, text, previous, hash_ = row
    try:
        payload, end = _DECODE(text)
        if end != len(text):
            raise ValueError("text after the payload")
        return Event(
            seq, stream, stream_seq, key, _TYPES[type_], schema, cause, actor, at, recorded_at, payload, text, bytes(previous), bytes(hash_)
        )
    except (KeyError, ValueError) as error:
        raise LedgerCorrupt(
            f"Event {seq} cannot be read: {type(error).__name__} {error}.", value=seq,
            rule="an event has a type this version knows and a payload in JSON",
            remedy="run `trading verify`, or use the version that wrote it",
        ) from error


def write(connection: sa.Connection, new: Sequence[Event], changed: Mapping[str, Collection[Row]]) -> None:
    """Insert events and insert or replace rows of tables, all in one round trip."""
    parts = [(_INSERT_EVENTS, [_row_of(event) for event in new]), *((_UPSERT[name], rows) for name, rows in changed.items())]
    with driver_of(connection).cursor() as cursor:
        text = ";".join([_with_values(cursor, insertion, rows) for insertion, rows in parts if rows])
    if text:
        connection.exec_driver_sql(text, execution_options={"no_parameters": True})


def _with_values(cursor: Any, insertion: tuple[str, str, str], rows: Iterable[Row]) -> str:
    head, values, tail = insertion
    return head + ",".join([cursor.mogrify(values, row).decode() for row in rows]) + tail


COPIED = 1_000
"""Events a COPY: so much text is in memory at once."""


def copy_events(connection: sa.Connection, new: Iterable[Event]) -> None:
    """COPY events that continue the chain, which the trigger of the table looks at."""
    events = iter(new)
    while part := list(islice(events, COPIED)):
        _copy(connection, EVENTS.name, EVENTS.columns.keys(), (_copied_event(event) for event in part))


def _copied_event(event: Event) -> str:
    cause = "\\N" if event.cause is None else str(event.cause)
    texts = [text.translate(_ESCAPES) for text in (event.stream, event.key, event.actor, event.payload_text)]
    return (
        f"{event.seq}\t{texts[0]}\t{event.stream_seq}\t{texts[1]}\t{event.type.value}\t{event.schema}\t{cause}\t{texts[2]}\t"
        f"{_instant(event.at)}\t{_instant(event.recorded_at)}\t{texts[3]}\t\\\\x{event.previous_hash.hex()}\t\\\\x{event.hash.hex()}\n"
    )


def _row_of(event: Event) -> dict[str, Any]:
    """An event as a row to insert."""
    return {
        "seq": event.seq, "stream": event.stream, "stream_seq": event.stream_seq, "event_key": event.key, "type": event.type.value,
        "schema": event.schema, "cause": event.cause, "actor": event.actor, "at": event.at, "recorded_at": event.recorded_at,
        "payload": event.payload_text, "previous_hash": event.previous_hash, "hash": event.hash,
    }


def _read(result: Callable[[], Sequence[Sequence[Any]]]) -> list[Event]:
    try:
        return [event_from(row) for row in result()]
    except (OverflowError, ValueError) as error:
        raise LedgerCorrupt(
            f"An event cannot be read: {error}.", rule="instants lie in the years 1 to 9999", remedy="run `trading verify`"
        ) from error


def event_by_seq(connection: sa.Connection, seq: int) -> Event | None:
    """The event, or None."""
    found = _read(lambda: fetched(connection, _BY_SEQ, (seq,)))
    return found[0] if found else None


def event_by_key(connection: sa.Connection, key: str) -> Event | None:
    """The event, or None."""
    found = _read(lambda: fetched(connection, _BY_KEY, (key,)))
    return found[0] if found else None


def events_by_keys(connection: sa.Connection, keys: Sequence[str]) -> list[Event]:
    """Those that exist, in no order."""
    return _read(lambda: fetched(connection, _EVENTS_BY_KEYS, (list(keys),)))


def events(connection: sa.Connection, after: int, types: Collection[EventType], stream: str | None, limit: int | None) -> list[Event]:
    """Events in order of seq, after a seq."""
    conditions = ["seq > %s"]
    values: list[Any] = [after]
    if types:
        conditions.append("type = ANY(%s)")
        values.append([type_.value for type_ in types])
    if stream is not None:
        conditions.append("stream = %s")
        values.append(stream)
    text = f"{_EVENTS} WHERE {' AND '.join(conditions)} ORDER BY seq LIMIT %s"
    return _read(lambda: fetched(connection, text, (*values, limit)))


def page(connection: sa.Connection, first: int, last: int) -> list[Event]:
    """At most PAGE events from `first` to `last`, by the driver's own cursor: a ledger is read whole for every verification."""
    return _read(lambda: fetched(connection, _PAGE, (first, last, PAGE)))


def stream_heads(connection: sa.Connection, streams: Collection[str], head: int) -> tuple[dict[str, int], bytes | None]:
    """The newest stream_seq of each stream that has any event, and the hash of the event at the head."""
    found = connection.execute(_STREAM_HEADS, {"streams": list(streams), "head": head}).all()
    newest = found[0][2] if found else None
    return {row[0]: row[1] for row in found if row[1] is not None}, None if newest is None else bytes(newest)


# Tables


def rows_by_keys(connection: sa.Connection, name: str, keys: Collection[Key]) -> list[Row]:
    """Those that exist, in no order."""
    wanted = tuple(key[0] for key in keys) if len(TABLES[name].key) == 1 else tuple(keys)
    return as_rows(name, fetched(connection, _ROWS_BY_KEYS[name], (wanted,)))


def find(connection: sa.Connection, wanted: Selection) -> list[Row]:
    """The rows that a selection means, in its order."""
    since, after = wanted.since or (None, None)
    values: dict[str, Any] = {"since": after, "limit": wanted.limit}
    conditions = []
    for column, allowed in wanted.conditions:
        some = [value for value in allowed if value is not None]
        single, null = len(some) == 1, len(some) < len(allowed)
        conditions.append((column, single, null))
        values[f"of_{column}"] = some[0] if single else some
    text = _finding(wanted.table.name, tuple(conditions), since, wanted.order, wanted.descending)
    return as_rows(wanted.table.name, fetched(connection, text, values))


@lru_cache(maxsize=1024)
def _finding(
    name: str, conditions: tuple[tuple[str, bool, bool], ...], since: str | None, order: tuple[str, ...], descending: bool,
) -> str:
    """A search as text: the program asks for the same few again and again, and to build one costs more than its answer.

    Args:
        conditions: Of each, the column, whether it allows one value or a list of them, and whether NULL.
    """
    table = PROJECTIONS[name]
    statement = sa.select(table).limit(sa.bindparam("limit", type_=sa.Integer))
    for column, single, null in conditions:
        place = table.c[column]
        value: sa.ColumnElement[Any] = sa.bindparam(f"of_{column}")
        condition = place == (value if single else sa.any_(value))
        statement = statement.where(sa.or_(condition, place.is_(None)) if null else condition)
    if since is not None:
        statement = statement.where(table.c[since] >= sa.bindparam("since"))
    return text_of(statement.order_by(*(table.c[column].desc() if descending else table.c[column] for column in order)))


def all_rows(connection: sa.Connection, name: str) -> Iterator[Row]:
    """Every row in key order, streamed by a cursor of the server."""
    table = PROJECTIONS[name]
    statement = sa.select(table).order_by(*(table.c[column] for column in TABLES[name].key))
    result = connection.execution_options(stream_results=True, max_row_buffer=PAGE).execute(statement)
    for part in result.partitions(PAGE):
        yield from as_rows(name, part)


def as_rows(name: str, found: Iterable[Sequence[Any]]) -> list[Row]:
    """Tuples in column order as rows."""
    columns = _COLUMNS[name]
    return [dict(zip(columns, row, strict=True)) for row in found]


def replace_all(connection: sa.Connection, name: str, rows: Iterable[Row]) -> None:
    """Empty a table and COPY rows into it."""
    connection.execute(sa.delete(PROJECTIONS[name]))
    columns = TABLES[name].columns
    lines = ("\t".join([_copied(row[column], kind) for column, kind in columns.items()]) + "\n" for row in rows)
    _copy(connection, name, columns, lines)


def _copy(connection: sa.Connection, name: str, columns: Iterable[str], lines: Iterable[str]) -> None:
    text = StringIO()
    text.writelines(lines)
    text.seek(0)
    names = ", ".join(f'"{column}"' for column in columns)
    with driver_of(connection).cursor() as cursor:
        cursor.copy_expert(f'COPY "{name}" ({names}) FROM STDIN', text)


_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def _copied(value: Any, kind: Kind) -> str:
    """A value in COPY's text format."""
    if value is None:
        return "\\N"
    match kind:
        case Kind.TEXT | Kind.JSON:
            return str(value).translate(_ESCAPES)
        case Kind.MONEY:
            return format(value, "f")
        case Kind.INSTANT:
            return _instant(value)
        case _:
            return str(value)


def _instant(value: datetime) -> str:
    return value.isoformat()


# What no event keeps


def beat(connection: sa.Connection, name: str, content: str) -> None:
    """Renew a health row."""
    connection.execute(_BEAT, {"name": name, "content": content})


def health(connection: sa.Connection, name: str) -> tuple[float, str] | None:
    """(seconds of age, JSON text) of a health row."""
    row = connection.execute(_HEALTH, {"name": name}).one_or_none()
    return None if row is None else (row[0], row[1])
