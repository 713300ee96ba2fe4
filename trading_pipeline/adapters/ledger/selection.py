"""What `find` and `events` mean, checked once for every ledger, and done in Python for the one in memory.

Order is that of PostgreSQL: text by code point, NULL after everything (before it when descending), ties by key.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any

from trading_pipeline.adapters.ledger.text import require_storable
from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.domain.projections import TABLES, Row, Table
from trading_pipeline.errors import UnknownName

_SINGLE = (str, bytes, type(None))
"""No collections of values."""


@dataclass(frozen=True, slots=True)
class Selection:
    """A checked search; every condition is a column and its allowed values, None among them meaning NULL."""

    table: Table
    conditions: tuple[tuple[str, tuple[Any, ...]], ...]
    since: tuple[str, datetime] | None
    order: tuple[str, ...]
    descending: bool
    limit: int | None


def table_named(name: str) -> Table:
    """The table, or UnknownName."""
    table = TABLES.get(name)
    if table is None:
        raise UnknownName(f"{name} is no table of the ledger.", value=name, rule="one of " + ", ".join(TABLES), remedy="correct the name")
    return table


def selection(
    name: str, since: tuple[str, datetime] | None, order_by: str | None, descending: bool, limit: int | None, equals: dict[str, Any],
) -> Selection:
    """Check a search's names and bring its values into one form.

    Raises:
        UnknownName: No such table or column.
    """
    table, order = _shape(name, tuple(equals), since[0] if since else None, order_by)
    conditions = tuple([(column, _values(value)) for column, value in equals.items()])
    return Selection(table, conditions, since, order, descending, limit)


@lru_cache(maxsize=1024)
def _shape(name: str, equals: tuple[str, ...], since: str | None, order_by: str | None) -> tuple[Table, tuple[str, ...]]:
    """The table and the order of a search; the program asks for the same few again and again."""
    table = table_named(name)
    for column in (*equals, *((since,) if since is not None else ()), *((order_by,) if order_by else ())):
        if column not in table.columns:
            raise UnknownName(
                f"{name} has no column {column}.", value=column, rule="one of " + ", ".join(table.columns), remedy="correct the name"
            )
    return table, (order_by, *(column for column in table.key if column != order_by)) if order_by else table.key


def _values(value: Any) -> tuple[Any, ...]:
    if isinstance(value, _SINGLE):
        return plain((value,))
    return plain(value if isinstance(value, Collection) else (value,))


def plain(values: Iterable[Any]) -> tuple[Any, ...]:
    """Values asked for, with enumeration members as their plain values; InputError for text that no ledger can hold."""
    found = tuple([item.value if isinstance(item, StrEnum) else item for item in values])
    for value in found:
        if isinstance(value, str):
            require_storable("The value asked for", value)
    return found


def means(wanted: Selection, row: Row) -> bool:
    """Whether a row is one of those that a selection means."""
    for column, values in wanted.conditions:
        if row[column] not in values:
            return False
    if wanted.since is None:
        return True
    at = row[wanted.since[0]]
    return at is not None and bool(at >= wanted.since[1])


def select_rows(rows: Iterable[Row], wanted: Selection) -> list[Row]:
    """The rows that a selection means, in its order; the rows themselves."""
    found = [row for row in rows if means(wanted, row)]
    if len(found) > 1:
        found.sort(key=lambda row: [(row[column] is None, row[column]) for column in wanted.order], reverse=wanted.descending)
    return found[: wanted.limit]


def copies(rows: Iterable[Row]) -> list[Row]:
    """For whoever may change them."""
    return [row.copy() for row in rows]


def select_events(
    events: Iterable[Event], types: Collection[EventType], stream: str | None, limit: int | None,
) -> list[Event]:
    """The first `limit` of the events that are of the types and the stream."""
    found: list[Event] = []
    for event in events:
        if limit is not None and len(found) >= limit:
            break
        if (not types or event.type in types) and (stream is None or event.stream == stream):
            found.append(event)
    return found
