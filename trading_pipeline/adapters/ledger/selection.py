"""What `find` and `events` mean, checked once for every ledger, and done in Python for the one in memory.

Order is that of PostgreSQL: text by code point, NULL after everything (before it when descending), ties by key.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from trading_pipeline.adapters.ledger.text import require_storable
from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.domain.projections import TABLES, Row, Table
from trading_pipeline.errors import UnknownName


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
    table = table_named(name)
    for column in (*equals, *((since[0],) if since else ()), *((order_by,) if order_by else ())):
        if column not in table.columns:
            raise UnknownName(
                f"{name} has no column {column}.", value=column, rule="one of " + ", ".join(table.columns), remedy="correct the name"
            )
    order = (order_by, *(column for column in table.key if column != order_by)) if order_by else table.key
    conditions = tuple((column, _values(value)) for column, value in equals.items())
    return Selection(table, conditions, since, order, descending, limit)


def _values(value: Any) -> tuple[Any, ...]:
    return plain(value if isinstance(value, Collection) and not isinstance(value, str | bytes) else (value,))


def plain(values: Iterable[Any]) -> tuple[Any, ...]:
    """Values asked for, with enumeration members as their plain values; InputError for text that no ledger can hold."""
    found = tuple(item.value if isinstance(item, StrEnum) else item for item in values)
    for value in found:
        require_storable("The value asked for", value)
    return found


def select_rows(rows: Iterable[Row], wanted: Selection) -> list[Row]:
    """Copies of the rows that a selection means, in its order."""
    found = [row for row in rows if all(row[column] in values for column, values in wanted.conditions)]
    if wanted.since is not None:
        column, earliest = wanted.since
        found = [row for row in found if row[column] is not None and row[column] >= earliest]
    found.sort(key=lambda row: [(row[column] is None, row[column]) for column in wanted.order], reverse=wanted.descending)
    return [row.copy() for row in found[: wanted.limit]]


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
