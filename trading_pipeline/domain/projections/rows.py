"""What every family of handlers shares: rows made, found and moved, each refusal an IllegalTransition."""

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar

from trading_pipeline.domain.events import Event, canonical_payload
from trading_pipeline.domain.portfolio import Position
from trading_pipeline.domain.projections.tables import TABLES, Key, Row, Tables
from trading_pipeline.errors import IllegalTransition

S = TypeVar("S", bound=StrEnum)
Handler = Callable[[Event, Tables], None]
"""Changes the tables by one event."""
Touched = Callable[[Mapping[str, Any]], tuple[tuple[str, Key], ...]]
"""The rows that a handler reads, from the event's payload."""


def json_text(value: Any) -> str:
    """A column of kind JSON: the one text of a value."""
    return canonical_payload(value) if isinstance(value, Mapping) else json.dumps(value, sort_keys=True, separators=(",", ":"))


def blank(table: str, **values: Any) -> Row:
    """A row with every column of its table, null where no value is given."""
    row: Row = dict.fromkeys(TABLES[table].columns)
    row.update(values)
    return row


def require(tables: Tables, table: str, key: Key, event: Event) -> Row:
    """The row that an event refers to; IllegalTransition when there is none."""
    row = tables.get(table, key)
    if row is None:
        raise IllegalTransition(
            f"{event.type} names {table} {'/'.join(map(str, key))}, which does not exist.",
            value=event.key, rule="a fact refers to what is already in the ledger", remedy="append the fact it depends on first",
        )
    return row


def move(current: S, target: S, table: Mapping[S, frozenset[S]], what: str, event: Event) -> S:
    """The target state, if the state machine has the transition; IllegalTransition otherwise."""
    if target not in table[current]:
        raise IllegalTransition(
            f"{what} is {current.value} and cannot become {target.value} by {event.type}.",
            value=event.key, rule=f"from {current.value} only {', '.join(sorted(table[current])) or 'nothing'} may follow",
            remedy="read its present state and decide again",
        )
    return target


def money(value: str | None) -> Decimal | None:
    """A column of kind MONEY that may be null."""
    return None if value is None else Decimal(value)


def position_of(row: Row | None) -> Position | None:
    """A row of `positions` as a value."""
    if row is None:
        return None
    return Position(row["strategy"], row["symbol"], row["quantity"], row["cost"], row["realised"], row["opened_at"])
